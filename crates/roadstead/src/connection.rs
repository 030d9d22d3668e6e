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
//! An operation that [`next`](Endpoint::next) has answered is in flight until the event that completes it was handled;
//! there is at most one receive and one send in flight. In the reactor an operation in flight is the wish to be told of
//! readiness; in a proactor it is a submission.
#![forbid(unsafe_code)]

use std::{borrow::Cow, fmt, io, mem, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;

use crate::{
    budget::{Charge, Permit},
    context::Context,
    host::{Host, Shared},
    input::Input,
    output::Output,
    service::{Close, Closed, Done, Peer, Ready, Session},
    ticket::{Alarm, Bell, Mailbox, Token, Waker},
};

/// The most a connection is given at once, in bytes: the size of the block a loop receives into.
pub const BLOCK: usize = 64 << 10;

/// What happened to a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// It exists: accepted, or an outgoing connection was answered.
    Opened,
    /// These bytes came. The connection takes what it wants out of the block and clears it.
    Received(&'a mut BytesMut),
    /// The peer has finished sending.
    Ended,
    /// So many bytes at the front of the output were sent.
    Sent(u64),
    /// The system failed it.
    Failed(io::Error),
    /// Its [`Bell`] rang for it.
    Woken,
    /// A deadline may have passed.
    Tick,
    /// The server begins to drain.
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
    /// Finish sending (`shutdown` for writing).
    Shutdown,
    /// Open another connection and drive this endpoint on it.
    Connect(SocketAddr, Box<dyn Endpoint>),
    /// Cancel what is in flight and close; with `reset`, without care for what was not sent. Nothing follows.
    Close {
        /// Whether the peer sees a reset.
        reset: bool,
    },
}

/// A [`Connection`] whose session type is forgotten, as the loops see it.
pub trait Endpoint: Send + fmt::Debug {
    /// The connection lives from `now` on in the loop that listens to `bell`, under the name `token`.
    fn place(&mut self, token: Token, bell: &Arc<Bell>, now: Duration);
    /// Something happened at `now`.
    fn handle(&mut self, now: Duration, event: Event<'_>, host: &mut Host);
    /// The next operation, each once, until `None`.
    fn next(&mut self) -> Option<Op>;
    /// When to send [`Event::Tick`], if nothing else happens before.
    fn deadline(&self) -> Option<Duration>;
    /// What is to be sent.
    fn output(&self) -> &Output;
    /// The loop is about to leave the connection: what it still holds is charged to the budget.
    fn settle(&mut self, now: Duration, host: &mut Host);
    /// Whether nothing can happen to it but bytes and deadlines: no ticket or waker is out, no message is half read.
    fn is_quiet(&self) -> bool;
}

/// Requests a session makes through its context.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) finish: bool,
    pub(crate) timer: Option<Duration>,
    pub(crate) next_job: u64,
    pub(crate) outstanding: usize,
    pub(crate) connects: Vec<(SocketAddr, Box<dyn Endpoint>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Our end was sent; the peer's is awaited until then.
    Lingering(Duration),
    Closed,
}

/// One connection: a session and everything about it that is not I/O.
pub struct Connection<S: Session> {
    session: Option<S>,
    peer: Peer,
    token: Token,
    shared: Arc<Shared>,
    phase: Phase,
    outgoing: bool,
    /// Unread bytes that the session left.
    held: BytesMut,
    /// Do not call `receive` with fewer unread bytes.
    need: usize,
    output: Output,
    control: Control,
    mailbox: Option<Arc<Mailbox<S::Reply>>>,
    receiving: bool,
    sending: bool,
    /// The output passed its high-water mark and has not fallen below half of it.
    flooded: bool,
    peer_ended: bool,
    end_told: bool,
    /// The op that ends this phase has not been answered yet.
    farewell: Option<Farewell>,
    /// Why it will have closed, if the session said so.
    verdict: Option<Cow<'static, str>>,
    opened: Duration,
    active: Duration,
    /// A byte has passed, in either direction.
    spoken: bool,
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
            token: Token(0),
            phase: Phase::Connecting,
            outgoing: false,
            held: BytesMut::new(),
            need: 0,
            output: Output::new(shared.budget.buffer_each),
            control: Control::default(),
            mailbox: None,
            receiving: false,
            sending: false,
            flooded: false,
            peer_ended: false,
            end_told: false,
            farewell: None,
            verdict: None,
            opened: Duration::ZERO,
            active: Duration::ZERO,
            spoken: false,
            charge: None,
            permit: Some(permit),
            shared,
        }
    }

    /// A connection that is being opened to `address`, and the means to wake its session.
    pub fn outgoing(session: S, address: SocketAddr, shared: Arc<Shared>, permit: Permit) -> (Self, Waker) {
        let alarm = Arc::new(Alarm::default());
        let mut connection = Self::accepted(session, Peer { address }, shared, permit);
        connection.outgoing = true;
        connection.mailbox = Some(Mailbox::new(Arc::clone(&alarm)));
        (connection, Waker(alarm))
    }

    /// Calls the session, and obeys what it answers.
    fn call(
        &mut self,
        now: Duration,
        host: &mut Host,
        action: impl FnOnce(&mut S, &mut Context<'_, S>) -> Done,
    ) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        let mut cx = Context {
            now,
            peer: self.peer,
            token: self.token,
            output: &mut self.output,
            control: &mut self.control,
            mailbox: &mut self.mailbox,
            host,
        };
        let done = action(session, &mut cx);
        self.obey(done, host);
    }

    fn obey(&mut self, done: Done, host: &mut Host) {
        self.flooded |= self.output.buffered() > self.shared.budget.high_water() || self.output.has_file();
        if self.output.overflowed() {
            self.close(Closed::Overflow(self.shared.budget.buffer_each), host);
        } else if self.need > self.shared.budget.buffer_each {
            self.close(Closed::TooLarge(self.shared.budget.buffer_each), host);
        } else if let Err(Close { reason, abort }) = done {
            if abort {
                self.close(Closed::Violation(reason), host);
            } else {
                self.control.finish = true;
                self.verdict = Some(reason);
            }
        }
    }

    /// Gives unread bytes to the session for as long as it makes progress.
    fn deliver(&mut self, block: &mut BytesMut, now: Duration, host: &mut Host) {
        while !block.is_empty() && block.len() >= self.need && self.listens() && !self.flooded {
            let before = block.len();
            self.need = 0;
            let Some(session) = self.session.as_mut() else {
                return;
            };
            let mut cx = Context {
                now,
                peer: self.peer,
                token: self.token,
                output: &mut self.output,
                control: &mut self.control,
                mailbox: &mut self.mailbox,
                host,
            };
            let done = session.receive(&mut Input::new(block, &mut self.need, &self.shared.memory), &mut cx);
            self.obey(done, host);
            if block.len() == before {
                break;
            }
        }
        if !self.listens() {
            block.clear();
        }
    }

    /// New bytes: straight from the loop's block where nothing was left before.
    fn receive(&mut self, block: &mut BytesMut, now: Duration, host: &mut Host) {
        if self.held.is_empty() {
            self.deliver(block, now, host);
            if !block.is_empty() {
                self.held =
                    BytesMut::with_capacity(self.need.max(block.len()).min(self.shared.budget.buffer_each));
                self.held.extend_from_slice(block);
            }
        } else {
            self.held.extend_from_slice(block);
            self.redeliver(now, host);
        }
        block.clear();
    }

    /// Something changed: shows the session what it had left.
    fn redeliver(&mut self, now: Duration, host: &mut Host) {
        let mut held = mem::take(&mut self.held);
        self.deliver(&mut held, now, host);
        if !held.is_empty() {
            self.held = if self.need > held.capacity() {
                let mut larger = BytesMut::with_capacity(self.need.min(self.shared.budget.buffer_each));
                larger.extend_from_slice(&held);
                larger
            } else {
                held
            };
        }
    }

    /// Whether the session still wants bytes.
    fn listens(&self) -> bool {
        self.phase == Phase::Open && !self.control.finish
    }

    fn wants_to_receive(&self) -> usize {
        match self.phase {
            Phase::Lingering(_) if !self.peer_ended => BLOCK,
            Phase::Open if self.listens() && !self.peer_ended && !self.flooded => {
                self.output.room().saturating_sub(self.held.len()).min(BLOCK)
            }
            _ => 0,
        }
    }

    fn sent(&mut self, count: u64, now: Duration, host: &mut Host) {
        self.sending = false;
        self.output.advance(count);
        if count > 0 {
            self.touch(now);
        }
        host.count.bytes_out += count;
        if self.flooded
            && self.output.buffered() <= self.shared.budget.high_water() / 2
            && !self.output.has_file()
        {
            self.flooded = false;
            if self.phase == Phase::Open {
                self.call(now, host, |session, cx| session.ready(Ready::Room, cx));
            }
            self.redeliver(now, host);
        }
    }

    fn woken(&mut self, now: Duration, host: &mut Host) {
        let Some(mailbox) = self.mailbox.clone() else {
            return;
        };
        let called = mailbox.alarm.hear();
        for (id, reply) in mailbox.take() {
            self.control.outstanding -= 1;
            if self.phase == Phase::Open {
                self.call(now, host, |session, cx| session.reply(id, reply, cx));
            }
        }
        if called && self.phase == Phase::Open {
            self.call(now, host, |session, cx| session.ready(Ready::Woken, cx));
        }
        self.redeliver(now, host);
    }

    fn tick(&mut self, now: Duration, host: &mut Host) {
        match self.phase {
            Phase::Connecting if self.opened + self.shared.budget.connect <= now => {
                self.close(Closed::Unanswered, host)
            }
            Phase::Lingering(until) if until <= now => self.conclude(host),
            Phase::Open => {
                if self.control.timer.is_some_and(|when| when <= now) {
                    self.control.timer = None;
                    self.call(now, host, |session, cx| session.ready(Ready::Timer, cx));
                    self.redeliver(now, host);
                }
                if let Some((when, why)) = self.patience()
                    && when <= now
                {
                    self.close(why, host);
                }
            }
            _ => {}
        }
    }

    /// How long the peer may keep us waiting, and what it is called if it does.
    fn patience(&self) -> Option<(Duration, Closed)> {
        if !self.outgoing && !self.spoken {
            return Some((self.opened + self.shared.budget.first_byte, Closed::Silent));
        }
        let owes = !self.output.is_empty() || (!self.outgoing && self.control.outstanding == 0);
        owes.then(|| (self.active + self.shared.budget.idle, Closed::Idle))
    }

    fn touch(&mut self, now: Duration) {
        self.active = now;
        self.spoken = true;
    }

    /// What follows from the new state, whatever event led to it.
    fn advance(&mut self, now: Duration, host: &mut Host) {
        if self.peer_ended
            && !self.end_told
            && self.listens()
            && (self.held.is_empty() || !self.may_progress())
        {
            self.end_told = true;
            self.call(now, host, |session, cx| session.end(cx));
        }
        if self.listens() && self.held.len() >= self.shared.budget.buffer_each && !self.may_progress() {
            self.close(Closed::TooLarge(self.shared.budget.buffer_each), host);
        }
        let settled = self.control.outstanding == 0 || self.verdict.is_some();
        if self.phase == Phase::Open && self.control.finish && self.output.is_empty() && settled {
            if self.peer_ended {
                self.conclude(host);
            } else {
                self.held = BytesMut::new();
                self.phase = Phase::Lingering(now + self.shared.budget.linger);
                self.farewell = Some(Farewell::Shutdown);
            }
        }
    }

    /// Whether something other than the peer could still make the session read what it left.
    fn may_progress(&self) -> bool {
        self.flooded || self.control.timer.is_some() || self.is_awaited()
    }

    fn is_awaited(&self) -> bool {
        self.mailbox
            .as_ref()
            .is_some_and(|mailbox| Arc::strong_count(mailbox) > 1 || Arc::strong_count(&mailbox.alarm) > 1)
    }

    /// The orderly end.
    fn conclude(&mut self, host: &mut Host) {
        let why = self.verdict.take().map_or(Closed::Finished, Closed::Violation);
        self.end(&why, false, host);
    }

    /// The end that takes no care of what was not sent.
    fn close(&mut self, why: Closed, host: &mut Host) {
        self.end(&why, true, host);
    }

    fn end(&mut self, why: &Closed, reset: bool, host: &mut Host) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.farewell = Some(Farewell::Close { reset });
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.alarm.close();
        }
        self.held = BytesMut::new();
        self.charge = None;
        self.permit = None;
        host.count.closed += 1;
        if !matches!(why, Closed::Finished) {
            host.count.failed += 1;
            tracing::debug!(peer = %self.peer.address, %why, "connection closed");
        }
        if let Some(session) = self.session.take() {
            session.closed(why);
        }
    }
}

