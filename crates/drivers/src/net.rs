//! What the loops ask of a network: the system's sockets, or made-up ones in the simulator.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{address::Address, output::Output};

pub use roadstead_proto::flight::REST;

/// What a socket can be asked without waiting. Every call answers at once, if need be with
/// [`io::ErrorKind::WouldBlock`].
pub trait Net {
    /// A listening socket.
    type ListenSocket;
    /// A connected socket.
    type Stream;
    /// What a call of this network has failed for.
    fn classify(error: &io::Error) -> Failure;
    /// The time since the engine started.
    fn now(&self) -> Duration;
    /// Takes one connection out of the backlog.
    fn accept(&mut self, listener: &Self::ListenSocket) -> io::Result<(Self::Stream, Address)>;
    /// There are no descriptors left: takes one connection out of the backlog and closes it. False if even that fails.
    fn shed(&mut self, listener: &Self::ListenSocket) -> bool;
    /// Begins a connection; writable when it is decided.
    fn connect(&mut self, address: &Address) -> io::Result<Self::Stream>;
    /// How a connection that was begun was decided; [`io::ErrorKind::WouldBlock`] if it is not yet.
    fn connected(&mut self, stream: &Self::Stream) -> io::Result<()>;
    /// Receives up to `most` bytes into `block`, which it empties first; zero is the peer's end.
    fn receive(&mut self, stream: &Self::Stream, block: &mut BytesMut, most: usize) -> io::Result<usize>;
    /// Sends from the front of `output`; answers how many bytes were taken.
    fn send(&mut self, stream: &Self::Stream, output: &Output) -> io::Result<u64>;
    /// Finishes sending.
    fn shutdown(&mut self, stream: &Self::Stream);
    /// Closes; with `reset` the peer sees one.
    fn close(&mut self, stream: Self::Stream, reset: bool);
}

/// What a call has failed for, as far as a loop can tell one from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing is there yet.
    #[error("it would have to wait")]
    Empty,
    /// It concerns one connection in the backlog and not the listener.
    #[error("the connection broke while it waited")]
    Passing,
    /// No descriptors are left.
    #[error("no descriptors are left")]
    NoDescriptors,
    /// The system has no room for it now: the call has no fault of its own.
    #[error("the system has no room")]
    NoRoom,
    /// Anything else.
    #[error("it failed")]
    Other,
}

impl Failure {
    /// The failure that `error` was made of, by a network that makes its own.
    pub fn inside(error: &io::Error) -> Self {
        let made = error.get_ref().and_then(|inner| inner.downcast_ref().copied());
        let other = if error.kind() == io::ErrorKind::WouldBlock { Self::Empty } else { Self::Other };
        made.unwrap_or(other)
    }
}
