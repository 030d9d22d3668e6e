//! One socket's datagrams as a state machine, without any I/O: what `connection` is for streams.
//!
//! ```text
//!   kernel ─batch─▶ Datagrams ─▶ DatagramSession ─Path─▶ Outbox ─▶ kernel
//!                     │ timers, tickets, jobs     │
//!                     └── Peers: count, bytes, idle ┘
//! ```
//! A [`DatagramService`] makes one [`DatagramSession`] for each socket; a loop has one socket of each address, so a
//! session never sees two threads at once. Datagrams have no connections, so nothing that a stranger sends makes any
//! state: the session gets what came together, each datagram with a [`Path`] back to whoever sent it, and sends on
//! paths. It remembers peers by itself ([`Peers`]), within the budget. [`Datagrams`] holds the rest: what waits to be
//! sent, the timer, tickets, drain and stop.
//!
//! # What is promised
//!
//! - **Nobody is made to flood another.** What goes to an address that was not validated is at most three times what
//!   came from it, headers counted. A [`Path`] is the right to answer; it cannot be copied, and carries what is left
//!   of it into tickets and jobs.
//! - **No two servers talk for ever** because of one forged datagram: what goes to such an address travels fewer hops
//!   than what came had left.
//! - **No more is sent than the caps say** ([`Budget::rate_all`], [`Budget::rate_each`]). What is over them waits for
//!   100 ms at most, a quarter of `buffer_each` at most, and keeps nobody from sending who is within them. Nor do
//!   connections that have more to send than all may: half of it is for datagrams then.
//! - **Nothing grows without a limit.** Peers count as connections do ([`Budget::connections`], `per_address`), each
//!   with `buffer_each` bytes and `idle`. What waits to be sent is `buffer_each` for a socket, and is charged to
//!   `buffer_all` when the loop leaves it; beyond that it is dropped and counted, as networks do. Above a quarter of it
//!   nothing is received: the kernel drops what it has no room for, which is the only backpressure that UDP has.
//! - **An answer comes from the address that was asked**, also of a socket that is bound to all.
//! - **A drain** first shows the session what had come, then tells it; a session that finishes is given no more, and
//!   its socket is closed once its tickets are back and all was sent, or could not be for the budget's `linger`.
//!   **A stop** closes at once.
//! - **A panic** of a session costs what that session knew, and nothing else: the next batch finds a new one. Each is
//!   counted, and said once a minute at most. A session that panics as it begins costs its socket.
//!
//! Why not one session for each peer, as with connections? Because a forged source would make one; because who answers
//! without remembering anything (echo, time) would pay for a table; and because the kernel gives thirty-two datagrams
//! of as many peers in one call, which one session can answer with one reading of the clock.
//!
//! ```
//! # use roadstead_proto as roadstead;
//! use std::{net::SocketAddr, sync::Arc, time::Duration};
//! use roadstead::{
//!     Budget, Scope,
//!     datagrams::{
//!         Arrival, Arrivals, Batch, DatagramContext, DatagramEndpoint, DatagramEvent, DatagramService, DatagramSession,
//!         Datagrams, Ecn,
//!     },
//!     host::{Host, Shared},
//!     ticket::Token,
//! };
//!
//! struct Shout;
//! impl DatagramService for Shout {
//!     type Session = Shout;
//!     const SCOPE: Scope = Scope::Connection;
//!     fn open(&self, _: SocketAddr) -> Shout { Shout }
//! }
//! impl DatagramSession for Shout {
//!     type Reply = ();
//!     type Peer = ();
//!     fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
//!         for mut datagram in batch {
//!             let loud = datagram.bytes.to_ascii_uppercase();
//!             let _ = cx.send(&mut datagram.path, &loud);
//!         }
//!     }
//! }
//!
//! let mut host = Host::alone(Shared::new(Budget::default()), 1);
//! let mut socket = Datagrams::new(Arc::new(Shout), "192.0.2.9:7".parse()?, &host.shared);
//! let (now, mut batch) = (Duration::ZERO, Batch::new(32, 1_500));
//! socket.place(Token(1), &host.wake_queue().clone(), now);
//! socket.handle(now, DatagramEvent::Opened, &mut host);
//! batch.places().next().unwrap()[..4].copy_from_slice(b"ahoy");
//! let from = "192.0.2.1:5000".parse()?;
//! let (ecn, truncated) = (Ecn::NotCapable, false);
//! batch.came(0, 4, None, Arrival { from, to: None, local: None, at: None, ecn, hops: Some(64), truncated });
//! socket.handle(now, DatagramEvent::Came(&batch), &mut host);
//! let answer = socket.outbox().iter().next().unwrap();
//! assert_eq!((answer.bytes, answer.to, answer.hops), (&b"AHOY"[..], from, Some(63)));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! [`Budget::connections`]: struct@crate::Budget
//! [`Budget::rate_all`]: struct@crate::Budget
//! [`Budget::rate_each`]: struct@crate::Budget
#![forbid(unsafe_code)]

