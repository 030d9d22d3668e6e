//! One connection without any I/O.
//!
//! A [`Connection`] drives a session. It is told what happened and when ([`Endpoint::handle`]) and answers what to do
//! next ([`Endpoint::next`]) and when to look again ([`Endpoint::deadline`]). Everything that does not depend on how
//! the system is asked lives here once: write order, backpressure, half-close, deadlines, budgets, tickets, and how a
//! connection ends. The cores are loops around it, and so is the simulator.
//!
//! ```text
//! Connecting ──opened──▶ Open ──finish, all sent──▶ Lingering ──peer's end, or time──▶ Closed
//!      └────────────────── failure, deadline, budget, abort ─────────────────────────────┘
//! ```
//! A session that has only finished sending stays open until the peer's end has come as well.
//!
//! An operation that [`next`](Endpoint::next) has answered is in flight until the event that completes it was handled;
//! there is at most one receive and one send in flight. In the reactor an operation in flight is the wish to be told of
//! readiness; in a proactor it is a submission.
//!
//! A session is tested without I/O by playing the loop:
//!
//! ```
//! # use roadstead_proto as roadstead;
//! use std::{io::IoSlice, time::Duration};
//! use bytes::BytesMut;
//! use roadstead::{
//!     Budget, Context, Done, Input, Peer, Session,
//!     connection::{Connection, Endpoint, Event, Op},
//!     host::{Host, Shared},
//!     ticket::Token,
//! };
//!
//! struct Shout;
//! impl Session for Shout {
//!     type Reply = ();
//!     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
//!         cx.output().write(&input.bytes().to_ascii_uppercase());
//!         input.consume(usize::MAX);
//!         Ok(())
//!     }
//! }
//!
//! let shared = Shared::new(Budget::default());
//! let mut host = Host::alone(shared.clone(), 1);
//! let permit = shared.gate.admit(None)?;
//! let peer = Peer { address: "192.0.2.1:7".parse()? };
//! let mut connection = Connection::accepted(Shout, peer, shared, permit);
//!
//! let now = Duration::ZERO;
//! connection.place(Token(1), host.wake_queue(), now);
//! connection.handle(now, Event::Opened, &mut host);
//! assert!(matches!(connection.next(), Some(Op::Receive(_))));
//! connection.handle(now, Event::Received(&mut BytesMut::from("ahoy")), &mut host);
//! assert!(matches!(connection.next(), Some(Op::Send)));
//! let mut slices = [IoSlice::new(&[])];
//! connection.output().gather(&mut slices);
//! assert_eq!(&slices[0][..], b"AHOY");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod calls;
pub mod dialling;
mod ending;
mod pacing;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, mem, sync::Arc, time::Duration};

use crate::{
    address::Address,
    budget::{Charge, Permit},
    flight::Flight,
    host::{Host, Shared},
    layer::Identity,
    output::{Lent, Output},
    pace::Pace,
    reading::Reading,
    service::{Closed, Peer, Session},
    session::Control,
    ticket::{Mailbox, Token, WakeFlag, WakeQueue, Waker},
    unread::Unread,
};
pub use crate::{
    endpoint::{Driven, Endpoint, Event, Op, Outgoing, Pending},
    flight::{BLOCK, Operation},
};

/// Looked at many times for every message: with its tag in a byte, and not in what a duration leaves unused, that costs
/// one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Connecting,
    Open,
    /// Everything was sent, and unless the peer is to be first our end too; the peer's is awaited until then.
    Lingering(Duration),
    Closed,
}