impl<S: Session> Endpoint for Connection<S> {
    fn place(&mut self, token: Token, bell: &Arc<Bell>, now: Duration) {
        self.token = token;
        (self.opened, self.active) = (now, now);
        if let Some(mailbox) = &self.mailbox {
            mailbox.alarm.settle(bell, token);
        }
    }

    fn handle(&mut self, now: Duration, event: Event<'_>, host: &mut Host) {
        match event {
            Event::Opened => {
                self.phase = Phase::Open;
                self.active = now;
                self.call(now, host, |session, cx| session.ready(Ready::Opened, cx));
            }
            Event::Received(block) => {
                self.receiving = false;
                host.count.bytes_in += block.len() as u64;
                if self.phase == Phase::Open {
                    self.touch(now);
                    self.receive(block, now, host);
                }
                block.clear();
            }
            Event::Ended => {
                self.receiving = false;
                self.peer_ended = true;
                if let Phase::Lingering(_) = self.phase {
                    self.conclude(host);
                }
            }
            Event::Sent(count) => self.sent(count, now, host),
            Event::Failed(error) => self.close(Closed::System(error), host),
            Event::Woken => self.woken(now, host),
            Event::Tick => self.tick(now, host),
            Event::Drain => match self.phase {
                Phase::Open => self.call(now, host, |session, cx| session.ready(Ready::Draining, cx)),
                Phase::Connecting => self.close(Closed::Stopped, host),
                _ => {}
            },
            Event::Stop => self.close(Closed::Stopped, host),
        }
        self.advance(now, host);
    }

