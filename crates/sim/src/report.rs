//! What a run came to: every connection's fate if all was well, the reason and the last events if not.

use std::{fmt, io, time::Duration};

use roadstead_proto::{Address, stats::Snapshot};

use crate::{fate::Cut, faults::Faults, trace::Trace};

/// A run in which nothing panicked, hung or leaked.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The seed it came from.
    pub seed: u64,
    /// How unkind the world was.
    pub faults: Faults,
    /// The virtual time it took.
    pub took: Duration,
    /// Every connection, in the order they were begun.
    pub connections: Vec<ConnectionReport>,
    /// What each server counted, in the order of [`Sim::serve`](super::Sim::serve), and behind them the clients.
    pub stats: Vec<Snapshot>,
    /// Everything that happened.
    pub trace: Trace,
}

/// One connection's fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Where it went.
    pub address: Address,
    /// When it was begun.
    pub opened: Duration,
    /// When the side that began it closed it, and when the other did; `None` if that side never had it.
    pub closed: [Option<Duration>; 2],
    /// From the side that began it.
    pub up: Flow,
    /// To the side that began it.
    pub down: Flow,
    /// What the network did to it. `None`: whatever went wrong was one of the sides' doing.
    pub cut: Option<Cut>,
}

/// Bytes that went in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Taken from the sender.
    pub sent: u64,
    /// Arrived at the receiving end.
    pub arrived: u64,
    /// Received by the loop there.
    pub received: u64,
}

/// A run that went wrong, and the seed that makes it go wrong again.
#[derive(Debug, thiserror::Error)]
pub struct Failure {
    /// The seed it came from.
    pub seed: u64,
    /// What went wrong.
    pub why: Why,
    /// Everything that happened before.
    pub trace: Trace,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trace.told(&self.why))
    }
}

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// A session, a service or a job panicked. A server would have closed that connection and gone on.
    #[error("the service panicked: {0}")]
    Panicked(String),
    /// Nothing more would happen within the limit although connections were open.
    #[error("{open} connections were still open when nothing more would happen within the limit, at {now:?}")]
    Hung {
        /// How many.
        open: usize,
        /// The virtual time of the last event.
        now: Duration,
    },
    /// A loop goes in circles without time passing.
    #[error("a loop takes turn after turn without time passing")]
    Livelock,
    /// The nodes were told to drain when all connections were closed, and did not.
    #[error("a node does not drain although all its connections are closed")]
    Undrained,
    /// The budget's accounts were not back at zero at the end.
    #[error("{left} {what} are left on the budget although everything is over")]
    Leaked {
        /// What was counted.
        what: &'static str,
        /// How much of it is left.
        left: usize,
    },
    /// A loop ended with an error.
    #[error("a loop failed: {0}")]
    Loop(io::Error),
}
