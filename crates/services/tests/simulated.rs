//! The ready services without a system: on a connection that no loop drives, and in the simulator.
#![allow(clippy::unwrap_used)]

use std::{iter, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    Budget, Context, Done, Input, Peer, Ready, Service, Session,
    connection::{Connection, Endpoint, Event, Op},
    flight::BLOCK,
    host::{Host, Shared},
    ticket::Token,
};
use roadstead_services::{discard::Discard, echo::Echo};
use roadstead_sim::{Sim, seeds};

/// A connection of a service that no loop drives.
struct Alone<S: Session> {
    shared: Arc<Shared>,
    host: Host,
    connection: Connection<S>,
}

impl<S: Session> Alone<S> {
    fn open(service: &impl Service<Session = S>, budget: Budget) -> Self {
        let shared = Shared::new(budget);
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let peer = Peer { address: ([192, 0, 2, 1], 9).into() };
        let permit = shared.gate.admit(None).unwrap();
        let mut connection = Connection::accepted(service.open(&peer), peer, Arc::clone(&shared), permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        Self { shared, host, connection }
    }

    fn happen(&mut self, event: Event<'_>) {
        self.connection.handle(Duration::ZERO, event, &mut self.host);
        self.connection.settle(Duration::ZERO, &mut self.host);
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.happen(Event::Received(&mut BytesMut::from(bytes)));
    }

    /// What it does next.
    fn does(&mut self) -> Vec<Op> {
        iter::from_fn(|| self.connection.next()).collect()
    }

    /// All that it has to say, which the system takes.
    fn says(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while self.does().iter().any(|op| matches!(op, Op::Send)) {
            let front = self.connection.output().front_bytes();
            said.extend_from_slice(&front);
            self.happen(Event::Sent(front.len() as u64));
        }
        said
    }

    fn is_closed(&mut self) -> bool {
        self.does().iter().any(|op| matches!(op, Op::Close { .. }))
    }
}

#[test]
fn discard_holds_nothing_of_what_it_was_sent() {
    // It needs no room for it either.
    for budget in [Budget::default(), Budget::default().buffer_all(0)] {
        let mut discard = Alone::open(&Discard, budget);
        for bytes in [1, 1, 2, 1000, BLOCK] {
            discard.receive(&vec![7; bytes]);
            assert_eq!(discard.shared.memory.used(), 0, "after {bytes} bytes");
        }
        assert!(discard.connection.output().is_empty() && !discard.is_closed());
    }
}

#[test]
fn echo_copies_what_there_is_no_room_to_keep_and_closes_when_there_is_none_for_a_copy() {
    // A block that is half full is kept whole where there is room for it, and copied elsewhere.
    let said: Vec<u8> = (0..BLOCK / 2).map(|number| (number % 251) as u8).collect();
    for (room, is_echoed) in
        [(BLOCK, true), (BLOCK - 1, true), (BLOCK / 2, true), (BLOCK / 2 - 1, false), (0, false)]
    {
        let mut echo = Alone::open(&Echo, Budget::default().buffer_all(room));
        echo.receive(&said);
        if is_echoed {
            assert!(echo.says() == said, "within {room} bytes");
            assert!(echo.connection.output().is_empty());
        } else {
            assert!(echo.is_closed(), "within {room} bytes");
        }
    }
}

#[test]
fn echo_says_in_order_and_before_its_own_end_what_came_in_pieces_of_any_size() {
    let mut echo = Alone::open(&Echo, Budget::default().buffer_all(8 * BLOCK));
    let mut said = Vec::new();
    for length in [1, 255, 256, 257, BLOCK / 2 - 1, 1, BLOCK / 2, 2, BLOCK] {
        let piece: Vec<u8> = (0..length).map(|at| (at % 253 + length % 5) as u8).collect();
        echo.receive(&piece);
        said.extend(piece);
    }
    echo.happen(Event::Ended);
    assert!(echo.says() == said, "something is lost, or out of order");
    assert_eq!(echo.shared.memory.used(), 0, "what was sent on holds nothing");
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
        let address: SocketAddr = "10.0.0.1:7".parse().unwrap();
        let said: Vec<u8> = (0..sim.seed() % 5_000).map(|byte| byte as u8).collect();
        let caller = Caller { said, heard: Vec::new() };
        sim.serve(address, Echo).client(address, caller).run(Duration::from_secs(3_600)).map(drop)
    });
}
