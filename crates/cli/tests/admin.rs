//! A server that is watched: `serve --admin`, asked by clients and parsers that are not ours, and `top`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Process, Scene, until, words};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;

/// Who waits longer, hangs.
const HANGS: Option<Duration> = Some(Duration::from_secs(60));

/// A server that is watched, where it serves, and where it is asked.
fn watched(scene: &Scene, more: &str) -> (Process, SocketAddr, SocketAddr) {
    let line = format!("serve echo --bind 127.0.0.1:0 --admin 127.0.0.1:0 {more}");
    let mut server = scene.serve(words(&line));
    let address = server.listening();
    let admin = watched_on(&mut server).parse().unwrap();
    (server, address, admin)
}

/// What the next line says of where it is watched.
#[track_caller]
fn watched_on(server: &mut Process) -> String {
    let line = server.line();
    line.strip_prefix("listening for admin on ").and_then(|line| line.strip_suffix('\n')).unwrap().to_owned()
}

/// What is answered to one question, to the end.
fn asked(mut stream: impl Read + Write, path: &str) -> String {
    let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(admin: SocketAddr, path: &str) -> String {
    let stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(HANGS).unwrap();
    asked(stream, path)
}

/// The samples that are shown now.
fn samples(admin: SocketAddr) -> BTreeMap<String, f64> {
    let answer = ask(admin, "/metrics");
    let body = answer.strip_prefix("HTTP/1.1 200 OK\r\n").unwrap().split_once("\r\n\r\n").unwrap().1;
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

fn served(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(HANGS).unwrap();
    stream.write_all(b"ahoy").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

/// Runs a program that is not ours; `None`, aloud, where there is none.
fn foreign(mut command: Command) -> Option<String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: {:?} is not installed", command.get_program());
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

#[test]
fn every_model_that_does_not_fork_tells_what_it_has_done() {
    let scene = Scene::new();
    for model in [
        "best",
        "iterative",
        "threads",
        "pool",
        "spin",
        "select",
        "poll",
        "epoll",
        "signal",
        "emulated",
        "aio",
    ] {
        let (mut server, address, admin) = watched(&scene, &format!("--model {model}"));
        let held = served(address);
        // What a loop has counted is known at the end of its turn.
        until("the connection is shown", || samples(admin)["roadstead_sent_bytes_total"] == 4.0);
        let shown = samples(admin);
        for (name, value) in [
            ("roadstead_connections", 1.0),
            ("roadstead_connections_accepted_total", 1.0),
            ("roadstead_received_bytes_total", 4.0),
            ("roadstead_ready", 1.0),
        ] {
            assert_eq!(shown[name], value, "{model}: {name}");
        }
        drop(held);
        let ended = "roadstead_connections_ended_total{reason=\"finished\"}";
        until("its end is shown", || samples(admin)[ended] == 1.0);
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{model}");
    }
}

#[test]
fn curl_gets_what_there_is_and_is_told_what_there_is_not() {
    let scene = Scene::new();
    let (_server, _, admin) = watched(&scene, "");
    let curl = |arguments: &str, path: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "60", "-w", "%{http_code}"]).args(words(arguments));
        command.arg(format!("http://{admin}{path}"));
        foreign(command)
    };
    let Some(metrics) = curl("", "/metrics") else { return };
    assert!(
        metrics.starts_with("# TYPE roadstead_build_info gauge\n") && metrics.ends_with("200"),
        "{metrics}"
    );
    for (arguments, path, answer) in [
        ("", "/healthz", "live\n200"),
        ("", "/readyz", "ready\n200"),
        ("--http1.0", "/healthz", "live\n200"),
        ("-o /dev/null", "/nowhere", "404"),
        ("-o /dev/null -I", "/metrics", "200"),
        ("-o /dev/null -d x", "/metrics", "405"),
        ("-o /dev/null -X BREW", "/metrics", "501"),
        ("-o /dev/null -X GET -d x", "/metrics", "413"),
    ] {
        assert_eq!(curl(arguments, path).unwrap(), answer, "{arguments} {path}");
    }
}

