//! An echo of received buffers: nothing is copied, unless it is little.

use roadstead::{Close, Closed, Context, Done, Input, Peer, Scope, Service, Session};

use crate::say;

/// Sends on what comes.
pub(crate) struct Echo;

pub(crate) struct EchoSession;

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
        let chunk = input.take(usize::MAX).ok_or_else(|| Close::abort("no memory for an echo"))?;
        cx.output().forward(chunk);
        Ok(())
    }

    fn closed(self, why: &Closed) {
        say::closed("closed", why);
    }
}
