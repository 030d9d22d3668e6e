//! Services over UDP beside those over TCP, in one server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use roadstead::{
    Context, DatagramContext, DatagramService, DatagramSession, Done, Input, Model, Peer, Scope, Server,
    Service, Session,
    datagrams::{Arrivals, Ecn},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Says what it hears.
struct Parrot;

impl Service for Parrot {
    type Session = Parrot;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Parrot {
        Parrot
    }
}

impl Session for Parrot {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

impl DatagramService for Parrot {
    type Session = Parrot;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: SocketAddr) -> Parrot {
        Parrot
    }
}

impl DatagramSession for Parrot {
    type Reply = ();
    type Peer = ();
    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch {
            cx.send(&mut datagram.path, datagram.bytes).unwrap();
        }
    }
}

fn models() -> impl Iterator<Item = Model> {
    Model::ALL.into_iter().filter(|model| model.obstacle().is_none())
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((if server.is_ipv6() { "::1" } else { "127.0.0.1" }, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn echo(socket: &UdpSocket, bytes: &[u8]) {
    socket.send(bytes).unwrap();
    let mut back = vec![0; 65_536];
    let length = socket.recv(&mut back).unwrap();
    assert_eq!(&back[..length], bytes);
}

#[test]
fn one_server_has_connections_and_datagrams_and_drains_both() {
    for model in models().filter(|model| model.datagram_obstacle().is_none()) {
        let server = Server::new(Parrot).bind("127.0.0.1:0").model(model);
        let server = server.bind_datagrams("127.0.0.1:0", Parrot).bind_datagrams("[::1]:0", Parrot);
        let server = server.start().unwrap();
        let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
        for (number, &address) in server.datagram_addresses().iter().enumerate() {
            let socket = client(address);
            for length in [0, 1, 1_200, 20_000] {
                echo(&socket, &vec![number as u8; length]);
            }
        }
        stream.write_all(b"ahoy").unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).unwrap();
        drop(stream);
        let counts = server.drain(PATIENCE).unwrap();
        assert_eq!((counts.accepted, counts.datagrams_in, counts.datagrams_out), (1, 8, 8), "{model}");
    }
}

/// Answers whether it was told when a datagram came, and what its ECN is.
struct Stamped;

impl DatagramService for Stamped {
    type Session = Stamped;
    const SCOPE: Scope = Scope::Connection;
    const STAMPED: bool = true;
    fn open(&self, _: SocketAddr) -> Stamped {
        Stamped
    }
}

impl DatagramSession for Stamped {
    type Reply = ();
    type Peer = ();
    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch {
            cx.send(&mut datagram.path, &[datagram.at.is_some().into(), datagram.ecn as u8]).unwrap();
        }
    }
}

#[test]
fn who_asks_for_stamps_has_them() {
    for model in models().filter(|model| model.datagram_obstacle().is_none()) {
        let server = Server::new(Parrot).model(model).bind_datagrams("127.0.0.1:0", Stamped).start().unwrap();
        let socket = client(server.datagram_addresses()[0]);
        socket2::SockRef::from(&socket).set_tos_v4(Ecn::Congestion as u32).unwrap();
        socket.send(b"?").unwrap();
        let mut told = [0; 2];
        socket.recv(&mut told).unwrap();
        assert_eq!(told, [1, Ecn::Congestion as u8], "{model}");
    }
}

#[test]
fn a_server_of_datagrams_alone_has_as_many_loops_as_it_was_asked_for() {
    for model in models().filter(|model| model.datagram_obstacle().is_none()) {
        let server = Server::new(Parrot).model(model);
        let server = if model == Model::Threads { server } else { server.loops(2) };
        let server = server.bind_datagrams("127.0.0.1:0", Parrot).start().unwrap();
        assert!(server.places().is_empty());
        // The system spreads them.
        for _ in 0..20 {
            echo(&client(server.datagram_addresses()[0]), b"ahoy");
        }
        assert_eq!(server.drain(PATIENCE).unwrap().datagrams_in, 20, "{model}");
    }
}

#[test]
fn a_model_without_datagrams_and_an_address_in_use_are_told() {
    for model in models().filter(|model| model.datagram_obstacle().is_some()) {
        let server = Server::new(Parrot).model(model).bind_datagrams("127.0.0.1:0", Parrot);
        let said = server.start().unwrap_err().to_string();
        let why = model.datagram_obstacle().unwrap();
        assert_eq!(said, format!("the model `{model}` cannot run here: {why}"));
    }
    let first = Server::new(Parrot).bind_datagrams("127.0.0.1:0", Parrot).loops(2).start().unwrap();
    let address = first.datagram_addresses()[0];
    for loops in [1, 2] {
        let second = Server::new(Parrot).bind_datagrams(address, Parrot).loops(loops);
        assert_eq!(second.start().unwrap_err().to_string(), format!("address {address} is in use"));
    }
}
