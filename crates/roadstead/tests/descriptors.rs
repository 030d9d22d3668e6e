//! The process runs out of descriptors, and the listener survives it.
//!
//! Alone in its process, because it lowers the limit for all of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use roadstead::{Budget, Context, Done, Input, Model, Peer, Server, Service, Session};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct Echo;
struct EchoSession;

impl Service for Echo {
    type Session = EchoSession;
    fn open(&self, _: &Peer) -> EchoSession {
        EchoSession
    }
}

impl Session for EchoSession {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Whether a byte comes back; a refusal is no error.
fn is_served(stream: &mut TcpStream) -> bool {
    let mut byte = [1];
    match stream.write_all(&byte).and_then(|()| stream.read(&mut byte)) {
        Ok(count) => count == 1,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
            false
        }
    }
}

/// Takes descriptors until there are no more.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn the_listener_survives_a_lack_of_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), ..limit }).unwrap();
    for model in [Model::Threads, Model::Epoll] {
        let server =
            Server::new(Echo).bind("127.0.0.1:0").model(model).budget(Budget::default()).start().unwrap();
        let mut before = connect(server.addresses()[0]);
        assert!(is_served(&mut before));
        let mut hoard = take_all();
        for _ in 0..10 {
            // Room for the client's end and for nothing else.
            hoard.pop();
            let mut turned_away = connect(server.addresses()[0]);
            assert!(!is_served(&mut turned_away), "{model}: there is no descriptor for it");
            drop(turned_away);
            hoard.extend(take_all());
        }
        assert!(is_served(&mut before), "{model}: who is connected stays connected");
        drop(hoard);
        let begun = Instant::now();
        while !is_served(&mut connect(server.addresses()[0])) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{model}: the listener is lost");
        }
        drop(before);
        let counted = server.drain(Duration::from_secs(30)).unwrap();
        assert!(counted.refused >= 10, "{model}: they are counted");
    }
}
