//! The replaceable part of a proactor: where operations are submitted, and completions arrive.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{address::Address, blob::FileRange, output::Lent, ticket::Token};

use super::blocks::Block;
use crate::{accept::Taken, net::Failure};

/// Where operations are submitted, and completions arrive.
///
/// Of each connection at most one operation of each kind is in flight. Every operation completes once, also one that
/// fails or is cancelled; a receive may have told of parts before.
pub trait CompletionQueue {
    /// A connected socket that has no name yet.
    type Stream;

    /// What an operation has failed for.
    fn classify(error: &io::Error) -> Failure;
    /// The time since the engine started.
    fn now(&self) -> Duration;
    /// Accepts one more connection from the listener of that number: so many may come as were asked for.
    fn accept(&mut self, listener: usize);
    /// Listens no more. Who waits until then is accepted first, or else left to whoever has the listeners as well.
    fn deafen(&mut self, accepts: bool);
    /// Takes a connected socket under the name by which operations speak of it.
    fn adopt(&mut self, stream: Self::Stream, token: Token) -> io::Result<()>;
    /// Connects a new socket of this name.
    fn connect(&mut self, address: Address, token: Token);
    /// Receives up to `credit` bytes, in one part or in several. By how many operations of the system is the completion
    /// queue's concern: what comes beyond the credit it keeps until there is more.
    fn receive(&mut self, token: Token, credit: usize);
    /// Sends from the front of `lent`, which comes home by [`Completion::Released`]. While the peer has no room this is a
    /// wait for it: [`Completion::Full`].
    fn send(&mut self, token: Token, lent: Box<Lent>);
    /// Reads the first bytes of a part of a file, at most a [`BLOCK`](roadstead_proto::connection::BLOCK).
    fn read(&mut self, token: Token, range: Box<FileRange>);
    /// Finishes sending.
    fn shutdown(&mut self, token: Token);
    /// Tries what is in flight for this connection, told or not that it would work. What comes of that is followed by
    /// [`Completion::Looked`].
    fn look(&mut self, token: Token);
    /// Has whatever is in flight for this connection complete soon.
    fn cancel(&mut self, token: Token);
    /// Closes a socket for which nothing is in flight; with `reset` the peer sees one. What it was lent may come home
    /// later.
    fn close(&mut self, token: Token, reset: bool);
    /// Closes a connected socket that was never adopted; the peer sees a reset.
    fn refuse(&mut self, stream: Self::Stream);
    /// Whether something is done already, so that nobody should wait.
    fn has_done(&self) -> bool;
    /// Waits until something is done, the time is over, or the loop's wake queue interrupts.
    fn wait(&mut self, done: &mut Vec<Completion<Self::Stream>>, timeout: Option<Duration>)
    -> io::Result<()>;
}

/// One operation that is done.
pub enum Completion<S> {
    /// What an accept on the listener of that number came to, and what the peer has sent already, where the system
    /// brings that along: as [`Completion::Received`] does.
    Accepted(usize, Taken<S>, Option<Block>),
    /// How a connection that was begun was decided.
    Connected(Token, io::Result<()>),
    /// What has come, in a block that goes home when it is dropped. An empty one is the peer's end.
    Received {
        /// For whom.
        token: Token,
        /// What the receive came to.
        result: io::Result<Block>,
        /// The receive is not over: more may come of what it was asked for, which was not all of it yet.
        more: bool,
    },
    /// So many bytes were sent. The system may need them still: see [`Completion::Released`].
    Sent(Token, io::Result<u64>),
    /// A send has no room at its peer. It stays in flight, as a wait for that, and needs nothing that it was lent.
    Full(Token),
    /// Such a wait is over.
    Room(Token),
    /// What was lent to a send comes home, once, and never before what the send came to was told. Until then it is
    /// charged and counts among what all connections lend, whether it was sent or not. So who waits for the peer with this
    /// must not do so for more than a part of that: a completion queue that sends without copying copies what is beyond.
    Released(Token, Box<Lent>),
    /// What was read of a file.
    Read(Token, io::Result<BytesMut>),
    /// What was in flight has been tried.
    Looked(Token),
}
