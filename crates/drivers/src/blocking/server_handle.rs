//! What the thread of a connection knows of its server.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc};

use roadstead_proto::connection::Endpoint;

use crate::orders::Order;

/// Through which the thread of a connection reaches its server.
pub trait ServerHandle: Send + Sync {
    /// What the server wants now.
    fn order(&self) -> Order;
    /// Opens a connection in a thread of its own and drives `endpoint` on it.
    fn connect(self: Arc<Self>, address: SocketAddr, endpoint: Box<dyn Endpoint>);
}
