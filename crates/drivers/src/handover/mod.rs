//! Several loops of one server: the loop that listens hands each connection to the one that has fewest.
//!
//! Each loop owns an [`Inbox`]. The one that listens has a [`Handover`] over those of the others, and chooses for every
//! connection that it takes out of the backlog and the budget admits. The loop that gets it makes its session, and keeps
//! it to its end. What lies in an inbox is counted by the budget, and so bounded by it, and given back if it is dropped.
//!
//! How many a loop has is what lies in its inbox and what it has said to have: it says so when it takes something out,
//! and at the end of a turn in which that has changed. A message changes nothing of it.
//!
//! All loops are told of a drain. The one that listens lets in who waits, by itself, and seals the inboxes of the others:
//! none of these ends before that, so nothing is handed to a loop that is gone. A loop that was stopped, or has broken, closes its inbox, and
//! what was meant for it stays with whoever would have handed it over.
#![forbid(unsafe_code)]

mod inbox;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use roadstead_proto::{
    connection::Endpoint,
    host::Host,
    ticket::{Token, WakeQueue},
};

use crate::{accept, net::Net};
pub use inbox::{Handed, Inbox};

/// Calls a loop because something lies in its inbox.
pub(crate) const HANDED: Token = Token(u64::MAX - 3);

impl<T> Handed<T> {
    /// Makes its endpoint. `None` if the service panics over it: it is closed then.
    pub(crate) fn begin<N: Net<Stream = T>>(
        self,
        net: &mut N,
        host: &mut Host,
    ) -> Option<(T, Box<dyn Endpoint>)> {
        let Self { stream, peer, permit, open } = self;
        match accept::begin(&*open, peer, permit, host) {
            Some(endpoint) => Some((stream, endpoint)),
            None => {
                net.close(stream, true);
                None
            }
        }
    }
}

/// Another loop, to which connections are handed.
pub struct Other<T> {
    /// What is handed to it.
    pub inbox: Arc<Inbox<T>>,
    /// What wakes it.
    pub wake_queue: Arc<WakeQueue>,
}

/// One loop's part in a server of several: what is handed to it, and whom it hands connections to.
pub struct Handover<T> {
    own: Arc<Inbox<T>>,
    others: Vec<Other<T>>,
    /// What was last said of how many the loop has.
    said: usize,
}

impl<T> Default for Handover<T> {
    fn default() -> Self {
        Self::of_listener(Vec::new())
    }
}

impl<T> Handover<T> {
    /// What lies in `own` is this loop's; what it accepts goes to itself and to `others`, to whoever has fewest.
    pub fn new(own: Arc<Inbox<T>>, others: Vec<Other<T>>) -> Self {
        Self { own, others, said: 0 }
    }

    /// Of a loop that nobody hands anything to.
    pub fn of_listener(others: Vec<Other<T>>) -> Self {
        let handover = Self::new(Arc::default(), others);
        handover.own.seal();
        handover
    }

    /// Hands a connection to the loop that has fewest. It comes back if that is this one, which `has` so many.
    pub(crate) fn hand(&mut self, handed: Handed<T>, has: usize) -> Option<Handed<T>> {
        let loads = self.others.iter().filter_map(|other| Some((other.inbox.load()?, other)));
        let Some((_, other)) = loads.min_by_key(|(load, _)| *load).filter(|(load, _)| *load < has) else {
            return Some(handed);
        };
        let back = other.inbox.put(handed).err();
        if back.is_none() {
            other.wake_queue.wake(HANDED);
        }
        back
    }

    /// What was handed to this loop.
    pub(crate) fn take(&mut self) -> Vec<Handed<T>> {
        let handed = self.own.take();
        self.said += handed.len();
        handed
    }

    /// This loop has so many now.
    pub(crate) fn has(&mut self, open: usize) {
        if open != self.said {
            self.own.has(open);
            self.said = open;
        }
    }

    /// Hands nothing to the others any more, and lets them know.
    pub(crate) fn end(&mut self) {
        for Other { inbox, wake_queue } in self.others.drain(..) {
            inbox.seal();
            wake_queue.wake(HANDED);
        }
    }

    /// Whether nothing was handed to this loop that it has not taken, nor will be.
    pub(crate) fn is_over(&self) -> bool {
        self.own.is_over()
    }

    /// This loop ends: nothing is handed to it any more. What was on its way is answered.
    pub(crate) fn close(&mut self) -> Vec<Handed<T>> {
        self.own.close()
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        // What is left is closed when it is dropped.
        drop(self.own.close());
    }
}

impl<T> fmt::Debug for Handover<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").field("others", &self.others.len()).finish_non_exhaustive()
    }
}