/// One connection: a session and everything about it that is not I/O.
pub struct Connection<S: Session> {
    session: Option<S>,
    peer: Peer,
    /// Who the peer has proven to be.
    identity: Option<Arc<Identity>>,
    token: Token,
    shared: Arc<Shared>,
    phase: Phase,
    outgoing: bool,
    /// Unread bytes that the session left.
    held: Unread,
    /// Bytes that came and that the session, having finished, will not see.
    unread: u64,
    /// Do not call `receive` with fewer unread bytes.
    need: usize,
    output: Output,
    control: Control,
    mailbox: Option<Arc<Mailbox<S::Reply>>>,
    flight: Flight,
    /// What [`next`](Endpoint::next) answers until something happens.
    pending: Pending,
    /// How much is received then.
    room: usize,
    /// It [waits for nothing but bytes](Connection::is_at_rest), and did when it was settled last.
    rested: bool,
    /// The output passed its high-water mark and has not fallen below half of it.
    flooded: bool,
    peer_ended: bool,
    end_told: bool,
    /// Our end was asked for while the session reads on.
    half_closed: bool,
    /// The server began to drain while it was being opened: it is told once something was read, and all of it.
    drains: bool,
    /// The op that ends this phase has not been answered yet.
    farewell: Option<Farewell>,
    /// Why it will have closed, if the session said so.
    verdict: Option<Cow<'static, str>>,
    opened: Duration,
    /// It was given the time for that again.
    forgiven: bool,
    active: Duration,
    /// A byte has passed, in either direction.
    spoken: bool,
    /// There is something unread or unsent; until then it has moved fast enough. Every byte buys a little time.
    burden: Option<Duration>,
    /// Its caps, if it has any, and whether it waits for leave to send.
    pace: Option<Box<Pace>>,
    waits: bool,
    charge: Option<Charge>,
    permit: Option<Permit>,
}

#[derive(Debug, Clone, Copy)]
enum Farewell {
    Shutdown,
    Close { reset: bool },
}

impl<S: Session> Connection<S> {
    /// A connection that a peer has opened. [Place](Endpoint::place) it, then handle [`Event::Opened`].
    pub fn accepted(session: S, peer: Peer, shared: Arc<Shared>, permit: Permit) -> Self {
        Self {
            session: Some(session),
            peer,
            identity: None,
            token: Token(0),
            phase: Phase::Connecting,
            outgoing: false,
            held: Unread::default(),
            unread: 0,
            need: 0,
            output: Output::new(shared.budget.buffer_each),
            control: Control::default(),
            mailbox: None,
            flight: Flight::default(),
            pending: Pending::NOTHING,
            room: 0,
            rested: false,
            flooded: false,
            peer_ended: false,
            end_told: false,
            half_closed: false,
            drains: false,
            farewell: None,
            verdict: None,
            opened: Duration::ZERO,
            forgiven: false,
            active: Duration::ZERO,
            spoken: false,
            burden: None,
            pace: Pace::of(&shared),
            waits: false,
            charge: None,
            permit: Some(permit),
            shared,
        }
    }

    /// A connection that is being opened to `address`, and the means to wake its session.
    pub fn outgoing(session: S, address: Address, shared: Arc<Shared>, permit: Permit) -> (Self, Waker) {
        let wake_flag = Arc::new(WakeFlag::default());
        let mut connection = Self::accepted(session, Peer { address }, shared, permit);
        connection.outgoing = true;
        connection.mailbox = Some(Mailbox::new(Arc::clone(&wake_flag)));
        (connection, Waker(wake_flag))
    }
}

impl<S: Session> Connection<S> {
    /// Looks at what is to be asked of the system now.
    fn look(&mut self) -> Pending {
        let may_send = !self.flight.sending && !self.waits;
        let sends = self.phase == Phase::Open && may_send && !self.output.is_empty();
        self.room = if self.flight.receiving { 0 } else { self.wants_to_receive() };
        let other = self.farewell.is_some() || !self.control.connects.is_empty() || self.flight.redials;
        self.pending = Pending::NOTHING
            .with(Pending::SEND, sends)
            .with(Pending::RECEIVE, self.room > 0)
            .with(Pending::ANY, other);
        self.pending
    }

    /// What is seldom asked for.
    fn other(&mut self) -> Option<Op> {
        if let Some(outgoing) = self.control.connects.pop_front() {
            return Some(Op::Connect(outgoing));
        }
        match self.farewell.take() {
            Some(Farewell::Shutdown) => return Some(Op::Shutdown),
            Some(Farewell::Close { reset }) => return Some(Op::Close { reset }),
            None => {}
        }
        let redials = self.phase == Phase::Connecting && self.flight.redials();
        redials.then(|| Op::Redial)
    }

    fn wants_to_receive(&self) -> usize {
        match self.phase {
            Phase::Lingering(_) if !self.peer_ended => BLOCK,
            Phase::Open if self.listens() && !self.peer_ended && !self.is_held_back() => {
                // What is not answered here needs no room in the output.
                let answers = self.control.reading != Reading::Always;
                let unsent = if answers { self.output.buffered() } else { 0 };
                let holds = unsent + self.held.len();
                self.shared.budget.buffer_each.saturating_sub(holds).min(BLOCK)
            }
            _ => 0,
        }
    }
}

