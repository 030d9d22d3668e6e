//! Echo, RFC 862: what comes in goes out.

use roadstead_proto::{Context, Done, Input, Peer, Scope, Service, Session};

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
