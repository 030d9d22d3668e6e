//! What may become of a connection, and its two ends.

use std::time::Duration;

/// What the seed has in store for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Nothing,
    Refuse,
    /// Refused already by the call that begins it.
    RefuseAtOnce,
    Ignore,
    ResetAt(Duration),
    /// After so many bytes to that side.
    Reset(usize, u64),
    /// When exactly so many bytes have arrived at that side.
    Sever(usize, u64),
    HalfClose(usize, u64),
}

/// What the network does to connections that it does not leave whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Refused, or lost in the backlog.
    Refused,
    /// Never answered.
    Unanswered,
    /// One direction was ended; what was sent there afterwards was lost.
    HalfClosed {
        /// Whether that was the direction to the side that had accepted.
        to_server: bool,
    },
    /// Reset.
    Reset,
}

/// One end of a connection: what the loop holds as its socket. Side 0 began the connection, side 1 accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) wire: usize,
    pub(crate) side: usize,
}

impl End {
    pub(crate) fn other(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}
