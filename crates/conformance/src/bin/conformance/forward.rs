//! A forwarder: each connection opens another, and what comes on one goes out on the other.

use roadstead::{Close, Closed, Context, Done, Forward, Input, Peer, Ready, Scope, Service, Session};

use crate::{relay::Relay, say};

/// Where it goes to, and through what.
pub(crate) struct Forwarder(pub(crate) Relay);

impl Service for Forwarder {
    type Session = Side;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: &Peer) -> Side {
        let (near, far) = Forward::pair();
        let far = Side { said: "far", forward: far, dials: None };
        Side { said: "closed", forward: near, dials: Some(Box::new((self.0.clone(), far))) }
    }
}

/// One side, and what the near one has to dial yet.
pub(crate) struct Side {
    said: &'static str,
    forward: Forward,
    dials: Option<Box<(Relay, Side)>>,
}

impl Session for Side {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.forward.received(input, cx)
    }

    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        if let Some((relay, far)) = self.dials.take().map(|dials| *dials) {
            let dialled = match &relay.connector {
                Some(connector) => cx.connect_through(relay.far, connector, far),
                None => cx.connect(relay.far, far),
            };
            dialled.map_err(|_| Close::abort("no room for the far side"))?;
        }
        self.forward.called(cx)
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.forward.ended();
        Ok(())
    }

    fn closed(self, why: &Closed) {
        say::closed(self.said, why);
    }
}
