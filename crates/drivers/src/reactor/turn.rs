//! How a connection's turn came out.
#![forbid(unsafe_code)]

use roadstead_proto::address::Address;

/// How a connection's turn came out.
#[derive(Debug)]
pub enum Turn {
    /// It waits: for the poller, or for its deadline.
    Rests,
    /// It has more to do although nothing new has happened to it, and it is the others' turn.
    HasMore,
    /// It is to be begun again, to this address.
    Dials(Address),
    /// It is to be closed.
    Closes {
        /// Whether the peer sees a reset.
        reset: bool,
    },
}
