//! What the thread of a connection knows of those beside it.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc};

use roadstead_proto::connection::Endpoint;

use crate::orders::Order;

/// Those who serve the connections of one process.
pub trait Supervisor: Send + Sync {
    /// What the server wants now.
    fn order(&self) -> Order;
    /// Opens a connection in a thread of its own and drives `endpoint` on it.
    fn connect(self: Arc<Self>, address: SocketAddr, endpoint: Box<dyn Endpoint>);
}
