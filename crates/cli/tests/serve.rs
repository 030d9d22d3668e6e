//! `roadstead serve` and `models` as processes: what they say, how they end.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use common::{Process, Scene, until, words};
use rustix::process::Signal;
use serde_json::Value;

fn echoes(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"ahoy").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ahoy");
    stream
}

/// The models that are built, and run everywhere.
const RUN: [&str; 13] = [
    "best",
    "iterative",
    "process",
    "prefork",
    "threads",
    "pool",
    "spin",
    "select",
    "poll",
    "epoll",
    "signal",
    "emulated",
    "aio",
];

#[test]
fn every_listener_is_announced_in_order_and_serves() {
    let scene = Scene::new();
    for model in RUN {
        let line = format!("serve echo --bind 127.0.0.1:0 --bind [::1]:0 --bind 127.0.0.2:0 --model {model}");
        let mut server = scene.serve(words(&line));
        let addresses = [server.listening(), server.listening(), server.listening()];
        let ips = addresses.map(|address| address.ip().to_string());
        assert_eq!(ips, ["127.0.0.1", "::1", "127.0.0.2"]);
        addresses.into_iter().for_each(|address| drop(echoes(address)));
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0));
        assert_eq!(server.line(), "", "stdout says nothing more");
    }
}

#[test]
fn the_log_tells_why_a_model_is_the_best() {
    let scene = Scene::new();
    for (model, told) in [("best", true), ("poll", false)] {
        let mut command = scene.command(words(&format!("-v serve echo --bind 127.0.0.1:0 --model {model}")));
        command.stderr(File::create(scene.path("log")).unwrap());
        let mut server = Process::start(command);
        drop(echoes(server.listening()));
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0));
        let log = fs::read_to_string(scene.path("log")).unwrap();
        assert_eq!(log.contains("the best model here: "), told, "{log}");
        assert!(log.contains("serving"), "{log}");
    }
}

#[test]
fn an_address_in_use_is_an_error_of_one_line() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let error = scene.fails(["serve", "echo", "--bind", &taken.to_string()]);
    assert_eq!(error, format!("address {taken} is in use"));
    // Nothing listens on the others then.
    let error = scene.fails(["serve", "echo", "--bind", "127.0.0.1:0", "--bind", &taken.to_string()]);
    assert_eq!(error, format!("address {taken} is in use"));
    let error = scene.fails(words("serve echo --bind 192.0.2.1:7007"));
    assert_eq!(error, "this machine has no address 192.0.2.1:7007");
    assert!(scene.fails(words("serve echo --bind 127.0.0.1:0 --model iocp")).contains("iocp"));
    for of_epoll in ["--level-triggered", "--io workers"] {
        for model in ["poll", "threads", "prefork", "emulated"] {
            let line = format!("serve echo --bind 127.0.0.1:0 --model {model} {of_epoll}");
            assert!(scene.fails(words(&line)).contains("only `epoll`"), "{line}");
        }
    }
}

/// A client that has more to take than it takes, so that a draining server has something to wait for.
fn never_reads(address: SocketAddr) -> TcpStream {
    let mut stream = echoes(address);
    stream.set_write_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    // A server that is only held up takes more after a while.
    let mut stuck = 0;
    while stuck < 5 {
        stuck = stream.write(&[0; 1 << 16]).map_or(stuck + 1, |_| 0);
    }
    stream
}

#[test]
fn a_name_is_listened_on_and_reached_and_one_that_nobody_knows_is_told_in_a_line() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve echo --bind localhost:0 --model epoll"));
    let address = server.listening();
    assert!(address.ip().is_loopback());
    echoes(address);
    let said = scene.ok(words(&format!("load localhost:{} --messages 10 --json -", address.port())));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["right"], &report["failed"]), (&10.into(), &0.into()));
    for line in [
        "serve echo --bind not..known:7",
        "load not..known:7",
        "trident serve --party 1 --shares shares --bind not..known:7",
    ] {
        if line.starts_with("trident") {
            scene.share(10, false);
        }
        let line =
            line.replace("shares shares", &format!("shares {}", scene.path("shares/server-1").display()));
        let said = scene.fails(words(&line));
        assert!(said.starts_with("no address is known for not..known:7: "), "{line}: {said}");
    }
}

#[test]
fn a_signal_drains_and_a_second_one_ends_at_once() {
    let scene = Scene::new();
    let orders = [(Signal::TERM, Signal::INT), (Signal::INT, Signal::TERM)];
    for (model, (first, second)) in RUN.into_iter().zip(orders.into_iter().cycle()) {
        let line = format!("serve echo --bind 127.0.0.1:0 --drain 50 --model {model}");
        let mut server = scene.serve(words(&line));
        let address = server.listening();
        let mut open = echoes(address);
        server.signal(first);
        // The end of the server's side: it drains.
        assert_eq!(open.read_to_end(&mut Vec::new()).unwrap(), 0);
        drop(open);
        assert_eq!(server.end().code(), Some(0), "{model} {first:?}");

        let mut server = scene.serve(words(&line));
        let address = server.listening();
        let held = never_reads(address);
        server.signal(first);
        until("the drain", || TcpStream::connect(address).is_err());
        server.signal(second);
        assert_eq!(server.end().code(), Some(130), "{model} {second:?}");
        drop(held);
    }
}

