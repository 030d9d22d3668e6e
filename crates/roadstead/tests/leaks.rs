//! Servers that come and go in one process leave neither descriptors nor threads behind, nor does one that cannot
//! start.
//!
//! Alone in its process, because it counts what all of it holds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use roadstead::{Context, Done, Input, Model, Peer, Scope, Server, Service, Session, server::Io};

struct Echo;

impl Service for Echo {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Self {
        Self
    }
}

impl Session for Echo {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        // A waker, so that every part of the engine is used.
        drop(cx.waker());
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

/// Descriptors and threads of this process.
fn held() -> (usize, usize) {
    let count = |path| fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn is_as_before(before: (usize, usize), what: &str) {
    let begun = Instant::now();
    while held() != before {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} leaves {:?} of {before:?}", held());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn nothing_stays_behind() {
    let before = held();
    let models = Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks());
    let settings = models.flat_map(|model| [(model, 0, Io::Loop), (model, 2, Io::Loop)]);
    for (model, workers, io) in settings.chain([(Model::Epoll, 2, Io::Workers)]) {
        let server = || Server::new(Echo).bind("127.0.0.1:0").model(model).workers(workers).io(io);
        let running = server().start().unwrap();
        let mut stream = TcpStream::connect(running.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"!").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        drop((stream, running));
        is_as_before(before, model.name());
        server().bind("192.0.2.1:1").start().unwrap_err();
        is_as_before(before, "a failed start");
    }
}