#[test]
fn a_parser_of_openmetrics_that_is_not_ours_takes_all_of_it() {
    let scene = Scene::new();
    let (_server, address, admin) = watched(&scene, "--loops 2");
    let _held = served(address);
    // The system's own, for which Debian has the parser.
    let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let with = |program: &str| {
        let mut command = Command::new(python);
        command.args(["-c", program, &format!("http://{admin}/metrics")]);
        foreign(command)
    };
    let found = with("import importlib.util as u; print(u.find_spec('prometheus_client') is not None)");
    if found.as_deref() != Some("True\n") {
        println!("skipped: python3-prometheus-client is not installed");
        return;
    }
    let program = "
import sys, urllib.request
from prometheus_client.openmetrics.parser import text_string_to_metric_families
asked = urllib.request.Request(sys.argv[1], headers={'Accept': 'application/openmetrics-text; version=1.0.0'})
answer = urllib.request.urlopen(asked)
assert answer.headers['Content-Type'].startswith('application/openmetrics-text')
for family in text_string_to_metric_families(answer.read().decode()):
    assert family.documentation and family.samples, family
    for sample in family.samples:
        print(family.type, family.unit or '-', sample.name, *sorted(sample.labels.values()))
";
    let parsed = with(program).unwrap();
    for line in [
        "info - roadstead_build_info 0.1.0 echo",
        "gauge seconds roadstead_uptime_seconds",
        "counter - roadstead_connections_refused_total per_address",
        "counter bytes roadstead_received_bytes_total",
        "gauge bytes roadstead_buffered_bytes",
        "counter - roadstead_loop_sleeps_total 1",
        "counter - roadstead_log_lines_dropped_total held_back",
    ] {
        assert!(parsed.lines().any(|parsed| parsed.starts_with(line)), "{line}: {parsed}");
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let text = ask(admin, "/metrics");
    let path = scene.path("metrics");
    fs::write(&path, text.split_once("\r\n\r\n").unwrap().1).unwrap();
    match promtool.stdin(File::open(&path).unwrap()).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => println!("skipped: promtool is not installed"),
    }
}

#[test]
fn a_server_that_is_full_is_asked_and_whoever_asks_takes_none_of_its_places() {
    let scene = Scene::new();
    let (_server, address, admin) = watched(&scene, "--connections 1");
    // More than may ask at once.
    let asking: Vec<_> = (0..40).map(|_| TcpStream::connect(admin).unwrap()).collect();
    let held = served(address);
    let mut refused = TcpStream::connect(address).unwrap();
    refused.set_read_timeout(HANGS).unwrap();
    assert!(!matches!(refused.read(&mut [0]), Ok(1..)), "there is one place");
    drop(asking);
    let name = "roadstead_connections_refused_total{reason=\"connections\"}";
    let mut shown = BTreeMap::new();
    // Those who asked nothing leave their places when their ends are heard of.
    until("an answer", || {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.set_read_timeout(HANGS).unwrap();
        let _ = stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.contains("200 OK")
    });
    until("the refusal is shown", || {
        shown = samples(admin);
        shown[name] == 1.0
    });
    assert_eq!((shown["roadstead_connections"], shown["roadstead_connections_accepted_total"]), (1.0, 1.0));
    drop(held);
}

