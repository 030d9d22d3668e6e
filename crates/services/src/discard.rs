//! Discard, RFC 863: what comes in is thrown away, of a connection or as datagrams.

use std::net::SocketAddr;

use roadstead_proto::{
    Context, DatagramContext, DatagramService, DatagramSession, Done, Input, Peer, Scope, Service, Session,
    datagrams::Arrivals,
};

/// Throws away whatever it receives, until the peer has finished sending.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

/// One discarded connection.
#[derive(Debug)]
pub struct DiscardSession;

impl Service for Discard {
    type Session = DiscardSession;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: &Peer) -> DiscardSession {
        DiscardSession
    }
}

impl Session for DiscardSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        Ok(())
    }
}

/// A socket whose datagrams are thrown away.
#[derive(Debug)]
pub struct DiscardDatagrams;

impl DatagramService for Discard {
    type Session = DiscardDatagrams;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: SocketAddr) -> DiscardDatagrams {
        DiscardDatagrams
    }
}

impl DatagramSession for DiscardDatagrams {
    type Reply = ();
    type Peer = ();

    fn receive(&mut self, _: Arrivals<'_>, _: &mut DatagramContext<'_, Self>) {}
}
