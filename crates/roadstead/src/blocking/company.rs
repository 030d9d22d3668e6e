//! What the thread of a connection knows of those beside it.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc};

use crate::connection::Endpoint;

/// What the server wants of every connection's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orders {
    Serve,
    Drain,
    Stop,
}

/// Those who serve the connections of one process.
pub(crate) trait Company: Send + Sync {
    /// What the server wants now.
    fn orders(&self) -> Orders;
    /// Opens a connection in a thread of its own and drives `endpoint` on it.
    fn connect(self: Arc<Self>, address: SocketAddr, endpoint: Box<dyn Endpoint>);
}
