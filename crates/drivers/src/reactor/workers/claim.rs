//! The claim: one word for each connection that says who may touch it, and what has happened to it meanwhile.
//!
//! ```text
//!        raise: to be queued           begin                    end
//!  idle ─────────────────────▶ queued ──────▶ running ─────────────────────▶ idle
//!                                ▲               │ end, with news: run again
//!                                └───────────────┘
//! ```
//! Whoever is told that the connection is *to be queued* puts it into the line, so it stands there at most once, and
//! whoever took it out is the only one to have it. What is raised meanwhile is kept in the same word, so that either
//! the one who ends sees it, or the one who raised it sees the end: no event is lost between the two. Both are checked
//! with loom, over all interleavings, in `tests/interleavings/`.
#![forbid(unsafe_code)]

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire},
};

/// What has happened to a connection: a set of these.
pub(crate) type Events = u32;

/// It exists, and is not being opened any more.
pub(crate) const OPENED: Events = 1;
/// A receive would not block.
pub(crate) const READABLE: Events = 1 << 1;
/// A send would not block.
pub(crate) const WRITABLE: Events = 1 << 2;
/// A receive that is not filled may not be the last.
pub(crate) const MORE: Events = 1 << 3;
/// A ticket or a waker calls.
pub(crate) const WOKEN: Events = 1 << 4;
/// A deadline may have passed.
pub(crate) const DUE: Events = 1 << 5;
/// The server begins to drain.
pub(crate) const DRAIN: Events = 1 << 6;
/// The server stops now.
pub(crate) const STOP: Events = 1 << 7;

/// All of them.
const EVENTS: Events = (1 << 8) - 1;

const IDLE: u32 = 0;
/// In the line, or about to be put there.
const QUEUED: u32 = 1 << 8;
/// A worker has it.
const RUNNING: u32 = 1 << 9;
/// Nobody will have it again.
const CLOSED: u32 = 1 << 10;

#[derive(Debug)]
pub(crate) struct Claim(AtomicU32);

impl Claim {
    /// Of a connection to which nothing has happened.
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    /// Something has happened. True if the caller is to queue the connection.
    #[must_use]
    pub(crate) fn raise(&self, events: Events) -> bool {
        let queue = |word| if word == IDLE { QUEUED } else { 0 };
        self.0.fetch_update(AcqRel, Acquire, |word| Some(word | events | queue(word))) == Ok(IDLE)
    }

    /// A worker has taken the connection out of the line: what happened since it was had last.
    pub(crate) fn begin(&self) -> Events {
        self.0.swap(RUNNING, AcqRel) & EVENTS
    }

    /// Whether something has happened since the worker began.
    pub(crate) fn has_news(&self) -> bool {
        self.0.load(Acquire) & EVENTS != 0
    }

    /// The worker lets go of the connection, which has more to do or has not. True if the caller is to queue it again.
    #[must_use]
    pub(crate) fn end(&self, more: bool) -> bool {
        if !more && self.0.compare_exchange(RUNNING, IDLE, AcqRel, Acquire).is_ok() {
            return false;
        }
        self.0.fetch_xor(RUNNING | QUEUED, AcqRel);
        true
    }

    /// The worker that has it lets go of it for ever.
    pub(crate) fn close(&self) {
        self.0.swap(CLOSED, AcqRel);
    }
}
