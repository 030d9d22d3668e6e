//! Clients that we did not write: `socat` and `nc` against an echo and a discard.
//!
//! Where a program is missing its tests are skipped, and say so; under `CI` a missing program is a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use roadstead::{Budget, Context, Done, Input, Model, Peer, Running, Server, Service, Session};

#[derive(Clone, Copy)]
enum Behaviour {
    Echo,
    Discard,
}

impl Service for Behaviour {
    type Session = Behaviour;
    fn open(&self, _: &Peer) -> Behaviour {
        *self
    }
}

impl Session for Behaviour {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if let Behaviour::Echo = self {
            cx.output().write(input.bytes());
        }
        input.consume(usize::MAX);
        Ok(())
    }
}

fn start(model: Model, behaviour: Behaviour) -> Running {
    Server::new(behaviour).bind("127.0.0.1:0").model(model).budget(Budget::default()).start().unwrap()
}

/// A foreign client connected to `address` that half-closes when its standard input ends. `None` if it is not here.
fn client(name: &str, address: SocketAddr) -> Option<Child> {
    let mut command = Command::new(name);
    match name {
        "socat" => command.args(["-t", "30", "-", &format!("TCP:{address}")]),
        _ => command.args(["-N", &address.ip().to_string(), &address.port().to_string()]),
    };
    match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == ErrorKind::NotFound && env::var_os("CI").is_none() => {
            eprintln!("skipped: `{name}` is not installed (packages socat, netcat-openbsd)");
            None
        }
        Err(error) => panic!("`{name}` cannot be started: {error}"),
    }
}

/// Feeds the client `input` in pieces, lets it half-close, and answers everything that it printed.
fn talk(name: &str, address: SocketAddr, pieces: &[&[u8]], pause: Duration) -> Option<Vec<u8>> {
    let mut child = client(name, address)?;
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut all = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            for piece in pieces {
                stdin.write_all(piece).unwrap();
                thread::sleep(pause);
            }
        });
        stdout.read_to_end(&mut all).unwrap();
    });
    assert!(child.wait().unwrap().success(), "{name}");
    Some(all)
}

fn every_client_and_model(test: impl Fn(&str, Model)) {
    for name in ["socat", "nc"] {
        for model in [Model::Threads, Model::Epoll] {
            test(name, model);
        }
    }
}

#[test]
fn a_megabyte_comes_back_after_a_half_close() {
    let sent = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>();
    every_client_and_model(|name, model| {
        let server = start(model, Behaviour::Echo);
        if let Some(back) = talk(name, server.addresses()[0], &[&sent], Duration::ZERO) {
            assert!(back == sent, "{name}, {model}: {} bytes came back", back.len());
            assert_eq!(server.drain(Duration::from_secs(30)).unwrap().failed, 0, "{name}, {model}");
        }
    });
}

#[test]
fn a_slow_dribble_comes_back() {
    let pieces = b"slowly, byte by byte".chunks(1).collect::<Vec<_>>();
    every_client_and_model(|name, model| {
        let server = start(model, Behaviour::Echo);
        if let Some(back) = talk(name, server.addresses()[0], &pieces, Duration::from_millis(5)) {
            assert_eq!(back, pieces.concat(), "{name}, {model}");
        }
    });
}

#[test]
fn what_is_discarded_is_answered_by_the_end_alone() {
    every_client_and_model(|name, model| {
        let server = start(model, Behaviour::Discard);
        if let Some(back) = talk(name, server.addresses()[0], &[&[0; 1 << 18]], Duration::ZERO) {
            assert_eq!(back, b"", "{name}, {model}");
            assert_eq!(server.drain(Duration::from_secs(30)).unwrap().bytes_in, 1 << 18);
        }
    });
}
