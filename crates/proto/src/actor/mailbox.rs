//! The mailbox of an actor: whose the actor is, and what waits for it, in one word.
//!
//! ```text
//!            ┌──claim, post──▶ somebody's ──take: what waits──┐
//!        nobody's                 ▲   │                       │
//!            ▲                    └───┼───────────────────────┘
//!            └────take: nothing waits─┘
//! ```
//! Whoever posts learns in the same step whether the actor is somebody's, who will come for the message, or its own
//! from now on. Whoever has it lets go only of a mailbox in which nothing waits. So nothing is left behind, and nobody
//! waits for anybody. Played with loom in `drivers/tests/interleavings/`.
#![forbid(unsafe_code)]

use std::{fmt, sync::PoisonError};

use crate::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// The most places of a mailbox: each has a bit in a word.
pub(crate) const PLACES: usize = 63;

/// The actor is somebody's.
const CLAIMED: u64 = 1 << PLACES;

pub(crate) struct Mailbox<M> {
    /// Whether the actor is somebody's, and in which places a message waits.
    word: AtomicU64,
    /// The places that somebody has.
    taken: AtomicU64,
    /// How many messages were posted so far.
    posted: AtomicU64,
    /// Whoever has a place has it alone, so that none of these locks is ever waited for.
    places: Box<[Mutex<Option<Posted<M>>>]>,
}

/// A message, and how many were posted before it.
type Posted<M> = (u64, M);

/// A place in a mailbox, until something is posted there.
#[must_use]
pub(crate) struct Place<'a, M> {
    mailbox: &'a Mailbox<M>,
    number: usize,
    given: bool,
}

impl<M> Mailbox<M> {
    /// An empty one of nobody's, with so many places, at most [`PLACES`].
    pub(crate) fn new(places: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            posted: AtomicU64::new(0),
            places: (0..places.min(PLACES)).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Makes the actor the caller's. False if it is somebody's.
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        self.word.compare_exchange(0, CLAIMED, SeqCst, SeqCst).is_ok()
    }

    /// A place for a message, if one is free.
    pub(crate) fn reserve(&self) -> Option<Place<'_, M>> {
        let mut taken = self.taken.load(SeqCst);
        loop {
            let number = (!taken).trailing_zeros() as usize;
            if number >= self.places.len() {
                return None;
            }
            match self.taken.compare_exchange(taken, taken | 1 << number, SeqCst, SeqCst) {
                Ok(_) => return Some(Place { mailbox: self, number, given: false }),
                Err(now) => taken = now,
            }
        }
    }

    /// All that waits, in the order in which it was posted. If nothing does, the actor is nobody's from now on.
    ///
    /// For whoever has claimed the actor.
    pub(crate) fn take(&self) -> Option<Vec<M>> {
        if self.word.compare_exchange(CLAIMED, 0, SeqCst, SeqCst).is_ok() {
            return None;
        }
        let waiting = self.word.swap(CLAIMED, SeqCst) & !CLAIMED;
        let mut found = Vec::with_capacity(waiting.count_ones() as usize);
        for (number, place) in self.places.iter().enumerate() {
            if waiting & 1 << number != 0 {
                found.extend(place.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
        self.taken.fetch_and(!waiting, SeqCst);
        found.sort_unstable_by_key(|(posted, _)| *posted);
        Some(found.into_iter().map(|(_, message)| message).collect())
    }

    /// How many places somebody has.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(SeqCst).count_ones() as usize
    }
}

impl<M> Place<'_, M> {
    /// Leaves a message here. True if the actor was nobody's, and is the caller's now.
    #[must_use]
    pub(crate) fn post(mut self, message: M) -> bool {
        self.given = true;
        let (mailbox, number) = (self.mailbox, self.number);
        let posted = mailbox.posted.fetch_add(1, SeqCst);
        *mailbox.places[number].lock().unwrap_or_else(PoisonError::into_inner) = Some((posted, message));
        mailbox.word.fetch_or(CLAIMED | 1 << number, SeqCst) & CLAIMED == 0
    }
}

impl<M> Drop for Place<'_, M> {
    fn drop(&mut self) {
        if !self.given {
            self.mailbox.taken.fetch_and(!(1 << self.number), SeqCst);
        }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("taken", &self.taken()).finish_non_exhaustive()
    }
}
