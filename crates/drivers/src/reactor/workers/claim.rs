//! The claim: whose a connection is, and what has happened to it meanwhile.
//!
//! ```text
//!  the loop's ──────let go──────▶ queued ──begin──▶ a worker's ──end──▶ nobody's, or queued: there is more, or news
//!      ▲             nobody's ──raise─┘                 │
//!      └─────────────── to be closed, or dialled ───────┘
//! ```
//! Whoever is told to queue it does, so it is queued once at a time. Who has it has taken it away, so nobody else can;
//! what is raised meanwhile waits here, where whoever puts it back finds it. All this under a lock, which is played
//! with loom, over all interleavings, in `tests/interleavings/`.
#![forbid(unsafe_code)]

use std::mem;

/// What has happened to a connection, a set of these: it was opened; a receive would not block, a send would not; a
/// receive that is not filled may not be the last; a ticket or a waker calls; a deadline has passed; the server begins
/// to drain; it stops now.
pub(crate) type Events = u8;
pub(crate) const OPENED: Events = 1;
pub(crate) const READABLE: Events = 1 << 1;
pub(crate) const WRITABLE: Events = 1 << 2;
pub(crate) const MORE: Events = 1 << 3;
pub(crate) const WOKEN: Events = 1 << 4;
pub(crate) const DUE: Events = 1 << 5;
pub(crate) const DRAIN: Events = 1 << 6;
pub(crate) const STOP: Events = 1 << 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Loops,
    Nobodys,
    Queued,
    Workers,
}

pub(crate) struct Claim<C> {
    /// None while somebody is at it.
    pub(crate) connection: Option<C>,
    pub(crate) whose: Whose,
    /// Since a worker had it.
    pub(crate) events: Events,
}

impl<C> Claim<C> {
    /// Something has happened. True if the caller is to queue the connection.
    #[must_use]
    pub(crate) fn raise(&mut self, events: Events) -> bool {
        self.events |= events;
        self.whose == Whose::Nobodys && self.events != 0 && self.queue()
    }

    /// The loop wants it driven. True if the caller is to queue it.
    #[must_use]
    pub(crate) fn let_go(&mut self) -> bool {
        if self.whose == Whose::Loops { self.queue() } else { self.raise(0) }
    }

    /// A worker takes it out of the queue, and what has happened to it.
    pub(crate) fn begin(&mut self) -> Option<(C, Events)> {
        self.whose = Whose::Workers;
        Some((self.connection.take()?, mem::take(&mut self.events)))
    }

    /// A worker has put it back. True if the caller is to queue it.
    #[must_use]
    pub(crate) fn end(&mut self, more: bool) -> bool {
        self.whose = Whose::Nobodys;
        if more { self.queue() } else { self.raise(0) }
    }

    fn queue(&mut self) -> bool {
        self.whose = Whose::Queued;
        true
    }
}
