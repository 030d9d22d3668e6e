//! The ready services without a system: on a connection that no loop drives, and in the simulator.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    Budget, Context, Done, Input, Peer, Ready, Service, Session,
    connection::{Connection, Endpoint, Event},
    host::{Host, Shared},
    ticket::Token,
};
use roadstead_services::{discard::Discard, echo::Echo};
use roadstead_sim::{Sim, seeds};

#[test]
fn discard_holds_nothing_of_what_it_was_sent() {
    let shared = Shared::new(Budget::default());
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let peer = Peer { address: ([192, 0, 2, 1], 9).into() };
    let permit = shared.gate.admit(None).unwrap();
    let mut connection = Connection::accepted(Discard.open(&peer), peer, Arc::clone(&shared), permit);
    connection.place(Token(1), host.wake_queue(), Duration::ZERO);
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
