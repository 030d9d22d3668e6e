//! How a link learns what was taken, by any thread, of what came on it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    ticket::Waker,
};

#[derive(Debug, Clone)]
pub(crate) struct Taken(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    taken: AtomicU64,
    told: AtomicU64,
    every: u64,
    waker: Waker,
}

impl Taken {
    /// Wakes the link by `waker` where so much was taken that the peer was not told of.
    pub(crate) fn new(every: u64, waker: Waker) -> Self {
        Self(Arc::new(Counts { taken: AtomicU64::new(0), told: AtomicU64::new(0), every, waker }))
    }

    /// So much more was taken.
    pub(crate) fn add(&self, cost: u64) {
        let count = self.0.taken.fetch_add(cost, SeqCst) + cost;
        // Of what other threads have taken since, the link may have told already.
        let untold = count.saturating_sub(self.0.told.load(SeqCst));
        // A peer that waits for room hears of it before it runs out of what it may send.
        if untold >= self.0.every {
            self.0.waker.wake();
        }
    }

    /// What was taken so far, and whether the peer is to be told now.
    pub(crate) fn count(&self) -> (u64, bool) {
        let count = self.0.taken.load(SeqCst);
        (count, count - self.0.told.load(SeqCst) >= self.0.every)
    }

    /// The link tells its peer of so much.
    pub(crate) fn tell(&self, count: u64) {
        self.0.told.store(count, SeqCst);
    }
}
