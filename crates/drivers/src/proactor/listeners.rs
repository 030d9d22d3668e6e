//! The proactor's listeners: how many accepts each has outstanding, and that it rests when the system has no room for
//! another connection.
#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use roadstead_proto::{budget::Budget, host::Host, stats::Refusal};

use super::completions::CompletionQueue;
use crate::{
    accept::{self, Accepts, Open, Taken},
    handover::Handed,
    net::REST,
};

/// One listener of the loop.
struct Accepting {
    /// What becomes of its connections.
    open: Arc<Open>,
    accepts: Accepts,
    /// The system had no room for another connection: it is not asked for one until then.
    resting: Option<Duration>,
}

/// All listeners of the loop, by number.
pub(super) struct Listeners(Vec<Accepting>);

impl Listeners {
    pub(super) fn new(openers: Vec<Arc<Open>>, budget: &Budget) -> Self {
        let accepting = |open| Accepting { open, accepts: Accepts::new(&budget.accepts), resting: None };
        Self(openers.into_iter().map(accepting).collect())
    }

    /// Until when the first of them rests that does.
    pub(super) fn resting(&self) -> Option<Duration> {
        self.0.iter().filter_map(|listener| listener.resting).min()
    }

    /// Nobody comes to them any more, and none rests; who was accepted by now is let in. Who waits is accepted before,
    /// or else left to whoever has them as well.
    pub(super) fn close(&mut self, completions: &mut impl CompletionQueue, accepts: bool) {
        self.0.iter_mut().for_each(|listener| listener.resting = None);
        completions.deafen(accepts);
    }

    /// There are none any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// An accept is done. Answers who has come and is admitted; an error is one who is to be refused.
    pub(super) fn complete<S>(
        &mut self,
        number: usize,
        taken: Taken<S>,
        now: Duration,
        lets_in: bool,
        host: &mut Host,
    ) -> Result<Option<Handed<S>>, S> {
        let Some(listener) = self.0.get_mut(number) else {
            return match taken {
                Taken::One(stream, _) => Err(stream),
                _ => Ok(None),
            };
        };
        if let Taken::Exhausted = taken {
            listener.accepts.exhausted();
            listener.resting = lets_in.then_some(now + REST);
            return Ok(None);
        }
        listener.accepts.complete(now);
        match taken {
            Taken::One(stream, peer) => {
                return match accept::permit(&peer, host) {
                    Some(permit) => {
                        Ok(Some(Handed { stream, peer, permit, open: Arc::clone(&listener.open) }))
                    }
                    None => Err(stream),
                };
            }
            Taken::Shed => host.count.refuse(Refusal::Descriptors),
            Taken::Lost | Taken::Empty | Taken::Exhausted => {}
        }
        Ok(None)
    }

    /// Fills up the accepts of those that do not rest.
    pub(super) fn accept_again(&mut self, completions: &mut impl CompletionQueue, now: Duration) {
        for (number, listener) in self.0.iter_mut().enumerate() {
            if listener.resting.is_none_or(|until| until <= now) {
                listener.resting = None;
                (0..listener.accepts.fill()).for_each(|_| completions.accept(number));
            }
        }
    }
}
