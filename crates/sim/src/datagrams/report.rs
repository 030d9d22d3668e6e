//! What a run of datagrams came to.

use std::{net::SocketAddr, time::Duration};

use roadstead_proto::stats::Snapshot;

use super::{
    faults::DatagramFaults,
    trace::{DatagramFlow, DatagramTrace},
};
use crate::report::Why;

/// How many of the last events are shown with a failure.
const SHOWN: usize = 40;

/// A run in which nothing panicked, hung or leaked.
#[derive(Debug, Clone, PartialEq)]
pub struct DatagramReport {
    /// The seed it came from.
    pub seed: u64,
    /// How unkind the network was.
    pub faults: DatagramFaults,
    /// The virtual time it took.
    pub took: Duration,
    /// What each node counted, in the order in which they were named.
    pub stats: Vec<Snapshot>,
    /// Everything that happened.
    pub trace: DatagramTrace,
}

impl DatagramReport {
    /// What went from one address to another.
    pub fn flow(&self, from: SocketAddr, to: SocketAddr) -> DatagramFlow {
        self.trace.flows.get(&(from, to)).copied().unwrap_or_default()
    }
}

/// A run that went wrong, and the seed that makes it go wrong again.
#[derive(Debug, thiserror::Error)]
#[error("{why}; the last events were\n{}", self.trace.tail(SHOWN))]
pub struct DatagramFailure {
    /// The seed it came from.
    pub seed: u64,
    /// What went wrong.
    pub why: Why,
    /// Everything that happened before.
    pub trace: DatagramTrace,
}
