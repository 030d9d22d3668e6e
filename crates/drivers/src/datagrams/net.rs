//! What the datagrams' loop asks of a network: the system's sockets, or made-up ones in the simulator.
#![forbid(unsafe_code)]

use std::{io, net::SocketAddr, time::Duration};

use roadstead_proto::{
    datagrams::{Batch, Outbox},
    ticket::Token,
};

use crate::{net::Failure, reactor::Readiness};

/// What datagram sockets can be asked, and how readiness is learnt. Every call but [`DatagramNet::wait`] answers at
/// once, if need be with [`Failure::Empty`].
pub trait DatagramNet {
    /// A bound socket.
    type Socket;
    /// What a call of this network has failed for. [`Failure::Passing`]: for something else than what was asked; asked
    /// again it may work.
    fn classify(error: &io::Error) -> Failure;
    /// The time since the engine started.
    fn now(&self) -> Duration;
    /// Tells of changes of the socket's readiness from now on.
    fn watch(&mut self, socket: &Self::Socket, token: Token) -> io::Result<()>;
    /// Waits until something is ready, the time is over, or the loop's wake queue interrupts.
    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()>;
    /// Receives into the empty `batch` what is there and fits.
    fn receive(&mut self, socket: &Self::Socket, batch: &mut Batch) -> io::Result<()>;
    /// Sends from the front of `outbox`, which is not empty. Answers how many of its datagrams were taken, be it some of
    /// an entry's; an error is about the first.
    fn send(&mut self, socket: &Self::Socket, outbox: &Outbox) -> io::Result<usize>;
    /// The next address of which the network has said that nobody receives there.
    fn unreachable(&mut self, socket: &Self::Socket) -> Option<SocketAddr>;
    /// Closes it, and tells of it no more.
    fn close(&mut self, socket: Self::Socket);
}
