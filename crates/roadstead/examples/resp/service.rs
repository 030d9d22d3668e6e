//! What the engine sees: a service that makes a session for each client, and a session that takes one request at a
//! time.

use std::sync::Arc;

use roadstead::{Close, Context, Done, Input, Peer, Scope, Service, Session};

use super::{
    answer::Answer,
    command,
    request::{self, Parsed},
    store::Store,
};

/// Keys and values, and all who ask for them.
pub(crate) struct Resp {
    store: Arc<Store>,
}

/// One client.
pub(crate) struct Client {
    store: Arc<Store>,
}

impl Resp {
    /// A service that keeps at most `memory` bytes.
    pub(crate) fn new(memory: usize) -> Self {
        Self { store: Arc::new(Store::new(memory)) }
    }
}

impl Service for Resp {
    type Session = Client;

    /// What one client sets another gets, so the models that fork cannot serve it: each child would have a store of
    /// its own.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> Client {
        Client { store: Arc::clone(&self.store) }
    }
}

impl Session for Client {
    type Reply = ();

    /// Answers the first request. The engine calls again while there are more, sends what was answered together, and
    /// stops calling when the client does not take its answers.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let used = match request::parse(input.bytes()) {
            Ok(Parsed::Request(request)) => {
                if let Some(answer) = command::run(&request.arguments, &self.store) {
                    answer.write(cx.output());
                }
                request.len
            }
            Ok(Parsed::Need(count)) => {
                input.need(count);
                0
            }
            // Where the next request begins is not known any more: a last word, and the end.
            Err(error) => {
                Answer::error(format!("Protocol error: {error}")).write(cx.output());
                return Err(Close::violation(error.to_string()));
            }
        };
        input.consume(used);
        Ok(())
    }
}
