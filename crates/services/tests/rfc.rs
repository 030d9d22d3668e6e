//! The ready services as their RFCs describe them, on real sockets.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real clients are no sessions")]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use roadstead::{Model, Running, Server, Service};
use roadstead_services::{discard::Discard, echo::Echo};

fn start(service: impl Service, model: Model) -> (Running, TcpStream) {
    let server = Server::new(service).bind("127.0.0.1:0").model(model).start().unwrap();
    let client = TcpStream::connect(server.addresses()[0]).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (server, client)
}

/// Sends `said` while it listens, and answers all that came back until the server closed.
fn converse(client: &TcpStream, said: &[u8]) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = client;
            client.write_all(said).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        let mut client = client;
        client.read_to_end(&mut heard).unwrap();
        heard
    })
}

#[test]
fn echo_returns_every_byte_and_closes_after_its_client() {
    let said: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    for model in [Model::Threads, Model::Epoll] {
        let (server, client) = start(Echo, model);
        assert!(converse(&client, &said) == said, "{model} changed what it echoed");
        let stats = server.drain(Duration::from_secs(10)).unwrap();
        assert_eq!((stats.bytes_in, stats.bytes_out), (3_000_000, 3_000_000));
    }
}

#[test]
fn echo_answers_a_byte_before_the_next_is_sent() {
    for model in [Model::Threads, Model::Epoll] {
        let (server, mut client) = start(Echo, model);
        for said in 0..5 {
            let mut heard = [0];
            client.write_all(&[said]).unwrap();
            client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, [said], "{model}");
        }
        drop(client);
        server.drain(Duration::from_secs(10)).unwrap();
    }
}

#[test]
fn discard_says_nothing_and_closes_after_its_client() {
    for model in [Model::Threads, Model::Epoll] {
        let (server, client) = start(Discard, model);
        assert_eq!(converse(&client, &vec![7; 1_000_000]), b"");
        let stats = server.drain(Duration::from_secs(10)).unwrap();
        assert_eq!((stats.bytes_in, stats.bytes_out), (1_000_000, 0));
    }
}
