//! What comes is thrown away.

use roadstead::{Closed, Context, Done, Input, Peer, Scope, Service, Session};

use crate::say;

/// Takes everything and says nothing.
pub(crate) struct Discard;

pub(crate) struct DiscardSession;

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

    fn closed(self, why: &Closed) {
        say::closed("closed", why);
    }
}
