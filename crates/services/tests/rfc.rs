//! The ready services as their RFCs describe them, on real sockets and in the simulator.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::BytesMut;
use roadstead::{
    Budget, Context, Done, Input, Model, Peer, Ready, Running, Server, Service, Session,
    connection::{Connection, Endpoint, Event},
    host::{Host, Shared},
    sim::{Sim, seeds},
    ticket::Token,
};
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

#[test]
fn discard_holds_nothing_of_what_it_was_sent() {
    let shared = Shared::new(Budget::default());
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let peer = Peer { address: ([192, 0, 2, 1], 9).into() };
    let permit = shared.gate.admit(None).unwrap();
    let mut connection = Connection::accepted(Discard.open(&peer), peer, Arc::clone(&shared), permit);
    connection.place(Token(1), host.bell(), Duration::ZERO);
    connection.handle(Duration::ZERO, Event::Opened, &mut host);
    for bytes in [1, 1, 2, 1000] {
        let block = &mut BytesMut::from(&vec![7; bytes][..]);
        connection.handle(Duration::ZERO, Event::Received(block), &mut host);
        connection.settle(Duration::ZERO, &mut host);
        assert_eq!(shared.memory.used(), 0, "after {bytes} bytes");
    }
}

/// Says a few words, and expects all of them back.
struct Caller {
    said: Vec<u8>,
    heard: Vec<u8>,
}

impl Session for Caller {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&self.said);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        assert!(self.said.starts_with(&self.heard), "the echo invented something");
        if self.heard == self.said {
            cx.finish();
        }
        Ok(())
    }
}

#[test]
fn echo_holds_whatever_the_network_does() {
    Sim::check(seeds(500), |sim| {
        let address = "10.0.0.1:7".parse().unwrap();
        let said: Vec<u8> = (0..sim.seed() % 5_000).map(|byte| byte as u8).collect();
        let caller = Caller { said, heard: Vec::new() };
        sim.serve(address, Echo).client(address, caller).run(Duration::from_secs(3_600)).map(drop)
    });
}