mod batch;
mod endpoint;
mod outbox;
mod paced;
mod panics;
mod path;
mod peers;
mod session;
#[cfg(test)]
mod tests;

use std::{fmt, mem, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    budget::{Charge, give_back},
    flight::REST,
    guard::{self, Guarded},
    host::{Host, Shared},
    session::Ready,
    ticket::{Mailbox, Token, WakeQueue},
};
pub use batch::{Arrival, Arrivals, Batch, Datagram, Ecn};
pub use endpoint::{DatagramEndpoint, DatagramEvent};
use outbox::EACH;
pub use outbox::{Outbox, Outgoing};
use paced::Paced;
use panics::Panics;
pub use path::{Local, Path};
pub use peers::{Peers, Unkept};
use session::Control;
pub use session::{DatagramContext, DatagramService, DatagramSession, SEGMENTS, Unsent};

/// One socket: a session, and everything about it that is not I/O.
pub struct Datagrams<S: DatagramService> {
    service: Arc<S>,
    local: SocketAddr,
    /// None: the socket is over.
    session: Option<Guarded<S::Session>>,
    token: Token,
    shared: Arc<Shared>,
    outbox: Outbox,
    /// What waits for a cap, where there is one.
    paced: Option<Box<Paced>>,
    peers: Peers<<S::Session as DatagramSession>::Peer>,
    control: Control,
    mailbox: Option<Arc<Mailbox<<S::Session as DatagramSession>::Reply>>>,
    /// More waits to be sent than the high-water mark, and has not fallen below half of it.
    flooded: bool,
    draining: bool,
    /// It has finished, and what waits to be sent is dropped then.
    lingers: Option<Duration>,
    charge: Option<Charge>,
    panics: Panics,
}

impl<S: DatagramService> Datagrams<S> {
    /// A socket that is bound to `local`, for a session of `service`.
    pub fn new(service: Arc<S>, local: SocketAddr, shared: &Arc<Shared>) -> Self {
        Self {
            service,
            local,
            session: None,
            token: Token(0),
            shared: Arc::clone(shared),
            outbox: Outbox::default(),
            paced: Paced::of(shared),
            peers: Peers::new(Arc::clone(shared), Duration::ZERO),
            control: Control::default(),
            mailbox: None,
            flooded: false,
            draining: false,
            lingers: None,
            charge: None,
            panics: Panics::default(),
        }
    }

    /// A new session, and nothing that another knew. One that panics at once leaves the socket without.
    fn open(&mut self, now: Duration, host: &mut Host) {
        let made = guard::call(|| self.service.open(self.local));
        self.session = made.map(Guarded::new);
        let begun = self.call(now, host, |session, cx| session.ready(Ready::Opened, cx));
        let told = !begun
            || !self.draining
            || self.call(now, host, |session, cx| session.ready(Ready::Draining, cx));
        if !begun || !told {
            host.count.datagram_panics += 1;
            tracing::error!(local = %self.local, "a datagram session panicked as it began; its socket is closed");
            // Who has panicked is told nothing more.
            self.give_up(now);
            self.close(now);
        }
    }