#[test]
fn who_drains_is_live_and_not_ready_until_it_has_ended() {
    let scene = Scene::new();
    let (mut server, address, admin) = watched(&scene, "--drain 3600");
    let mut held = served(address);
    held.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut stuck = 0;
    while stuck < 5 {
        stuck = held.write(&[0; 1 << 16]).map_or(stuck + 1, |_| 0);
    }
    assert!(ask(admin, "/readyz").starts_with("HTTP/1.1 200 OK\r\n"));
    server.signal(Signal::TERM);
    until("it is not ready", || ask(admin, "/readyz").starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert!(ask(admin, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(samples(admin)["roadstead_ready"], 0.0);
    drop(held);
    assert_eq!(server.end().code(), Some(0));
    assert!(TcpStream::connect(admin).is_err());
}

#[test]
fn strangers_are_shown_nothing_unless_that_is_asked_for_and_who_forks_cannot_be_watched() {
    let scene = Scene::new();
    let fails = |line: &str| scene.fails(words(&format!("serve echo --bind 127.0.0.1:0 {line}")));
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let expected = format!(
            "others could reach --admin {address}, which asks nobody who they are: give a loopback address or \
             unix:PATH, or add --admin-anywhere"
        );
        assert_eq!(fails(&format!("--admin {address}")), expected);
    }
    for model in ["process", "prefork"] {
        let said = fails(&format!("--admin 127.0.0.1:0 --model {model}"));
        assert!(said.starts_with(&format!("the model `{model}` cannot be watched: it forks")), "{said}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(fails(&format!("--admin {address}")), format!("address {address} is in use"));
    let line = "serve echo --bind 127.0.0.1:0 --admin 0.0.0.0:0 --admin-anywhere";
    let mut server = scene.serve(words(line));
    server.listening();
    let port = watched_on(&mut server).parse::<SocketAddr>().unwrap().port();
    assert!(ask(([127, 0, 0, 1], port).into(), "/healthz").contains("200 OK"));
}

#[test]
fn a_unix_socket_is_asked_as_any_address_is_and_goes_with_its_server() {
    let scene = Scene::new();
    let path = scene.path("admin");
    let place = format!("unix:{}", path.display());
    let mut server = scene.serve(words(&format!("serve echo --bind 127.0.0.1:0 --admin {place}")));
    server.listening();
    assert_eq!(watched_on(&mut server), place);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(HANGS).unwrap();
    assert!(asked(stream, "/readyz").ends_with("\r\n\r\nready\n"));
    let printed = scene.ok(words(&format!("top {place} --once --every 0.1")));
    assert!(printed.starts_with("roadstead 0.1.0  echo on "), "{printed}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn top_prints_what_there_is_where_there_is_no_terminal_and_as_json() {
    let scene = Scene::new();
    let (_server, address, admin) = watched(&scene, "--model epoll --loops 2");
    let _held = served(address);
    let printed = scene.ok(words(&format!("top {admin} --every 0.1")));
    assert!(printed.contains("\nconnections\n  open                       1  of 10,000\n"), "{printed}");
    let report: Value =
        serde_json::from_str(&scene.ok(words(&format!("top {admin} --json --every 0.1")))).unwrap();
    assert_eq!((report["service"].as_str(), report["ready"].as_bool()), (Some("echo"), Some(true)));
    let sections = report["sections"].as_array().unwrap();
    let sleeps = sections.iter().find(|section| section["title"] == "sleeps of loops").unwrap();
    assert_eq!(sleeps["rows"].as_array().unwrap().len(), 2);
    assert!(sleeps["rows"][0]["per_second"].is_number());
    let nobody = scene.fails(words(&format!("top {address}")));
    assert!(nobody.starts_with("what answers at ") || nobody.starts_with("cannot ask "), "{nobody}");
}

/// A command on a terminal of its own, which is looked at and typed on.
struct OnTerminal {
    child: Child,
    own: File,
    shown: Vec<u8>,
    path: String,
}

impl OnTerminal {
    fn run(mut command: Command) -> Self {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&own).unwrap();
        unlockpt(&own).unwrap();
        tcsetwinsize(&own, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = ptsname(&own, Vec::new()).unwrap().into_string().unwrap();
        let terminal = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let child = command.stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().unwrap();
        rustix::io::ioctl_fionbio(&own, true).unwrap();
        Self { child, own: File::from(own), shown: Vec::new(), path }
    }

    /// Whether this was shown; what was is forgotten then.
    fn has_shown(&mut self, text: &str) -> bool {
        let mut block = [0; 4096];
        while let Ok(count @ 1..) = self.own.read(&mut block) {
            self.shown.extend_from_slice(&block[..count]);
        }
        let found = String::from_utf8_lossy(&self.shown).contains(text);
        if found {
            self.shown.clear();
        }
        found
    }

    fn types(&mut self, keys: &[u8]) {
        self.own.write_all(keys).unwrap();
    }

    /// Whether lines are edited and keys shown, as before.
    fn is_restored(&self) -> bool {
        let terminal = File::open(&self.path).unwrap();
        let modes = tcgetattr(&terminal).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

/// What a terminal is told to show what it did before.
const LEAVES: &str = "\u{1b}[?1049l";

#[test]
fn top_shows_a_server_until_q_or_control_c_or_a_signal_and_leaves_the_terminal_as_it_was() {
    let scene = Scene::new();
    let (_server, _, admin) = watched(&scene, "");
    for end in [&b"q"[..], b"\x03", b""] {
        let mut top = OnTerminal::run(scene.command(words(&format!("top {admin} --every 0.1"))));
        until("it is shown", || top.has_shown("serving"));
        assert!(!top.is_restored(), "keys are heard one by one");
        match end {
            b"" => {
                let pid = rustix::process::Pid::from_child(&top.child);
                rustix::process::kill_process(pid, Signal::TERM).unwrap();
            }
            keys => top.types(keys),
        }
        until("it leaves", || top.has_shown(LEAVES));
        assert!(top.child.wait().unwrap().success());
        assert!(top.is_restored());
    }
}

#[test]
fn top_ends_with_its_terminal() {
    let scene = Scene::new();
    let (_server, _, admin) = watched(&scene, "");
    let mut top = OnTerminal::run(scene.command(words(&format!("top {admin} --every 0.1"))));
    until("it is shown", || top.has_shown("serving"));
    drop(top.own);
    let status = top.child.wait().unwrap();
    assert!(status.code().is_some(), "it ends by itself, and does not panic: {status}");
}

#[test]
fn top_says_that_a_server_is_gone_and_goes_on_when_it_is_back() {
    let scene = Scene::new();
    let place = format!("unix:{}", scene.path("admin").display());
    let serve = |service: &str| {
        let mut server = scene.serve(words(&format!("serve {service} --bind 127.0.0.1:0 --admin {place}")));
        server.listening();
        watched_on(&mut server);
        server
    };
    let mut first = serve("echo");
    let mut top = OnTerminal::run(scene.command(words(&format!("top {place} --every 0.1"))));
    until("it is shown", || top.has_shown("echo on"));
    first.signal(Signal::TERM);
    first.end();
    until("it is missed", || top.has_shown("trying again"));
    let _second = serve("discard");
    until("it is shown again", || top.has_shown("discard"));
    top.types(b"q");
    assert!(top.child.wait().unwrap().success());
}

#[test]
fn what_a_server_is_watched_with_is_no_room_for_connections() {
    let scene = Scene::new();
    let room = |admin: &str| {
        let line = scene.command(words(&format!("serve echo --bind 127.0.0.1:0 --connections 200 {admin}")));
        let mut command = Command::new("prlimit");
        command.arg("--nofile=200").arg(line.get_program()).args(line.get_args()).env_remove("ROADSTEAD_LOG");
        command.stderr(File::create(scene.path("log")).unwrap());
        let mut server = Process::start(command);
        server.listening();
        server.signal(Signal::TERM);
        server.end();
        let log = fs::read_to_string(scene.path("log")).unwrap();
        let fits = log.split_once("about ").and_then(|(_, said)| said.split_once(" connections fit"));
        fits.unwrap_or_else(|| panic!("{log}")).0.parse::<u64>().unwrap()
    };
    let (alone, watched) = (room(""), room("--admin 127.0.0.1:0"));
    assert!(alone < 200 && watched < alone - 3, "{watched} of {alone}");
}
