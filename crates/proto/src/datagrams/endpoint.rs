//! What a loop and a socket's session say to each other: what happened, and what waits to be sent.
#![forbid(unsafe_code)]

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use super::{batch::Batch, outbox::Outbox};
use crate::{
    host::Host,
    ticket::{Token, WakeQueue},
};

/// What happened to a socket.
#[derive(Debug)]
pub enum DatagramEvent<'a> {
    /// It is bound, and the loop looks at it.
    Opened,
    /// These came.
    Came(&'a Batch),
    /// So many datagrams at the front of the [`Outbox`] have left.
    Left(usize),
    /// The entry at the front will never leave: it is too long for the way, or there is none.
    Undeliverable,
    /// Nobody receives at this address, says the network: that may be forged.
    Unreachable(SocketAddr),
    /// It was woken through the loop's [`WakeQueue`].
    Woken,
    /// A deadline may have passed.
    Tick,
    /// The server begins to drain. What had come before was told before.
    Drain,
    /// The server stops now.
    Stop,
}

/// A socket's [`Datagrams`](super::Datagrams) whose service is forgotten, as the loops see it.
pub trait DatagramEndpoint: Send + fmt::Debug {
    /// The socket lives from `now` on in the loop whose wake queue is `wake_queue`, under the name `token`.
    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration);
    /// Something happened at `now`.
    fn handle(&mut self, now: Duration, event: DatagramEvent<'_>, host: &mut Host);
    /// What waits to be sent.
    fn outbox(&self) -> &Outbox;
    /// Whether to receive: not while more waits to be sent than its high-water mark, nor when the session has finished.
    /// The system then keeps what comes, and drops what it has no room for.
    fn receives(&self) -> bool;
    /// When to send [`DatagramEvent::Tick`], if nothing else happens before.
    fn deadline(&self) -> Option<Duration>;
    /// The loop is about to leave the socket: what still waits to be sent is charged to the budget. Where there is no
    /// room for it, it is dropped, and the socket may then be over.
    fn settle(&mut self, now: Duration, host: &mut Host);
    /// Whether it is over, and the socket can be closed.
    fn is_over(&self) -> bool;
}
