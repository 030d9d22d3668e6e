//! What the engine sees: a service that makes a session for each client, and a session that takes together what has
//! come together.

use std::{mem, time::Duration};

use roadstead::{
    Actor, Asked, Close, Context, Done, Input, JobId, Lost, Peer, Ready, Scope, Service, Session,
};

use super::{
    answer::Answer,
    batch::{Answers, Batch},
    store::Store,
};

/// When requests are tried again that found the store with too much to do.
const LATER: Duration = Duration::from_millis(1);

/// Keys and values, and all who ask for them.
pub(crate) struct Resp {
    store: Actor<Store>,
}

/// One client.
pub(crate) struct Client {
    store: Actor<Store>,
    /// Requests are with the store. What comes behind them is left unread, or its answers would come first.
    waits: bool,
    /// The store had too much to do: what is unread is tried again.
    retries: bool,
    /// The unread bytes that have been answered.
    answered: usize,
    /// Once all that is unread has been answered it is over.
    ends: bool,
}

impl Resp {
    /// A service that keeps at most `memory` bytes.
    pub(crate) fn new(memory: usize) -> Self {
        Self { store: Actor::new(Store::new(memory)) }
    }
}

impl Service for Resp {
    type Session = Client;

    /// What one client sets another gets, so the models that fork cannot serve it: each child would have a store of
    /// its own.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> Client {
        Client { store: self.store.clone(), waits: false, retries: false, answered: 0, ends: false }
    }
}

impl Session for Client {
    type Reply = Answers;

    /// Answers the requests that are there, up to a batch. The engine calls again while there are more, and stops
    /// calling when the client does not take its answers.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(mem::take(&mut self.answered));
        self.retries = false;
        if !self.waits && !input.is_empty() {
            self.take(input, cx)?;
        }
        if self.ends && !self.waits && input.is_empty() {
            cx.finish();
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, answers: Result<Answers, Lost>, cx: &mut Context<'_, Self>) -> Done {
        self.waits = false;
        self.answered = answer(answers, cx)?;
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Draining {
            self.end(cx)?;
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.ends = true;
        if !self.waits && !self.retries {
            cx.finish();
        }
        Ok(())
    }
}

impl Client {
    fn take(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let batch = match Batch::read(input.bytes()) {
            Ok(Ok(batch)) => batch,
            Ok(Err(count)) => {
                input.need(count);
                if self.ends {
                    cx.finish();
                }
                return Ok(());
            }
            // Where the next request begins is not known any more: a last word, and the end.
            Err(error) => {
                Answer::error(format!("Protocol error: {error}")).write(cx.output());
                return Err(Close::violation(error.to_string()));
            }
        };
        match self.store.ask(cx, batch.size(), |store| batch.run(store)) {
            Ok(Asked::Done(answers)) => input.consume(answer(answers, cx)?),
            Ok(Asked::Later(_)) => self.waits = true,
            Err(_) => {
                self.retries = true;
                cx.wake_at(Some(cx.now() + LATER));
            }
        }
        Ok(())
    }
}

/// Writes the answers. Tells how many bytes of requests they answer.
fn answer(answers: Result<Answers, Lost>, cx: &mut Context<'_, Client>) -> Result<usize, Close> {
    let Answers { answers, used } = answers.map_err(|lost| Close::abort(lost.to_string()))?;
    answers.into_iter().for_each(|answer| answer.write(cx.output()));
    Ok(used)
}
