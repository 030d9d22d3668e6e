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

impl Phase {
    /// What has until `from` to happen has until `to`.
    pub(crate) fn put_off(&mut self, from: Duration, to: Duration) {
        if let Self::Failing(_, until) | Self::Closing(until) = self
            && *until == from
        {
            *until = to;
        }
    }
}
