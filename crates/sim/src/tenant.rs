//! What lives on a node beside its connections, and may have more to do when all clients are gone.

use std::{sync::Arc, time::Duration};

use roadstead_drivers::orders::Orders;
use roadstead_proto::{connection::Endpoint, host::Shared, ticket::WakeQueue};

/// What lives on a node beside its connections.
pub trait Resident {
    /// What it has to do or keeps, each by its name and with how much of it there is: none when all is over.
    fn held(&self) -> Vec<(&'static str, usize)>;
    /// What it keeps, if nobody is left who would take it.
    fn stranded(&self) -> Option<(&'static str, usize)>;
}

/// A resident, and what its node has of it.
pub struct Tenant {
    /// What is asked whether all is over.
    pub resident: Box<dyn Resident>,
    /// The limits and the accounts of its node.
    pub shared: Arc<Shared>,
    /// Its sessions without a connection, of which each loop of the node drives one: [as many as it has](crate::Sim::loops),
    /// or fewer.
    pub attended: Vec<Box<dyn Endpoint>>,
    /// When it starts.
    pub from: Duration,
}

/// Stops a tenant's loops when it is dropped.
#[must_use]
pub struct Tenancy {
    pub(crate) loops: Vec<(Arc<Orders>, Arc<WakeQueue>)>,
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.loops.iter().for_each(|(orders, wake_queue)| orders.stop(wake_queue));
    }
}