#[test]
fn bad_usage_exits_with_two_and_says_nothing_on_stdout() {
    let scene = Scene::new();
    for line in [
        "",
        "sail",
        "serve",
        "serve chess",
        "serve echo --bind nowhere",
        "serve echo --bind 127.0.0.1",
        "serve echo --model kqueue",
        "serve echo --idle -1",
        "serve echo --idle soon",
        "serve echo --workers x",
        "trident",
        "trident serve --party 4 --shares x",
        "trident serve --shares x",
        "trident share",
        "trident share --made 10",
        "trident share --made 10 data --out x",
        "trident fetch --client x --servers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3",
        "trident fetch 1 --client x --servers 127.0.0.1:1,127.0.0.1:2",
        "trident fetch 1 --client x --servers a,b,c",
        "trident bench --levels 0",
        "trident bench --levels 1,,2",
        "trident bench --queries 0",
        "trident bench --queries 18446744073709551615",
        "trident bench --levels 1001",
        "trident bench --rows 0",
        "serve echo --workers 1025",
        "serve echo --connections 0",
        "serve echo --per-address 0",
        "serve echo --backlog 0",
        "load 127.0.0.1:7 --size 0",
        "trident bench --op swim",
        "trident bench --rows 10 --data x",
    ] {
        let output = scene.run(words(line));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "roadstead {line}: {said}");
        assert!(output.stdout.is_empty() && !said.is_empty(), "roadstead {line}");
    }
}

#[test]
fn limits_of_any_size_are_taken_or_refused_but_never_panic() {
    let scene = Scene::new();
    for seconds in ["0.001", "1e9"] {
        let line = format!(
            "serve echo --bind 127.0.0.1:0 --idle {seconds} --first-byte {seconds} --drain {seconds} --buffer-each 100000"
        );
        let mut server = scene.serve(words(&line));
        let address = server.listening();
        if seconds != "0.001" {
            echoes(address);
        }
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{seconds}");
    }
    for seconds in ["1e18", "1.8e19", "1e20", "inf", "nan"] {
        let output = scene.run(words(&format!("serve echo --bind 127.0.0.1:0 --idle {seconds}")));
        assert_eq!(output.status.code(), Some(2), "{seconds}");
    }
}

#[test]
fn models_are_listed_as_a_table_and_as_pure_json() {
    let scene = Scene::new();
    assert!(scene.ok(["models"]).contains("epoll"));
    let file = scene.path("models.json");
    scene.ok(["models".as_ref(), "--json".as_ref(), file.as_os_str()]);
    let listed: Value = serde_json::from_str(&scene.ok(["models", "--json", "-"])).unwrap();
    assert_eq!(listed, serde_json::from_slice::<Value>(&std::fs::read(file).unwrap()).unwrap());
    let names =
        "iterative process prefork threads pool spin select poll epoll signal emulated aio uring iocp";
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.iter().map(|model| model["name"].as_str().unwrap()).collect::<Vec<_>>(), words(names));
    for model in listed {
        let keys: Vec<&str> = model.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert!(["blocking", "reactor", "proactor"].contains(&model["core"].as_str().unwrap()));
        assert_eq!(model["runs"].as_bool().unwrap(), model["why"].is_null());
        assert!(model["why"].is_null() || model["why"].is_string());
    }
}

#[test]
fn a_server_says_at_its_end_what_it_has_come_to() {
    let scene = Scene::new();
    let mut command =
        scene.command(words("serve echo --bind 127.0.0.1:0 --connections 1 --idle 4 --drain 10"));
    command.stderr(fs::File::create(scene.path("log")).unwrap());
    let mut server = Process::start(command);
    let address = server.listening();
    let held = echoes(address);
    let mut refused = TcpStream::connect(address).unwrap();
    assert!(refused.read_exact(&mut [0]).is_err());
    // Idle for too long.
    assert!((&held).read_exact(&mut [0]).is_err());
    drop(echoes(address));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    let log = fs::read_to_string(scene.path("log")).unwrap();
    let last = log.lines().last().unwrap();
    for count in
        ["drained", "accepted=2", "refused=1", "closed=2", "late=1", "broken=0", "bytes_in=", "bytes_out="]
    {
        assert!(last.contains(count), "{count}: {log}");
    }
}

#[test]
fn a_drain_that_is_overdue_ends_with_the_counts_too() {
    let scene = Scene::new();
    for model in ["iterative", "process", "prefork", "threads", "pool", "epoll", "emulated"] {
        let line = format!("serve echo --bind 127.0.0.1:0 --drain 0.1 --model {model}");
        let mut command = scene.command(words(&line));
        command.stderr(File::create(scene.path("log")).unwrap());
        let mut server = Process::start(command);
        let held = never_reads(server.listening());
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{model}");
        drop(held);
        let log = fs::read_to_string(scene.path("log")).unwrap();
        let last = log.lines().last().unwrap();
        for count in ["not drained", "accepted=1", "bytes_in=", "bytes_out="] {
            assert!(last.contains(count), "{model}, {count}: {log}");
        }
        assert!(log.contains("reset: connections: 1"), "{model}: {log}");
    }
}

#[test]
fn who_says_nothing_is_ended_when_the_time_for_the_first_byte_is_over() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve echo --bind 127.0.0.1:0 --first-byte 0.2 --idle 3600"));
    let mut silent = TcpStream::connect(server.listening()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    match silent.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
