//! Echo, RFC 862: what comes in goes out, of a connection or as datagrams.

use std::net::SocketAddr;

use roadstead_proto::{
    Context, DatagramContext, DatagramService, DatagramSession, Done, Input, Peer, Scope, Service, Session,
    datagrams::Arrivals,
};

/// Sends back whatever it receives, until the peer has finished sending.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

/// One echoed connection.
#[derive(Debug)]
pub struct EchoSession;

impl Service for Echo {
    type Session = EchoSession;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: &Peer) -> EchoSession {
        EchoSession
    }
}

impl Session for EchoSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.forward(usize::MAX, cx.output());
        Ok(())
    }
}

/// A socket whose datagrams are echoed.
///
/// What was sent to many is not echoed, since all of them would. Nor is what has no hops left: of two echoes that a
/// forged datagram has set talking each answers with fewer hops than it was asked with, so that this ends. One that was
/// too long for its place comes back without its end.
#[derive(Debug)]
pub struct EchoDatagrams;

impl DatagramService for Echo {
    type Session = EchoDatagrams;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: SocketAddr) -> EchoDatagrams {
        EchoDatagrams
    }
}

impl DatagramSession for EchoDatagrams {
    type Reply = ();
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for mut datagram in batch.filter(|datagram| datagram.is_unicast()) {
            // What there is no room for is dropped, as it may be on the way; the engine counts it.
            let _ = cx.send(&mut datagram.path, datagram.bytes);
        }
    }
}
