//! That options reach what they name, where only a process shows it: the log, a drain, limits and links of Trident's
//! servers, and what is announced.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use common::{Held, Process, Scene, until, words};
use roadstead::Model;
use rustix::process::Signal;

/// A client that is served.
fn served(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"!").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}

/// What a server logs that has turned so many away, told so to log.
fn log_of(refused: usize, verbose: &str, environment: Option<&str>) -> Vec<String> {
    let scene = Scene::new();
    let line = format!("{verbose} serve echo --bind 127.0.0.1:0 --model epoll --connections 1");
    let mut command = scene.command(words(&line));
    if let Some(levels) = environment {
        command.env("ROADSTEAD_LOG", levels);
    }
    command.stderr(File::create(scene.path("log")).unwrap());
    let mut server = Process::start(command);
    let address = server.listening();
    let held = served(address);
    for _ in 0..refused {
        // However it is ended.
        let _ = TcpStream::connect(address).and_then(|mut stream| stream.read(&mut [0]));
    }
    drop(held);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    fs::read_to_string(scene.path("log")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_log_says_as_much_as_was_asked_for_by_v_and_instead_of_it_by_the_environment() {
    const REFUSED: usize = 40;
    for (verbose, environment, levels, closing) in [
        ("", None, &["INFO"][..], true),
        ("", Some(""), &["INFO"], true),
        ("-v", None, &["INFO"], true),
        ("-vv", None, &["DEBUG", "INFO"], true),
        ("-vvv", None, &["DEBUG", "INFO"], true),
        ("", Some("debug"), &["DEBUG", "INFO"], true),
        ("-v", Some("warn"), &[], false),
        ("-vv", Some("error"), &[], false),
        ("", Some("off,roadstead::closing=info"), &["INFO"], true),
    ] {
        let log = log_of(REFUSED, verbose, environment);
        let what = format!("{verbose} {environment:?}: {log:#?}");
        let mut found: Vec<&str> = log.iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, levels, "{what}");
        let last =
            log.last().is_some_and(|line| line.contains("INFO drained model=epoll accepted=1 refused=40"));
        assert_eq!(last, closing, "{what}");
        let said = |part: &str| log.iter().filter(|line| line.contains(part)).count();
        // Those that were asked for are there one and all.
        let each = levels.contains(&"DEBUG");
        assert_eq!(
            said("DEBUG connection refused address=127.0.0.1:"),
            if each { REFUSED } else { 0 },
            "{what}"
        );
        let more = verbose.starts_with("-v") && environment.is_none() || environment == Some("debug");
        assert_eq!(said("INFO serving; Ctrl-C drains"), usize::from(more), "{what}");
        assert!(more || log.len() == usize::from(closing), "{what}");
        for line in &log {
            assert!(line.starts_with("20") && !line.contains("\u{1b}"), "a time, and no colours: {line:?}");
            assert!(!line.contains("roadstead::"), "{line}");
        }
    }
}

/// A client that has more to take than it takes, so that a draining server has something to wait for.
fn never_reads(address: SocketAddr) -> TcpStream {
    let mut stream = served(address);
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    // A server that is only held up takes more after a while.
    let mut stuck = 0;
    while stuck < 5 {
        stuck = stream.write(&[0; 1 << 16]).map_or(stuck + 1, |_| 0);
    }
    stream
}

#[test]
fn a_drain_is_as_long_as_it_was_to_be() {
    let scene = Scene::new();
    let serve = |drain: &str| {
        let mut server = scene.serve(words(&format!("serve echo --bind 127.0.0.1:0 {drain}")));
        let held = never_reads(server.listening());
        (server, held)
    };
    let ((mut long, _long), (mut short, _short)) = (serve("--drain 3600"), serve("--drain 0.1"));
    let (mut usual, _usual) = serve("");
    for server in [&long, &usual, &short] {
        server.signal(Signal::TERM);
    }
    assert_eq!(short.end().code(), Some(0));
    // The usual ten seconds are not over then, on any machine that gets anything done.
    assert!(scene.living().contains(&usual.pid()) && scene.living().contains(&long.pid()));
    for server in [&mut usual, &mut long] {
        server.signal(Signal::INT);
        assert_eq!(server.end().code(), Some(130));
    }
}

/// Servers that answer lines from who started them with what they have exchanged, as they do in a measurement.
fn exchanged(strategy: &str, rows: usize) -> Vec<Vec<u64>> {
    let scene = Scene::new();
    scene.share(100, false);
    let held = Held::<3>::of([127, 0, 0, 2]);
    let peers = held.addresses.map(|address| address.to_string()).join(",");
    let more = format!(
        "--bind 127.0.0.1:0 --peers {peers} --exchange {strategy} --with-parent {}",
        std::process::id()
    );
    let mut servers = [1, 2, 3].map(|party| {
        let (orders, ask) = io::pipe().unwrap();
        let mut command = scene.command(scene.server(party, &more));
        command.stdin(orders).stderr(Stdio::null());
        (Process::start(command), ask)
    });
    let addresses = servers.each_mut().map(|(server, _)| server.listening().to_string()).join(",");
    for ((server, _), address) in servers.iter_mut().zip(held.addresses) {
        assert_eq!(server.line(), format!("listening for servers on {address}\n"));
    }
    let wanted = (0..rows).map(|row| format!("{row} ")).collect::<String>();
    let client = scene.path("shares/client").display().to_string();
    let line = format!("trident fetch {wanted} --protocol exchange --servers {addresses} --client {client}");
    scene.ok(words(&line));
    let figures = |(server, ask): &mut (Process, io::PipeWriter)| {
        let mut figures = Vec::new();
        until("all messages are gone", || {
            ask.write_all(b"figures\n").unwrap();
            figures = server.line().split_whitespace().map(|figure| figure.parse::<u64>().unwrap()).collect();
            figures[2..] == [0, 0]
        });
        figures
    };
    servers.iter_mut().map(figures).collect()
}

#[test]
fn servers_exchange_by_the_strategy_that_they_are_told_and_say_how_much() {
    const ROWS: usize = 5;
    for strategy in ["per-query", "multiplexed"] {
        let figures = exchanged(strategy, ROWS);
        for server in &figures {
            // To each of the two others three elements a dimension, for each row.
            assert_eq!(server[0], (ROWS * 2 * 3 * 128 * 4) as u64, "{strategy}: {figures:?}");
            let each_its_own = server[1] >= 2 * ROWS as u64;
            assert_eq!(each_its_own, strategy == "per-query", "{strategy}: {figures:?}");
        }
    }
}

#[test]
fn a_server_waits_for_the_others_as_long_as_it_was_told_and_says_what_it_was_given() {
    let scene = Scene::new();
    scene.share(20, false);
    let held = Held::<3>::of([127, 0, 0, 2]);
    let peers = held.addresses.map(|address| address.to_string()).join(",");
    let log = scene.path("log");
    let mut servers = [1, 2, 3].map(|party| {
        let more = match party {
            // The third shares nothing.
            3 => "--bind 127.0.0.1:0".to_owned(),
            _ => format!("--bind 127.0.0.1:0 --peers {peers} --exchange-timeout 0.321 --socket-buffer 1GiB"),
        };
        let mut command = scene.command(scene.server(party, &more));
        command.stderr(if party == 1 { File::create(&log).unwrap().into() } else { Stdio::null() });
        Process::start(command)
    });
    let addresses = servers.each_mut().map(|server| server.listening().to_string()).join(",");
    let client = scene.path("shares/client").display().to_string();
    let line = format!("trident fetch 3 --protocol exchange --servers {addresses} --client {client}");
    scene.fails(words(&line));
    let read = || fs::read_to_string(&log).unwrap();
    until("it says who is missing", || read().contains("no message within 321ms from server 3"));
    let limit = |name: &str| fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
    let least =
        ["wmem_max", "rmem_max"].map(|name| limit(name).trim().parse::<u64>().unwrap()).into_iter().min();
    let cut = read().contains("socket buffers: of 1.0 GiB the kernel gave");
    assert_eq!(cut, least < Some(1 << 30), "{}", read());
}

#[test]
fn a_limit_holds_for_a_server_of_trident_too() {
    let scene = Scene::new();
    scene.share(20, false);
    let mut command = scene.command(scene.server(1, "--bind 127.0.0.1:0 --connections 2"));
    command.stderr(File::create(scene.path("log")).unwrap());
    let mut server = Process::start(command);
    let address = server.listening();
    let _two = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    // However it is ended.
    let third = TcpStream::connect(address).and_then(|mut third| {
        third.set_read_timeout(Some(Duration::from_secs(60)))?;
        third.read(&mut [0])
    });
    assert!(!matches!(third, Ok(1..)), "{third:?}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    let log = fs::read_to_string(scene.path("log")).unwrap();
    assert!(log.contains("accepted=2 refused=1 "), "{log}");
}

#[test]
fn a_load_that_takes_ten_seconds_or_more_is_announced_and_none_by_count() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve echo --bind 127.0.0.1:0"));
    let address = server.listening();
    for (options, said) in [
        ("--seconds 10", "measuring for about 10 s\n"),
        ("--seconds 75.9", "measuring for about 75 s\n"),
        ("--rate 10 --seconds 12", "measuring for about 12 s\n"),
    ] {
        let mut command = scene.command(words(&format!("load {address} {options}")));
        let mut load = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(load.stderr.take().unwrap()).read_line(&mut line).unwrap();
        load.kill().unwrap();
        load.wait().unwrap();
        assert_eq!(line, said, "{options}");
    }
    for options in ["--messages 10", "--seconds 0.1"] {
        let output = scene.run(words(&format!("load {address} {options}")));
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{options}");
    }
}

#[test]
fn the_best_model_is_marked_and_every_one_is_told_as_what_it_is() {
    let said = Scene::new().ok(["models"]);
    let rows = said.lines().filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split('┆').map(str::trim).collect()).collect();
    assert_eq!(rows[0], ["model", "core", "runs here", "what it does"]);
    assert_eq!(rows.len(), 1 + Model::ALL.len());
    for (row, model) in rows[1..].iter().zip(Model::ALL) {
        let runs = match model.obstacle() {
            Some(why) => format!("no: {why}"),
            None if model == Model::best() => "yes (best)".to_owned(),
            None => "yes".to_owned(),
        };
        assert_eq!(row[..], [model.name(), &model.core().to_string(), &runs, model.about()]);
    }
}
