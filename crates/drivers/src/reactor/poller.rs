//! The replaceable part of a reactor: how readiness is learnt.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use roadstead_proto::ticket::Token;

use crate::net::Net;

/// How readiness is learnt.
pub trait Poller<N: Net> {
    /// Tells of connections that wait in the backlog, for as long as there are any.
    fn listen(&mut self, listener: &N::ListenSocket, token: Token) -> io::Result<()>;
    /// Tells no more of the backlog.
    fn ignore(&mut self, listener: &N::ListenSocket);
    /// Tells of a connection's readiness from now on.
    fn add(&mut self, stream: &N::Stream, token: Token) -> io::Result<()>;
    /// What the loop wants to hear of now; for pollers that would repeat themselves otherwise.
    fn interest(&mut self, stream: &N::Stream, token: Token, receive: bool, send: bool) -> io::Result<()>;
    /// Tells no more of a connection, which is about to be closed.
    fn remove(&mut self, stream: &N::Stream);
    /// Waits until something is ready, the time is over, or the loop's wake queue interrupts. `idle`: in the turn
    /// before nothing has moved.
    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, idle: bool) -> io::Result<()>;
}

/// What a poller says of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Which.
    pub token: Token,
    /// A receive would not block.
    pub readable: bool,
    /// A send would not block.
    pub writable: bool,
    /// A receive that is not filled may not be the last: the peer's end may be behind it, or what follows urgent data.
    pub more: bool,
}
