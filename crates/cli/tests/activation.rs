//! Servers on sockets that they are started with: sd_listen_fds(3).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use roadstead::Model;
use rustix::process::Signal;

use common::{Process, Scene, until, words};

/// `roadstead` with these arguments, started with `socket` as a parent of the kind of systemd does.
fn activated(scene: &Scene, socket: impl Into<OwnedFd>, line: &str) -> Command {
    let inside = scene.command(words(line));
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";
    command.args(["-c", script, "sh"]).arg(inside.get_program()).args(inside.get_args());
    command.envs(inside.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env_remove("ROADSTEAD_LOG").stdin(Stdio::from(socket.into())).stderr(Stdio::null());
    command
}

fn echo(address: SocketAddr) {
    assert!(is_served(address), "nobody drains");
}

/// Whether a connection is served. One that has said nothing yet when its server drains is ended in good order; none is
/// refused, and none is reset.
fn is_served(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"still here").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty() || answer == b"still here");
    !answer.is_empty()
}

/// A parent that keeps the socket starts a server after the other, and ends the one before.
#[test]
fn servers_come_and_go_on_a_socket_of_their_parents_and_nobody_is_refused() {
    let scene = Scene::new();
    let models = Model::ALL.into_iter().filter(|model| model.obstacle().is_none());
    for model in models {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let line = format!("serve echo --model {model} --drain 50");
        let start = || {
            let mut server = Process::start(activated(&scene, socket.try_clone().unwrap(), &line));
            assert_eq!(server.listening(), address, "{model}");
            server
        };
        let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let mut server = start();
            let clients = [(); 3].map(|()| {
                scope.spawn(|| {
                    while !over.load(SeqCst) {
                        served.fetch_add(is_served(address).into(), SeqCst);
                    }
                })
            });
            let more = || {
                let so_far = served.load(SeqCst);
                let goes_on = || clients.iter().all(|client| !client.is_finished());
                until("ten more answers", || !goes_on() || served.load(SeqCst) >= so_far + 10);
            };
            for _ in 0..2 {
                more();
                let successor = start();
                server.signal(Signal::TERM);
                assert_eq!(server.end().code(), Some(0), "{model}");
                server = successor;
            }
            more();
            over.store(true, SeqCst);
            clients.into_iter().for_each(|client| client.join().unwrap());
            server.signal(Signal::TERM);
            assert_eq!(server.end().code(), Some(0), "{model}");
        });
        // Nobody serves it, and it still listens.
        let _peer = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.accept().unwrap();
    }
}

#[test]
fn the_socket_takes_the_place_of_the_usual_address_and_adds_to_those_that_are_named() {
    let scene = Scene::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut server = Process::start(activated(&scene, socket, "serve echo --bind 127.0.0.2:0"));
    assert_eq!(server.listening(), address);
    let named = server.listening();
    assert_eq!(named.ip().to_string(), "127.0.0.2");
    [address, named].into_iter().for_each(echo);
}

#[test]
fn a_socket_that_cannot_be_listened_on_is_named_in_a_line() {
    let scene = Scene::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = activated(&scene, socket, "serve echo").stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let line = "roadstead: descriptor 3, one of the 1 of LISTEN_FDS, cannot be listened on: it is no stream socket\n";
    assert_eq!((output.status.code(), &said[..]), (Some(1), line));
}

#[test]
fn systemd_starts_a_server_for_the_first_who_comes() {
    let program = "systemd-socket-activate";
    if Command::new(program).arg("--version").output().is_err() {
        eprintln!("skipped: there is no {program}");
        return;
    }
    let scene = Scene::new();
    let held = common::Held::<1>::of([127, 0, 0, 1]);
    let inside = scene.command(words("serve echo --model epoll"));
    let mut command = Command::new(program);
    command
        .args(["--listen", &held.addresses[0].to_string()])
        .arg(inside.get_program())
        .args(inside.get_args());
    command.env("TMPDIR", scene.path("tmp")).stderr(Stdio::null());
    let mut server = Process::start(command);
    until("its socket", || TcpStream::connect(held.addresses[0]).is_ok());
    assert_eq!(server.listening(), held.addresses[0]);
    echo(held.addresses[0]);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}
