//! What a run is made of, before it begins.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use super::{dice::Dice, faults::Faults, sockets::Ear, tenant::Tenant, trace::Notes};
use crate::{
    accept::Door,
    budget::{Budget, Permit},
    connection::Endpoint,
    host::Shared,
    layer::Layers,
    orders::Orders,
    ticket::Bell,
};

/// What a run is made of.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) dice: Dice,
    pub(super) faults: Faults,
    pub(super) budget: Budget,
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<(SocketAddr, MakeClient)>,
    pub(super) drain_after: Option<Duration>,
    pub(super) stops: Vec<Stop>,
    /// Nodes whose connections have a delay of their own.
    pub(super) slow: BTreeMap<SocketAddr, Duration>,
    pub(super) cuts: BTreeMap<usize, (usize, u64)>,
    pub(super) notes: Notes,
    /// Between the wire and the sessions of servers, and of clients.
    pub(super) layers: Option<(Arc<dyn Layers>, Arc<dyn Layers>)>,
}

/// A node that is to be, and where it listens.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) door: MakeDoor,
    /// If there is more to it than its connections.
    pub(super) seat: Option<Seat>,
}

/// A tenant, and how its loop is told what to do.
pub(super) struct Seat {
    pub(super) tenant: Tenant,
    pub(super) orders: Arc<Orders>,
    pub(super) bell: Arc<Bell>,
}

/// When a node stops.
pub(super) struct Stop {
    pub(super) node: usize,
    pub(super) at: Duration,
}

/// Makes a server's door once there is a listener for it.
pub(super) type MakeDoor = Box<dyn FnOnce(Ear, Arc<Shared>, Option<Arc<dyn Layers>>) -> Door<Ear>>;
/// Makes a client's endpoint once there is a node for it.
pub(super) type MakeClient = Box<dyn FnOnce(Arc<Shared>, Permit, Option<&dyn Layers>) -> Box<dyn Endpoint>>;
