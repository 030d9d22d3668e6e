//! A run as it is asked for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use roadstead_proto::{budget::Budget, datagrams::DatagramEndpoint, host::Shared};

use super::faults::DatagramFaults;
use crate::dice::Dice;

/// Makes what is driven on a node's socket.
pub(super) type Make = Box<dyn FnOnce(&Arc<Shared>) -> Box<dyn DatagramEndpoint>>;

/// A node, before it is made.
pub(super) struct Seat {
    pub(super) address: SocketAddr,
    pub(super) make: Make,
    /// The run waits for it to finish.
    pub(super) is_client: bool,
}

/// A datagram that somebody sends in the name of another.
pub(super) struct Forged {
    pub(super) after: Duration,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// A run as it is asked for.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) dice: Dice,
    pub(super) faults: DatagramFaults,
    pub(super) budget: Budget,
    pub(super) nodes: Vec<Seat>,
    pub(super) forged: Vec<Forged>,
    pub(super) drain_after: Option<Duration>,
}
