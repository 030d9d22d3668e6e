//! What a server counts and holds, for whoever watches it while it runs.
//!
//! What it reads a message neither locks nor waits for: counts are where each loop has its own, as they were at the end
//! of its last turn; who is open is asked of the gate, which is passed when a connection comes or goes.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{budget::Budget, host::Shared, stats::Snapshot};

/// The view of a server from outside. It keeps what was counted after the server has gone.
#[derive(Debug, Clone)]
pub struct Observer(Arc<Shared>);

impl Observer {
    /// Of the server whose loops share this.
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// What was counted so far, and what is held now.
    pub fn all(&self) -> Snapshot {
        self.0.snapshot()
    }

    /// What each loop has counted, and nothing of what is held. None on models without loops.
    pub fn loops(&self) -> Vec<Snapshot> {
        self.0.loops()
    }

    /// The limits.
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// Whether those who come are let in: not before it serves, nor once it drains, has ceded its listeners, or ended.
    pub fn lets_in(&self) -> bool {
        self.0.lets_in()
    }
}
