//! A server that may drain for ever drains, and ends when all have gone.
//!
//! Alone in its process, to which it sends a signal.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use roadstead::{Address, Context, Done, Input, Peer, Scope, Server, Service, Session};
use rustix::process::{Signal, getpid, kill_process};

/// Answers when it has heard all that there is.
struct Patient;

impl Service for Patient {
    type Session = Patient;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Patient {
        Patient
    }
}

impl Session for Patient {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

#[test]
fn a_patience_without_end_is_one() {
    let (tell, told) = mpsc::channel();
    let serving = thread::spawn(move || {
        let server = Server::new(Patient).bind("127.0.0.1:0");
        server.run(Duration::MAX, |places: &[Address]| {
            tell.send(places[0].clone()).unwrap();
            Ok(())
        })
    });
    let mut stream = TcpStream::connect(told.recv().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"ahoy").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    kill_process(getpid(), Signal::TERM).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is told of the drain");
    drop(stream);
    let counted = serving.join().unwrap().unwrap();
    assert_eq!((counted.accepted, counted.failed), (1, 0));
}
