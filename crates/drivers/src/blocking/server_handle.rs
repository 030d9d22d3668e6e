//! What the thread of a connection knows of its server.
#![forbid(unsafe_code)]

use std::sync::Arc;

use roadstead_proto::connection::Endpoint;

use crate::orders::Order;

/// Through which the thread of a connection reaches its server.
pub trait ServerHandle: Send + Sync {
    /// What the server wants now.
    fn order(&self) -> Order;
    /// Opens a connection to the address of `endpoint`, in a thread of its own that drives it.
    fn connect(self: Arc<Self>, endpoint: Box<dyn Endpoint>);
}
