//! The life of a connection through a layer, from before its handshake to after its last word.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

/// Where it is.
#[derive(Debug)]
pub(super) enum Phase {
    Connecting,
    Handshake,
    Open,
    /// The layer cannot go on. Its alert has until then to reach the peer; the connection is told the reason after.
    Failing(Option<io::Error>, Duration),
    /// The connection is over; what the layer has to say about that has until then to leave.
    Closing(Duration),
    Closed,
}
