//! A message that came, and how its sender learns that it was taken.
#![forbid(unsafe_code)]

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use bytes::Bytes;

use super::options::cost;
use crate::{budget::Charge, ticket::Waker};

/// A message of another member. Its memory is charged to that member until this is dropped.
#[derive(Debug)]
pub struct Message {
    bytes: Bytes,
    _charges: [Charge; 2],
    taken: Taken,
}

impl Message {
    pub(super) fn new(bytes: Bytes, charges: [Charge; 2], taken: Taken) -> Self {
        Self { bytes, _charges: charges, taken }
    }
}

impl Deref for Message {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let cost = cost(self.bytes.len()) as u64;
        let count = self.taken.count.fetch_add(cost, SeqCst) + cost;
        // Of what other threads have taken since, the link may have told already.
        let untold = count.saturating_sub(self.taken.told.load(SeqCst));
        // A peer that waits for room hears of it before it runs out of what it may send.
        if untold >= self.taken.every {
            self.taken.waker.wake();
        }
    }
}

/// How a link learns what was taken of what came on it.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) count: Arc<AtomicU64>,
    pub(super) told: Arc<AtomicU64>,
    pub(super) every: u64,
    pub(super) waker: Waker,
}
