//! Discard, RFC 863: what comes in is thrown away.

use roadstead_proto::{Context, Done, Input, Peer, Scope, Service, Session};

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
