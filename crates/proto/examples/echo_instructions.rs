//! Echoes messages through a connection without any I/O, for counting its instructions.
//!
//! `echo_instructions MESSAGES` runs so many messages of 64 bytes. `benches/instructions` runs it under callgrind.

use std::{error::Error, hint, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    Budget, Context, Done, Input, Peer, Session, connection::BLOCK, connection::Connection,
    connection::Driven, connection::Event, connection::Op, host::Host, host::Shared, ticket::Token,
};

const MESSAGE: [u8; 64] = [b'm'; 64];

struct Echo;

impl Session for Echo {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let messages = std::env::args().nth(1).ok_or("how many messages?")?.parse::<u64>()?;
    let shared = Shared::new(Budget::default());
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let permit = shared.gate.admit(None)?;
    let peer = Peer { address: "192.0.2.1:7".parse()? };
    // As the loops see it: its session type is forgotten.
    let mut endpoint = Driven::new(Box::new(Connection::accepted(Echo, peer, shared, permit)));
    let endpoint = hint::black_box(&mut endpoint);
    endpoint.place(Token(1), host.wake_queue(), Duration::ZERO);
    endpoint.handle(Duration::ZERO, Event::Opened, &mut host);
    let mut block = BytesMut::with_capacity(BLOCK);
    for message in 0..messages {
        echo(endpoint, &mut block, Duration::from_micros(message), &mut host);
    }
    Ok(())
}

/// One message in and out, and everything that a loop asks on the way.
fn echo(endpoint: &mut Driven, block: &mut BytesMut, now: Duration, host: &mut Host) {
    while let Some(op) = endpoint.next() {
        hint::black_box(op);
    }
    block.clear();
    block.extend_from_slice(&MESSAGE);
    endpoint.handle(now, Event::Received(block), host);
    while let Some(op) = endpoint.next() {
        if let Op::Send = op {
            let sent = hint::black_box(endpoint.output().whole()).map_or(0, <[u8]>::len);
            endpoint.handle(now, Event::Sent(sent as u64), host);
        }
    }
    endpoint.settle(now, host);
    if !hint::black_box(endpoint.is_due_no_sooner()) {
        hint::black_box(endpoint.deadline());
    }
}
