//! A poller that any thread may ask to tell of a connection once.
#![forbid(unsafe_code)]

use std::io;

use roadstead_proto::ticket::Token;

use crate::net::Net;

/// Has connections told of once, and no more until that is asked for again, which any thread may do.
pub trait OneShot<N: Net> {
    /// Tells once of a new connection.
    fn add(&self, stream: &N::Stream, token: Token, receive: bool, send: bool) -> io::Result<()>;
    /// Tells once more: at once, if it is ready already.
    fn arm(&self, stream: &N::Stream, token: Token, receive: bool, send: bool) -> io::Result<()>;
}
