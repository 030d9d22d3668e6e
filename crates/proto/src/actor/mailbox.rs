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
//!
//! One who has no queue to leave the rest to (what is dropped has none) is in a hurry, and may let go of a mailbox in
//! which messages wait. Whoever posts meanwhile is told, and comes to look.
#![forbid(unsafe_code)]

use std::{fmt, mem, sync::PoisonError};

use crate::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

/// The most places of a mailbox: each has a bit in a word.
pub(crate) const PLACES: usize = 61;

/// All of them.
const PLACED: u64 = (1 << PLACES) - 1;
/// A last word waits.
const LAST: u64 = 1 << 61;
/// Who has the actor is in a hurry.
const HURRIED: u64 = 1 << 62;
/// The actor is somebody's.
const CLAIMED: u64 = 1 << 63;

pub(crate) struct Mailbox<M> {
    /// Whether the actor is somebody's, and in which places a message waits.
    word: AtomicU64,
    /// The places that somebody has.
    taken: AtomicU64,
    /// How many messages were posted so far.
    posted: AtomicU64,
    /// Of those who have left: one of each. Locked for as long as it takes to add one, or to take all.
    last: Mutex<Vec<Posted<M>>>,
    /// Whoever has a place has it alone, so that none of these locks is ever waited for.
    places: Box<[Mutex<Option<Posted<M>>>]>,
}

/// A message, and how many were posted before it.
type Posted<M> = (u64, M);

/// Who comes for what was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Comes {
    /// Whoever has the actor.
    Another,
    /// The caller, who has it now.
    Caller,
    /// Perhaps nobody: whoever has it is in a hurry. The caller looks again when it has time.
    Perhaps,
}

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
            last: Mutex::new(Vec::new()),
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
        // Whoever leaves has asked before: its last word must not be taken where what it asked is not seen yet.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |word: u64| word & (PLACED | LAST);
        let before = self.change(|word| if waits(word) == 0 { 0 } else { word & !(PLACED | LAST) });
        let waiting = waits(before);
        let left = if waiting & LAST == 0 { Vec::new() } else { mem::take(&mut *last) };
        drop(last);
        if waiting == 0 {
            return None;
        }
        let mut found = Vec::with_capacity(waiting.count_ones() as usize);
        for (number, place) in self.places.iter().enumerate() {
            if waiting & 1 << number != 0 {
                found.extend(place.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
        self.taken.fetch_and(!(waiting & PLACED), SeqCst);
        found.extend(left);
        found.sort_unstable_by_key(|(posted, _)| *posted);
        Some(found.into_iter().map(|(_, message)| message).collect())
    }

    /// Makes the actor the caller's if something waits and it is nobody's. [`Comes::Another`]: somebody will have done
    /// all that waits before it is.
    pub(crate) fn look(&self) -> Comes {
        let mine = |word: u64| word & CLAIMED == 0 && word != 0;
        let before = self.change(|word| if mine(word) { word | CLAIMED } else { word });
        match before {
            _ if mine(before) => Comes::Caller,
            _ if before & HURRIED != 0 => Comes::Perhaps,
            _ => Comes::Another,
        }
    }

    /// Leaves a message for which there is always room. True if the actor was nobody's: it is the caller's now, who is
    /// in a hurry.
    #[must_use]
    pub(crate) fn post_last(&self, message: M) -> bool {
        let posted = self.posted.fetch_add(1, SeqCst);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push((posted, message));
        let claim = |word: u64| if word & CLAIMED == 0 { CLAIMED | HURRIED } else { 0 };
        self.change(|word| word | LAST | claim(word)) & CLAIMED == 0
    }

    /// Whoever has it is in a hurry from now on.
    pub(crate) fn hurry(&self) {
        self.word.fetch_or(HURRIED, SeqCst);
    }

    /// Lets go of the actor if others wait who will look by themselves. For one in a hurry, who has taken what waited
    /// since it is.
    pub(crate) fn let_go(&self) -> bool {
        let may = |word: u64| word & PLACED != 0;
        may(self.change(|word| if may(word) { word & !(CLAIMED | HURRIED) } else { word }))
    }

    /// Changes the word. What it was before.
    fn change(&self, to: impl Fn(u64) -> u64) -> u64 {
        let mut before = self.word.load(SeqCst);
        while let Err(now) = self.word.compare_exchange(before, to(before), SeqCst, SeqCst) {
            before = now;
        }
        before
    }

    /// How many places somebody has.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(SeqCst).count_ones() as usize
    }
}

impl<M> Place<'_, M> {
    /// Leaves a message here.
    pub(crate) fn post(mut self, message: M) -> Comes {
        self.given = true;
        let (mailbox, number) = (self.mailbox, self.number);
        let posted = mailbox.posted.fetch_add(1, SeqCst);
        *mailbox.places[number].lock().unwrap_or_else(PoisonError::into_inner) = Some((posted, message));
        match mailbox.word.fetch_or(CLAIMED | 1 << number, SeqCst) {
            before if before & CLAIMED == 0 => Comes::Caller,
            before if before & HURRIED != 0 => Comes::Perhaps,
            _ => Comes::Another,
        }
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
