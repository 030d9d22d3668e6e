//! What a loop and the endpoint of a connection say to each other: what happened, and what to do next.
#![forbid(unsafe_code)]

use std::{fmt, io, ops::Deref, sync::Arc, time::Duration};

use bytes::BytesMut;

use crate::{
    address::Address,
    blob::FileRange,
    flight::Operation,
    host::Host,
    layer::Identity,
    output::{Lent, Output},
    ticket::{Token, WakeQueue},
};

/// What happened to a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The handshake of the layer below has begun, or has come on.
    Shaking,
    /// The layer below knows who the peer is. Comes before [`Event::Opened`].
    Proven(Arc<Identity>),
    /// It exists: accepted, or an outgoing connection was answered; and its layer is ready, if there is one.
    Opened,
    /// These bytes came. The connection takes what it wants out of the block and clears it.
    Received(&'a mut BytesMut),
    /// The peer has finished sending.
    Ended,
    /// So many bytes at the front of the output were sent.
    Sent(u64),
    /// What [`Op::Read`] has come to.
    Read(&'a mut io::Result<BytesMut>),
    /// The system has no room for this operation, which has moved nothing and is no longer in flight. The connection
    /// asks for it again after a rest.
    Exhausted(Operation),
    /// The system failed it.
    Failed(io::Error),
    /// It was woken through the loop's [`WakeQueue`].
    Woken,
    /// A deadline may have passed.
    Tick,
    /// The server begins to drain. Who comes while it does hears of that before [`Event::Opened`].
    Drain,
    /// The server stops now.
    Stop,
}

/// What to do next for a connection.
#[derive(Debug)]
pub enum Op {
    /// Receive up to so many bytes; done with [`Event::Received`] or [`Event::Ended`].
    Receive(usize),
    /// Send from the front of [`Endpoint::output`]; done with [`Event::Sent`].
    Send,
    /// Read the first bytes of [`Endpoint::file`], at most a [`BLOCK`](crate::flight::BLOCK); done with [`Event::Read`].
    /// What a layer has to seal is read so. Nothing is sent meanwhile.
    Read,
    /// Finish sending (`shutdown` for writing).
    Shutdown,
    /// Open another connection. Boxed, so that an operation fits into two registers.
    Connect(Box<Outgoing>),
    /// Begin this connection again, to [`Endpoint::address`]: there was no room for it ([`Event::Exhausted`]).
    Redial,
    /// Cancel what is in flight and close; with `reset`, without care for what was not sent. Nothing follows.
    Close {
        /// Whether the peer sees a reset.
        reset: bool,
    },
}

/// A connection that is to be opened, to the address of its endpoint.
#[derive(Debug)]
pub struct Outgoing {
    /// What is driven on it.
    pub endpoint: Box<dyn Endpoint>,
}

/// What a connection will ask for when it is asked: a set that a loop can look at without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending(u8);

impl Pending {
    /// [`Endpoint::next`] would answer `None`.
    pub const NOTHING: Self = Self(0);
    /// [`Op::Receive`], once.
    pub const RECEIVE: Self = Self(1);
    /// [`Op::Send`], once.
    pub const SEND: Self = Self(2);
    /// Perhaps any operation: [`Endpoint::next`] is asked until it answers `None`.
    pub const ANY: Self = Self(4);
    /// No operation: the deadline is no sooner than it was when the connection was settled before.
    pub const NO_SOONER: Self = Self(8);

    /// Adds `what`, if it is `so`.
    #[must_use]
    pub(crate) fn with(self, what: Self, so: bool) -> Self {
        if so { Self(self.0 | what.0) } else { self }
    }

    /// Whether `what` is in it.
    pub(crate) fn has(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// Takes `what` out; whether it was in.
    pub(crate) fn take(&mut self, what: Self) -> bool {
        let had = self.has(what);
        self.0 &= !what.0;
        had
    }
}

/// A [`Connection`](crate::connection::Connection) whose session type is forgotten, as the loops see it.
pub trait Endpoint: Send + fmt::Debug {
    /// The connection lives from `now` on in the loop whose wake queue is `wake_queue`, under the name `token`.
    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration);
    /// Something happened at `now`. Answers what is to be asked for.
    fn handle(&mut self, now: Duration, event: Event<'_>, host: &mut Host) -> Pending;
    /// The next operation, each once, until `None`.
    fn next(&mut self) -> Option<Op>;
    /// Where the connection comes from, or goes to.
    fn address(&self) -> &Address;
    /// What it was told to have happened at `from` has happened by `to`: who told it had not looked at the clock
    /// between.
    fn correct(&mut self, from: Duration, to: Duration);
    /// When to send [`Event::Tick`], if nothing else happens before.
    fn deadline(&self) -> Option<Duration>;
    /// What is to be sent.
    fn output(&self) -> &Output;
    /// The part of a file that is to be read, if there is one.
    fn file(&self) -> Option<FileRange> {
        None
    }
    /// Hands over what comes next of the output, in `lent`, which is empty, for an operation that works on it by itself. Not
    /// while a part of the last loan was not sent and has not come home: [`Output::is_lent`].
    fn lend(&mut self, lent: &mut Lent);
    /// What was lent comes home, after [`Event::Sent`], or where nothing came of it.
    fn take_back(&mut self, lent: &mut Lent);
    /// The loop is about to leave the connection: what it still holds is charged to the budget. Answers what is to be
    /// asked for.
    fn settle(&mut self, now: Duration, host: &mut Host) -> Pending;
    /// Whether nothing can happen to it but bytes and deadlines: no ticket or waker is out, no message is half read.
    fn is_quiet(&self) -> bool;
    /// Whether everything was said, and nothing is waited for but the peer's end.
    fn awaits_end(&self) -> bool;
}

/// An endpoint as a loop holds it: that it has nothing to ask for is known without a call.
#[derive(Debug)]
pub struct Driven {
    endpoint: Box<dyn Endpoint>,
    pending: Pending,
    no_sooner: bool,
}

impl Driven {
    /// Nothing is known yet of what it asks for.
    pub fn new(endpoint: Box<dyn Endpoint>) -> Self {
        Self { endpoint, pending: Pending::ANY, no_sooner: false }
    }

    /// [`Endpoint::place`].
    pub fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration) {
        self.endpoint.place(token, wake_queue, now);
    }

    /// [`Endpoint::handle`].
    pub fn handle(&mut self, now: Duration, event: Event<'_>, host: &mut Host) {
        self.pending = self.endpoint.handle(now, event, host);
        self.no_sooner = false;
    }

    /// Whether [`Driven::next`] may have something to answer.
    #[inline]
    pub fn asks(&self) -> bool {
        self.pending != Pending::NOTHING
    }

    /// [`Endpoint::next`].
    #[allow(clippy::should_implement_trait, reason = "it is the endpoint's method, under its name")]
    #[inline]
    pub fn next(&mut self) -> Option<Op> {
        if !self.asks() {
            return None;
        }
        let op = self.endpoint.next();
        match op {
            Some(Op::Receive(_)) => self.pending.take(Pending::RECEIVE),
            Some(Op::Send) => self.pending.take(Pending::SEND),
            None => self.pending.take(Pending::ANY),
            _ => false,
        };
        op
    }

    /// [`Endpoint::correct`].
    pub fn correct(&mut self, from: Duration, to: Duration) {
        self.endpoint.correct(from, to);
    }

    /// [`Endpoint::lend`].
    pub fn lend(&mut self, lent: &mut Lent) {
        self.endpoint.lend(lent);
    }

    /// [`Endpoint::take_back`].
    pub fn take_back(&mut self, lent: &mut Lent) {
        self.endpoint.take_back(lent);
    }

    /// [`Endpoint::settle`].
    pub fn settle(&mut self, now: Duration, host: &mut Host) {
        self.pending = self.endpoint.settle(now, host);
        self.no_sooner = self.pending.take(Pending::NO_SOONER);
    }

    /// Whether its deadline, since it was settled, is no sooner than when it was settled before: who noted that need not
    /// ask.
    #[inline]
    pub fn is_due_no_sooner(&self) -> bool {
        self.no_sooner
    }
}

impl Deref for Driven {
    type Target = dyn Endpoint;
    fn deref(&self) -> &Self::Target {
        &*self.endpoint
    }
}
