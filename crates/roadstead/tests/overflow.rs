//! The model `signal` with room for a single queued signal: what is lost is found, and nobody waits for ever.
//!
//! Alone in its process, because the limit and the log are for all of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use roadstead::{Context, Done, Input, Model, Peer, Scope, Server, Service, Session};
use rustix::process::{Resource, Rlimit, setrlimit};

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
        let len = input.len();
        input.forward(len, cx.output());
        Ok(())
    }
}

static OVERFLOWED: AtomicBool = AtomicBool::new(false);

/// Listens to the log for one word.
struct Ear;

impl Write for Ear {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if String::from_utf8_lossy(line).contains("overflowed") {
            OVERFLOWED.store(true, SeqCst);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_queue_of_signals_that_overflows_loses_nothing() {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_writer(|| Ear)
        .init();
    setrlimit(Resource::Sigpending, Rlimit { current: Some(1), maximum: Some(1) }).unwrap();
    let server = Server::new(Echo).bind("127.0.0.1:0").model(Model::Signal).start().unwrap();
    let connect = |_| {
        let stream = TcpStream::connect(server.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    let mut clients: Vec<TcpStream> = (0..100).map(connect).collect();
    // Many rounds: how many signals wait at once is the scheduler's choice.
    for round in 0..1_000_u32 {
        for (number, client) in (0..).zip(&mut clients) {
            client.write_all(&(round * 100 + number).to_le_bytes()).unwrap();
        }
        for (number, client) in (0..).zip(&mut clients) {
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(u32::from_le_bytes(back), round * 100 + number);
        }
        if round >= 20 && OVERFLOWED.load(SeqCst) {
            return;
        }
    }
    panic!("the queue has never overflowed");
}