    fn next(&mut self) -> Option<Op> {
        if let Some((address, endpoint)) = self.control.connects.pop() {
            return Some(Op::Connect(address, endpoint));
        }
        match self.farewell.take() {
            Some(Farewell::Shutdown) => return Some(Op::Shutdown),
            Some(Farewell::Close { reset }) => return Some(Op::Close { reset }),
            None => {}
        }
        if self.phase == Phase::Open && !self.sending && !self.output.is_empty() {
            self.sending = true;
            return Some(Op::Send);
        }
        let most = self.wants_to_receive();
        if !self.receiving && most > 0 {
            self.receiving = true;
            return Some(Op::Receive(most));
        }
        None
    }

    fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Connecting => Some(self.opened + self.shared.budget.connect),
            Phase::Lingering(until) => Some(until),
            Phase::Open => {
                let patience = self.patience().map(|(when, _)| when);
                [patience, self.control.timer].into_iter().flatten().min()
            }
            Phase::Closed => None,
        }
    }

    fn output(&self) -> &Output {
        &self.output
    }

    fn settle(&mut self, now: Duration, host: &mut Host) {
        let holds = self.held.capacity() + self.output.footprint();
        let fits = match &mut self.charge {
            Some(charge) => charge.change(holds),
            None if holds == 0 || self.phase == Phase::Closed => true,
            none => {
                *none = host.shared.memory.charge(holds);
                none.is_some()
            }
        };
        if !fits {
            self.close(Closed::OutOfMemory(host.shared.budget.buffer_all), host);
            self.advance(now, host);
        }
    }

    fn is_quiet(&self) -> bool {
        self.held.is_empty() && !self.is_awaited()
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
