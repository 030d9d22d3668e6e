//! Who is at the other end of a connection, and how far what is known of it reaches.
#![forbid(unsafe_code)]

use crate::address::Address;

/// How far a service's state reaches. See [`Service::SCOPE`](crate::Service::SCOPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Connections know nothing of each other: every model can run the service.
    Connection,
    /// Connections share state in the memory of one process, be it a table, a counter, a channel or a lock.
    Process,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The address the connection came from, or goes to. A client of a Unix socket seldom has a name.
    pub address: Address,
}