    /// Calls the session, and replaces one that panics.
    fn tell(
        &mut self,
        now: Duration,
        host: &mut Host,
        action: impl FnOnce(&mut S::Session, &mut DatagramContext<'_, S::Session>),
    ) {
        if self.session.is_some() && !self.call(now, host, action) {
            if let Some(panics) = self.panics.count(now, host) {
                let local = self.local;
                tracing::error!(%local, panics, "a datagram session panicked; another takes its place");
            }
            self.give_up(now);
            self.open(now, host);
        }
    }

    /// False: there is none, or it has panicked.
    fn call(
        &mut self,
        now: Duration,
        host: &mut Host,
        action: impl FnOnce(&mut S::Session, &mut DatagramContext<'_, S::Session>),
    ) -> bool {
        let Some(session) = &mut self.session else { return false };
        self.peers.now = now;
        let mut cx = DatagramContext {
            now,
            local: self.local,
            token: self.token,
            outbox: &mut self.outbox,
            paced: &mut self.paced,
            peers: &mut self.peers,
            control: &mut self.control,
            mailbox: &mut self.mailbox,
            host,
        };
        let done = guard::call(|| action(session, &mut cx)).is_some();
        self.flooded |= self.outbox.held() > self.shared.budget.high_water();
        done
    }

    /// Lets go of the session and of what it knew. Its tickets are nobody's from now on.
    fn give_up(&mut self, now: Duration) -> Option<Guarded<S::Session>> {
        self.mailbox.take().inspect(|mailbox| mailbox.wake_flag.close());
        self.peers = Peers::new(Arc::clone(&self.shared), now);
        self.lingers = None;
        self.control = Control { next_job: self.control.next_job, ..Control::default() };
        self.session.take()
    }

    fn woken(&mut self, now: Duration, host: &mut Host) {
        let Some(mailbox) = self.mailbox.clone() else { return };
        let (called, replies) = mailbox.take();
        for (id, reply) in replies {
            // After a panic they are of nobody who is here.
            if !mailbox.wake_flag.is_closed() {
                give_back(&mut self.control.outstanding, 1);
                self.tell(now, host, |session, cx| session.reply(id, reply.into_inner(), cx));
            }
        }
        if called && !mailbox.wake_flag.is_closed() {
            self.tell(now, host, |session, cx| session.ready(Ready::Woken, cx));
        }
    }

    fn tick(&mut self, now: Duration, host: &mut Host) {
        while let Some((who, peer)) = self.peers.idle(now) {
            self.tell(now, host, |session, cx| session.forgotten(who, peer, cx));
        }
        if self.control.room_at.take_if(|when| *when <= now).is_some() {
            self.drained(now, host);
        }
        if self.control.timer.is_some_and(|when| when <= now) {
            self.control.timer = None;
            self.tell(now, host, |session, cx| session.ready(Ready::Timer, cx));
        }
    }

    /// Puts into the outbox what has waited for a cap and may go now.
    fn release(&mut self, now: Duration, host: &mut Host) {
        let Some(paced) = &mut self.paced else { return };
        let most = self.shared.budget.buffer_each;
        while let Some((entry, bytes)) = paced.pop(now) {
            let outgoing = Outgoing { bytes: &bytes, ..entry };
            if self.outbox.held() + bytes.len() + EACH <= most {
                self.outbox.push(outgoing);
            } else {
                host.count.datagrams_dropped += outgoing.datagrams() as u64;
            }
        }
    }

    /// What waits for a cap, in bytes.
    fn paced(&self) -> usize {
        self.paced.as_ref().map_or(0, |paced| paced.held())
    }

    /// So many datagrams at the front of the outbox have left.
    fn left(&mut self, count: usize, host: &mut Host) {
        let (datagrams, bytes) = self.outbox.leave(count);
        host.count.datagrams_out += datagrams as u64;
        host.count.bytes_out += bytes as u64;
    }

    /// The first of the outbox never will leave.
    fn drop_first(&mut self, host: &mut Host) {
        if let Some((datagrams, _)) = self.outbox.pop() {
            host.count.datagrams_dropped += datagrams as u64;
        }
    }

    /// Something of the outbox is gone, and there may be room again.
    fn drained(&mut self, now: Duration, host: &mut Host) {
        let most = self.shared.budget.high_water() / 2;
        if self.outbox.held() <= most {
            self.flooded = false;
            if self.paced() <= most && mem::take(&mut self.control.wants_room) {
                self.tell(now, host, |session, cx| session.ready(Ready::Room, cx));
            }
        }
    }

    /// All that waits is dropped, as it would be on the way.
    fn drop_all(&mut self, host: &mut Host) {
        while !self.outbox.is_empty() {
            self.drop_first(host);
        }
        if let Some(paced) = &mut self.paced {
            host.count.datagrams_dropped += paced.clear();
        }
    }

    fn close(&mut self, now: Duration) {
        if let Some(session) = self.give_up(now) {
            guard::call(|| session.into_inner().closed());
        }
        self.outbox.clear();
        self.paced.iter_mut().for_each(|paced| _ = paced.clear());
        self.charge = None;
    }

    /// A session that has finished is closed once its tickets are back and all was sent, or the time for that is over.
    fn end(&mut self, now: Duration, host: &mut Host) {
        if !self.control.finish || self.control.outstanding > 0 {
            // Of time that is over while a ticket is out the loop would hear without a pause.
            self.lingers = None;
            return;
        }
        if *self.lingers.get_or_insert(now.saturating_add(self.shared.budget.linger)) <= now {
            self.drop_all(host);
        }
        if self.outbox.is_empty() && self.paced() == 0 {
            self.close(now);
        }
    }
}

impl<S: DatagramService> DatagramEndpoint for Datagrams<S> {
    fn place(&mut self, token: Token, _: &Arc<WakeQueue>, _: Duration) {
        self.token = token;
    }

    fn handle(&mut self, now: Duration, event: DatagramEvent<'_>, host: &mut Host) {
        self.release(now, host);
        match event {
            DatagramEvent::Opened => {
                self.paced.iter_mut().for_each(|paced| paced.open(host));
                self.open(now, host);
            }
            DatagramEvent::Came(batch) => {
                host.count.datagrams_in += batch.len() as u64;
                host.count.bytes_in += batch.bytes();
                host.count.datagrams_truncated += batch.truncated();
                if !batch.is_empty() && !self.control.finish {
                    self.tell(now, host, |session, cx| session.receive(batch.arrivals(S::STAMPED), cx));
                }
            }
            DatagramEvent::Left(count) => {
                self.left(count, host);
                self.drained(now, host);
            }
            DatagramEvent::Undeliverable => {
                self.drop_first(host);
                self.drained(now, host);
            }
            DatagramEvent::Unreachable(who) => {
                self.tell(now, host, |session, cx| session.unreachable(who, cx));
            }
            DatagramEvent::Woken => self.woken(now, host),
            DatagramEvent::Tick => self.tick(now, host),
            DatagramEvent::Drain => {
                if !mem::replace(&mut self.draining, true) {
                    self.tell(now, host, |session, cx| session.ready(Ready::Draining, cx));
                }
            }
            DatagramEvent::Stop => self.close(now),
        }
        self.end(now, host);
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn receives(&self) -> bool {
        self.session.is_some() && !self.flooded && !self.control.finish
    }

    fn deadline(&self) -> Option<Duration> {
        let paced = self.paced.as_ref().and_then(|paced| paced.next());
        let own = [self.control.timer, self.control.room_at, self.lingers, paced];
        own.into_iter().chain([self.peers.deadline()]).flatten().min()
    }

    fn settle(&mut self, now: Duration, host: &mut Host) {
        let held = self.outbox.held() + self.paced();
        if !host.charge(&mut self.charge, held) {
            self.drop_all(host);
            self.flooded = false;
            host.charge(&mut self.charge, 0);
            // Not at once: what it would send then might find no room either, and so on without an end.
            self.control.room_at = self.control.wants_room.then(|| now.saturating_add(REST));
            self.end(now, host);
        }
    }

    fn is_over(&self) -> bool {
        self.session.is_none()
    }
}

impl<S: DatagramService> Drop for Datagrams<S> {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

impl<S: DatagramService> fmt::Debug for Datagrams<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("local", &self.local).finish_non_exhaustive()
    }
}
