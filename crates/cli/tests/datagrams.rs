//! `roadstead serve --udp` as a process.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::{SocketAddr, UdpSocket},
    process::Stdio,
    time::Duration,
};

use common::{Process, Scene, words};
use rustix::process::Signal;

/// The address in the next line.
fn listening(server: &mut Process) -> SocketAddr {
    let line = server.line();
    let address = line.strip_prefix("listening for datagrams on ").and_then(|line| line.strip_suffix('\n'));
    address.unwrap_or_else(|| panic!("{line:?} says no address")).parse().unwrap()
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

#[test]
fn echo_answers_wherever_it_is_bound_and_says_what_it_has_come_to() {
    let scene = Scene::new();
    for model in ["threads", "epoll", "emulated"] {
        let log = scene.path("log");
        let line = format!("serve echo --udp --bind 127.0.0.1:0 --bind [::1]:0 --model {model}");
        let mut command = scene.command(words(&line));
        command.stderr(Stdio::from(std::fs::File::create(&log).unwrap()));
        let mut server = Process::start(command);
        for ip in ["127.0.0.1", "::1"] {
            let address = listening(&mut server);
            assert_eq!(address.ip().to_string(), ip);
            let client = client(address);
            client.send(b"ahoy").unwrap();
            let mut back = [0; 5];
            assert_eq!((client.recv(&mut back).unwrap(), &back), (4, b"ahoy\0"));
        }
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0));
        let log = std::fs::read_to_string(&log).unwrap();
        let counts =
            "datagrams_in=2 datagrams_out=2 truncated=0 withheld=0 dropped=0 panics=0 bytes_in=8 bytes_out=8";
        assert!(log.contains(&format!("drained model={model} {counts}")), "{log}");
    }
}

#[test]
fn discard_answers_nothing() {
    let scene = Scene::new();
    let mut server = scene.serve(words("serve discard --udp --bind 127.0.0.1:0"));
    let client = client(listening(&mut server));
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.send(b"ahoy").unwrap();
    assert!(client.recv(&mut [0; 5]).is_err());
    server.signal(Signal::INT);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn what_datagrams_cannot_have_is_told() {
    let scene = Scene::new();
    for (more, said) in [
        ("proxy --to 127.0.0.1:9", "the proxy has no datagrams: --udp is for echo and discard"),
        ("echo --bind unix:@x", "unix:@x is a Unix socket, and --udp needs HOST:PORT"),
        (
            "echo --model prefork",
            "the model `prefork` cannot run here: its children take connections, and datagrams have none",
        ),
        (
            "echo --model iterative",
            "the model `iterative` cannot run here: it serves one client at a time, and of datagrams none is ever the \
             last",
        ),
    ] {
        assert_eq!(scene.fails(words(&format!("serve {more} --udp"))), said);
    }
}
