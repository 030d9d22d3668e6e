//! What lives on a node beside its connections, and may have more to do when all clients are gone.

use std::{sync::Arc, time::Duration};

use crate::{connection::Endpoint, host::Shared, orders::Orders, ticket::Bell};

/// What lives on a node beside its connections.
pub(crate) trait Resident {
    /// What it has to do or keeps, each by its name and with how much of it there is: none when all is over.
    fn held(&self) -> Vec<(&'static str, usize)>;
    /// What it keeps, if nobody is left who would take it.
    fn stranded(&self) -> Option<(&'static str, usize)>;
}

/// A resident, and what its node has of it.
pub(crate) struct Tenant {
    pub(crate) resident: Box<dyn Resident>,
    /// The limits and the accounts of its node.
    pub(crate) shared: Arc<Shared>,
    /// Its session without a connection, which the node's loop drives.
    pub(crate) attended: Box<dyn Endpoint>,
    /// When it starts.
    pub(crate) from: Duration,
}

/// Stops a tenant's loop when it is dropped.
#[must_use]
pub(crate) struct Tenancy {
    pub(super) orders: Arc<Orders>,
    pub(super) bell: Arc<Bell>,
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.orders.stop(&self.bell);
    }
}
