//! What a loop's poller knows of connections, and when it tells of them.

use crate::fate::End;

/// When a poller tells of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// When something changes: edge-triggered.
    Changes,
    /// For as long as a state lasts that the loop wants to hear of: level-triggered.
    States,
}

/// What one poller knows.
pub(super) struct Watch {
    pub(crate) tells: Tells,
    pub(crate) changed: Vec<End>,
    pub(crate) watched: Vec<End>,
}

impl Watch {
    pub(crate) fn new(tells: Tells) -> Self {
        Self { tells, changed: Vec::new(), watched: Vec::new() }
    }
}
