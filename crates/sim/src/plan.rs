//! What a run is made of, before it begins.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use roadstead_drivers::{accept::Listener, orders::Orders};
use roadstead_proto::{
    Address,
    budget::{Budget, Permit},
    connection::Endpoint,
    host::Shared,
    layer::Layers,
    ticket::WakeQueue,
};

use crate::{dice::Dice, faults::Faults, sockets::ListenSocket, tenant::Tenant, trace::Notes};

/// What a run is made of.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    pub(super) faults: Faults,
    pub budget: Budget,
    pub(crate) workers: usize,
    pub(super) servers: Vec<Server>,
    pub(crate) clients: Vec<MakeClient>,
    pub(super) drain_after: Option<Duration>,
    pub(super) stops: Vec<Stop>,
    /// Nodes whose connections have a delay of their own.
    pub(crate) slow: BTreeMap<Address, Duration>,
    pub(super) cuts: BTreeMap<usize, (usize, u64)>,
    pub(super) notes: Notes,
    /// Between the wire and the sessions of servers, and of clients.
    pub layers: Option<(Arc<dyn Layers>, Arc<dyn Layers>)>,
}

/// A node that is to be, and where it listens.
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) listener: MakeListener,
    /// If there is more to it than its connections.
    pub(super) seat: Option<Seat>,
}

/// A tenant, and how each of its loops is told what to do.
pub(super) struct Seat {
    pub(crate) tenant: Tenant,
    pub(crate) loops: Vec<(Arc<Orders>, Arc<WakeQueue>)>,
}

/// When a node stops.
pub(crate) struct Stop {
    pub(super) node: usize,
    pub(crate) at: Duration,
}

/// Makes a server's listener once there is a socket for it.
pub(super) type MakeListener =
    Box<dyn FnOnce(ListenSocket, Arc<Shared>, Option<Arc<dyn Layers>>) -> Listener<ListenSocket>>;
/// Makes a client's endpoint once there is a node for it.
pub(super) type MakeClient = Box<dyn FnOnce(Arc<Shared>, Permit, Option<&dyn Layers>) -> Box<dyn Endpoint>>;