impl<S: Session> Endpoint for Connection<S> {
    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration) {
        self.token = token;
        (self.opened, self.active) = (now, now);
        if let Some(mailbox) = &self.mailbox {
            mailbox.wake_flag.attach(wake_queue, token);
        }
    }

    fn handle(&mut self, now: Duration, event: Event<'_>, host: &mut Host) -> Pending {
        if self.phase == Phase::Closed {
            if let Event::Received(block) = event {
                block.clear();
            }
            return self.look();
        }
        let reads = self.drains && (matches!(event, Event::Received(_)) || !self.held.is_empty());
        match event {
            Event::Shaking => self.shaking(now),
            Event::Proven(identity) => self.identity = Some(identity),
            Event::Opened => self.opened(now, host),
            Event::Received(block) => {
                self.flight.receiving = false;
                host.count.bytes_in += block.len() as u64;
                if self.phase == Phase::Open {
                    self.touch(now, block.len() as u64);
                    self.receive(block, now, host);
                } else {
                    self.unread += block.len() as u64;
                }
                block.clear();
            }
            Event::Ended => self.ended(host),
            Event::Sent(count) => self.sent(count, now, host),
            // What a layer asks for it hears of itself.
            Event::Read(_) => {}
            Event::Exhausted(operation) => self.flight.rest(operation, now),
            Event::Failed(error) => self.close(Closed::System(error), host),
            Event::Woken => self.woken(now, host),
            Event::Tick => self.tick(now, host),
            Event::Drain => self.drain(now, host),
            Event::Stop => self.close(Closed::Stopped, host),
        }
        if reads && self.held.is_empty() {
            self.drains = false;
            self.drain(now, host);
        }
        self.advance(now, host);
        self.take_leave(now);
        self.look()
    }

    fn address(&self) -> &Address {
        &self.peer.address
    }

    fn next(&mut self) -> Option<Op> {
        if self.pending.has(Pending::ANY) {
            let other = self.other();
            if other.is_some() {
                return other;
            }
            self.pending.take(Pending::ANY);
        }
        if self.pending.take(Pending::SEND) {
            self.flight.sending = true;
            Some(Op::Send)
        } else if self.pending.take(Pending::RECEIVE) {
            self.flight.receiving = true;
            Some(Op::Receive(self.room))
        } else {
            None
        }
    }

    fn correct(&mut self, from: Duration, to: Duration) {
        self.correct_stamps(from, to);
    }

    fn deadline(&self) -> Option<Duration> {
        let patience = match self.phase {
            Phase::Connecting => Some(self.answered_by()),
            Phase::Lingering(until) => Some(until),
            Phase::Open if self.waits => sooner(self.pace.as_ref().map(|pace| pace.from), self.control.timer),
            Phase::Open => sooner(self.patience().map(|(when, _)| when), self.control.timer),
            Phase::Closed => return None,
        };
        sooner(patience, self.flight.deadline())
    }

    fn output(&self) -> &Output {
        &self.output
    }

    fn lend(&mut self, lent: &mut Lent) {
        self.output.lend(lent);
    }

    fn take_back(&mut self, lent: &mut Lent) {
        self.output.take_back(lent);
    }

    fn settle(&mut self, now: Duration, host: &mut Host) -> Pending {
        self.weigh(now);
        self.output.tighten(&mut host.spares.written);
        let holds = self.held.size + self.output.footprint();
        let counted = self.charge.as_ref().map_or(0, |charge| charge.amount);
        let is_over = || self.charge.is_none() && self.phase == Phase::Closed;
        if counted != holds && !is_over() && !host.charge(&mut self.charge, holds) {
            self.close(Closed::OutOfMemory(host.shared.budget.buffer_all), host);
            self.advance(now, host);
            self.look();
        }
        let rests = self.is_at_rest();
        let rested = mem::replace(&mut self.rested, rests);
        self.pending.with(Pending::NO_SOONER, rests && rested)
    }

    fn is_quiet(&self) -> bool {
        self.held.is_empty() && !self.is_awaited()
    }

    fn awaits_end(&self) -> bool {
        matches!(self.phase, Phase::Lingering(_))
    }
}

/// The earlier of two moments, of which neither need ever come.
fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

impl<S: Session> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("phase", &self.phase)
            .field("unread", &self.held.len())
            .field("unsent", &self.output.buffered())
            .field("outstanding", &self.control.outstanding)
            .finish_non_exhaustive()
    }
}
