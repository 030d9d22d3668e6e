//! `roadstead` under a program that has signals blocked or ignored: it hears them all the same.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use common::{Process, Scene, until, words};
use rustix::process::{Pid, Signal, kill_process};

/// Ways for a program to be started with signals that it does not hear: env(1).
const DEAF: [&str; 2] = ["--block-signal=INT,TERM,CHLD", "--ignore-signal=INT,TERM,CHLD"];

/// `roadstead` with these arguments, started by env(1) so.
fn through(scene: &Scene, how: &str, line: &str) -> Command {
    let inner = scene.command(words(line));
    let mut command = Command::new("env");
    command.arg(how).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Sends back what comes, to the end, and counts how often.
fn echo(mut stream: TcpStream, count: &AtomicUsize) {
    let mut block = [0; 1 << 12];
    while let Ok(received @ 1..) = stream.read(&mut block) {
        if stream.write_all(&block[..received]).is_err() {
            break;
        }
        count.fetch_add(1, SeqCst);
    }
}

/// Starts a measurement that would take ten minutes, and waits until it has measured something.
fn measuring(scene: &Scene, how: &str) -> Process {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = through(scene, how, &format!("load {address} --seconds 600"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let load = Process::start(command);
    let mut came = None;
    until("its connection", || {
        came = listener.accept().ok();
        came.is_some()
    });
    let (stream, _) = came.unwrap();
    stream.set_nonblocking(false).unwrap();
    let echoed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&echoed);
    thread::spawn(move || echo(stream, &count));
    until("some messages", || echoed.load(SeqCst) > 10);
    load
}

#[test]
fn a_measurement_ends_by_a_signal_that_was_blocked_or_ignored_before_it() {
    let scene = Scene::new();
    for (how, signal) in DEAF.into_iter().zip([Signal::TERM, Signal::INT]) {
        let mut load = measuring(&scene, how);
        load.signal(signal);
        assert_eq!(load.end().code(), Some(0), "{how}");
    }
}

#[test]
fn a_measurement_joins_its_servers_though_children_were_ignored_before_it() {
    let scene = Scene::new();
    for how in DEAF {
        let output = through(&scene, how, "bench idle --idle 10 --active 1 --seconds 1").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{how}: {}", String::from_utf8_lossy(&output.stderr));
        scene.nothing_lives();
    }
}

#[test]
fn a_closed_terminal_ends_a_measurement_which_leaves_nothing_behind() {
    let scene = Scene::new();
    // The tests themselves may run under nohup(1).
    let line = "trident bench --rows 1000 --levels 1 --queries 1000000";
    let mut command = through(&scene, "--default-signal=HUP", line);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut bench = Process::start(command);
    until("its three servers", || scene.living().len() == 4);
    bench.signal(Signal::HUP);
    assert!(bench.end().code().is_some(), "it ends by itself");
    scene.nothing_lives();
    assert_eq!(scene.left_behind(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_interrupted_sharing_leaves_nothing_and_its_exit_code_says_so() {
    let scene = Scene::new();
    let shares = scene.path("shares");
    let line = format!("trident share --made 10000000 --no-search --out {}", shares.display());
    let mut command = scene.command(words(&line));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut share = Process::start(command);
    until("its first files", || shares.exists());
    share.signal(Signal::INT);
    assert_eq!(share.end().code(), Some(130));
    assert!(!shares.exists());
}

#[test]
fn a_measurement_that_was_told_to_goes_on_without_its_terminal() {
    let scene = Scene::new();
    let mut load = measuring(&scene, "--ignore-signal=HUP");
    load.signal(Signal::HUP);
    load.signal(Signal::TERM);
    // 130 would be a second signal.
    assert_eq!(load.end().code(), Some(0));
}

#[test]
fn who_is_started_by_a_measurement_outlives_a_closed_terminal() {
    let scene = Scene::new();
    for line in [
        "bench exchange --plain --payload 500 --peer-delay 0ms --strategies shared --seconds 600",
        "trident bench --rows 1000 --levels 1 --queries 1000000",
    ] {
        let mut command = scene.command(words(line));
        command.stdout(Stdio::null()).stderr(File::create(scene.path("said")).unwrap());
        let mut bench = Process::start(command);
        let started = || scene.living().into_iter().filter(|&pid| pid != bench.pid()).collect::<Vec<_>>();
        let all_listen = || started().into_iter().all(|pid| listens(pid, bench.pid()));
        until("its three processes", || started().len() == 3 && all_listen());
        for pid in started() {
            kill_process(pid, Signal::HUP).unwrap();
        }
        // They have heard of it before the files that they are to read again go.
        thread::sleep(Duration::from_secs(1));
        assert_eq!(started().len(), 3, "{line}");
        bench.signal(Signal::INT);
        bench.signal(Signal::TERM);
        assert_eq!(bench.end().code(), Some(130), "{line}");
        scene.nothing_lives();
        let said = fs::read_to_string(scene.path("said")).unwrap();
        assert!(!said.contains("ended") && !said.contains("SIGHUP"), "{line}: {said}");
    }
}

/// Whether a process of `starter` has come so far as to have a socket, and hears SIGHUP. What was forked and not yet
/// executed has those of its starter.
fn listens(pid: Pid, starter: Pid) -> bool {
    let of = |pid: Pid, what: &str| format!("/proc/{}/{what}", pid.as_raw_nonzero());
    let line = |pid| fs::read(of(pid, "cmdline")).unwrap_or_default();
    let executed = !line(pid).is_empty() && line(pid) != line(starter);
    let open = fs::read_dir(of(pid, "fd")).into_iter().flatten();
    let is_socket = |target: std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
    executed && open.flatten().any(|file| fs::read_link(file.path()).is_ok_and(is_socket))
}

#[test]
fn a_server_that_drains_reads_nothing_again() {
    let scene = Scene::new();
    for model in ["epoll", "threads", "process", "prefork"] {
        let mut command =
            scene.command(words(&format!("-v serve echo --bind 127.0.0.1:0 --drain 50 --model {model}")));
        command.stderr(File::create(scene.path("said")).unwrap());
        let mut server = Process::start(command);
        let address = server.listening();
        let mut held = TcpStream::connect(address).unwrap();
        held.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // A server that is only held up takes more after a while.
        let mut stuck = 0;
        while stuck < 5 {
            stuck = held.write(&[0; 1 << 16]).map_or(stuck + 1, |_| 0);
        }
        let said = || fs::read_to_string(scene.path("said")).unwrap();
        server.signal(Signal::HUP);
        until("it has heard", || said().contains("SIGHUP is ignored"));
        server.signal(Signal::TERM);
        until("the drain", || TcpStream::connect(address).is_err());
        server.signal(Signal::HUP);
        server.signal(Signal::INT);
        assert_eq!(server.end().code(), Some(130), "{model}");
        assert_eq!(said().matches("SIGHUP").count(), 1, "{model}: {}", said());
    }
}
