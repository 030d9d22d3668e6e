//! The loop of datagram sockets: wait, receive in batches, the session, send in batches.
//!
//! A loop of its own beside the reactor, because what it waits for has neither listeners nor connections. What both
//! have in common they share: orders, calls, deadlines and jobs are the same `LoopState`. A server has as many of these
//! loops as it has loops of connections, each with a socket of every address.
//!
//! A turn: wait · receive and send · run inline jobs · who was woken · deadlines. No socket keeps the others waiting for
//! more than a few batches. No deadline fires before what had come by then was looked at, unless so much comes that it
//! will never end: then a few turns later.
#![forbid(unsafe_code)]

mod net;

use std::{io, mem, sync::Arc, time::Duration};

use roadstead_proto::{
    budget::Budget,
    connection::Event,
    datagrams::{Batch, DatagramEndpoint, DatagramEvent},
    host::Host,
    ticket::Token,
};

use crate::{
    connections::Timed,
    loop_state::{Call, LoopState},
    net::{Failure, REST},
    orders::{Newcomer, Orders},
    reactor::Readiness,
};
pub use net::DatagramNet;

/// Datagrams that are received together: as many as make the cost of a call small beside that of what it brings.
pub const BATCH: usize = 32;
/// The longest that one may be, or several that came as one.
pub const LONGEST: usize = 65_535;
/// Batches that a socket may receive, and calls that it may send with, before others have their turn.
const AT_ONCE: usize = 8;
/// Batches that are looked at before a session hears of a drain: more than the system keeps for a socket.
const AT_LAST: usize = 64;
/// Turns that a deadline waits for the end of what comes.
const BEHIND: u32 = 16;

/// How long the place for a datagram is: as long as any, unless a peer may not have as much buffered.
pub fn place(budget: &Budget) -> usize {
    LONGEST.min(budget.buffer_each)
}

/// A socket and who speaks on it.
struct Place<S> {
    socket: S,
    endpoint: Box<dyn DatagramEndpoint>,
    readable: bool,
    writable: bool,
    /// The system has no room for what it was asked until then.
    resting: Option<Duration>,
    /// In so many turns a deadline waited.
    behind: u32,
}

impl<S> Place<S> {
    fn may_receive(&self) -> bool {
        self.readable && self.resting.is_none() && self.endpoint.receives()
    }

    fn may_send(&self) -> bool {
        self.writable && self.resting.is_none() && !self.endpoint.outbox().is_empty()
    }
}

impl<S> Timed for Place<S> {
    fn deadline(&self) -> Option<Duration> {
        [self.resting, self.endpoint.deadline()].into_iter().flatten().min()
    }
}

/// The loop.
pub struct DatagramLoop<N: DatagramNet> {
    net: N,
    state: LoopState<Place<N::Socket>>,
    sockets: Vec<Token>,
    ready: Vec<Readiness>,
    batch: Batch,
}

impl<N: DatagramNet> DatagramLoop<N> {
    /// A loop that drives these endpoints, each on its socket.
    ///
    /// # Errors
    /// If a socket cannot be watched.
    pub fn new(
        mut net: N,
        host: Host,
        orders: Arc<Orders>,
        sockets: Vec<(N::Socket, Box<dyn DatagramEndpoint>)>,
    ) -> io::Result<Self> {
        let (mut state, now, mut tokens) = (LoopState::new(host, orders), net.now(), Vec::new());
        for (socket, endpoint) in sockets {
            let place = Place { socket, endpoint, readable: true, writable: true, resting: None, behind: 0 };
            let token = state.connections.insert(place);
            if let Some(place) = state.connections.get(token) {
                net.watch(&place.socket, token)?;
                place.endpoint.place(token, &state.host.wake_queue, now);
                place.endpoint.handle(now, DatagramEvent::Opened, &mut state.host);
            }
            tokens.push(token);
        }
        let batch = Batch::new(BATCH, place(&state.host.shared.budget));
        let mut made = Self { net, state, sockets: tokens, ready: Vec::new(), batch };
        made.leave(now);
        Ok(made)
    }

    /// Runs until the server has drained or is stopped.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn. False when the loop has nothing left to live for.
    pub fn turn(&mut self) -> io::Result<bool> {
        let timeout = self.timeout_at(self.state.ended);
        let mut ready = mem::take(&mut self.ready);
        self.state.wait(timeout, |timeout| self.net.wait(&mut ready, timeout))?;
        let (polled, now) = (self.state.ended, self.net.now());
        for Readiness { token, readable, writable, .. } in ready.drain(..) {
            if let Some(place) = self.state.connections.get(token) {
                place.readable |= readable;
                place.writable |= writable;
            }
        }
        self.ready = ready;
        for at in 0..self.sockets.len() {
            self.serve(self.sockets[at], AT_ONCE, now)?;
        }
        let now = self.state.run_jobs(now, || self.net.now()).unwrap_or(now);
        self.take_calls(now)?;
        self.fire_deadlines(polled, now)?;
        self.leave(now);
        self.state.end_turn(now, self.net.now());
        // Sessions may finish without being told to; and then there is nothing to drain.
        let finished = self.sockets.is_empty() && !self.state.host.jobs.are_waiting();
        Ok(!finished && !self.state.has_drained() && !self.state.is_stopped())
    }

    /// How long the next turn would wait; `None`: until something happens.
    pub fn timeout(&mut self) -> Option<Duration> {
        self.timeout_at(self.net.now())
    }

    fn timeout_at(&mut self, now: Duration) -> Option<Duration> {
        let Self { state, sockets, .. } = self;
        let connections = &mut state.connections;
        let busy = sockets.iter().any(|&token| {
            connections.get(token).is_some_and(|place| place.may_receive() || place.may_send())
        });
        state.timeout(now, busy, None)
    }

    /// Receives what a socket has, so many batches at the most, and sends what it has to say.
    fn serve(&mut self, token: Token, batches: usize, now: Duration) -> io::Result<()> {
        self.send(token, now);
        for _ in 0..batches {
            let Self { net, state, batch, .. } = self;
            let Some(place) = state.connections.get(token).filter(|place| place.may_receive()) else { break };
            batch.clear();
            state.host.count.receives += 1;
            match net.receive(&place.socket, batch) {
                Ok(()) => place.endpoint.handle(now, DatagramEvent::Came(batch), &mut state.host),
                Err(error) => match N::classify(&error) {
                    Failure::Empty => place.readable = false,
                    Failure::Passing => self.hear_unreachable(token, now),
                    Failure::NoRoom => place.resting = Some(now.saturating_add(REST)),
                    Failure::NoDescriptors | Failure::Other => return Err(error),
                },
            }
            self.send(token, now);
        }
        Ok(())
    }

    /// Sends what a socket has to say, for as long as the system takes it and it is not the others' turn.
    fn send(&mut self, token: Token, now: Duration) {
        for _ in 0..AT_ONCE {
            let Self { net, state, .. } = self;
            let Some(place) = state.connections.get(token).filter(|place| place.may_send()) else { return };
            state.host.count.sends += 1;
            let sent = net.send(&place.socket, place.endpoint.outbox());
            let event = match sent {
                Ok(0) => return place.writable = false,
                Ok(count) => DatagramEvent::Left(count),
                Err(error) => match N::classify(&error) {
                    Failure::Empty => return place.writable = false,
                    Failure::NoRoom => return place.resting = Some(now.saturating_add(REST)),
                    Failure::Passing => {
                        self.hear_unreachable(token, now);
                        continue;
                    }
                    Failure::NoDescriptors | Failure::Other => DatagramEvent::Undeliverable,
                },
            };
            place.endpoint.handle(now, event, &mut state.host);
        }
    }

    fn hear_unreachable(&mut self, token: Token, now: Duration) {
        for _ in 0..BATCH {
            let Self { net, state, .. } = self;
            let Some(place) = state.connections.get(token) else { return };
            let Some(who) = net.unreachable(&place.socket) else { return };
            place.endpoint.handle(now, DatagramEvent::Unreachable(who), &mut state.host);
        }
    }

    fn tell(&mut self, token: Token, event: DatagramEvent<'static>, now: Duration) {
        if let Some(place) = self.state.connections.get(token) {
            place.endpoint.handle(now, event, &mut self.state.host);
        }
        self.send(token, now);
    }

    fn take_calls(&mut self, now: Duration) -> io::Result<()> {
        self.state.take_calls();
        while let Some(call) = self.state.next_call() {
            match call {
                Call::Woken(token) => self.tell(token, DatagramEvent::Woken, now),
                // There are no connections here.
                Call::New(Newcomer::Dials(mut endpoint) | Newcomer::Attends(mut endpoint)) => {
                    endpoint.handle(now, Event::Stop, &mut self.state.host);
                }
                Call::Cede => {}
                Call::Drain => {
                    for at in 0..self.sockets.len() {
                        self.look(self.sockets[at], AT_LAST, now)?;
                        self.tell(self.sockets[at], DatagramEvent::Drain, now);
                    }
                }
                Call::Stop => {
                    for at in 0..self.sockets.len() {
                        self.tell(self.sockets[at], DatagramEvent::Stop, now);
                    }
                }
            }
        }
        Ok(())
    }

    /// Receives, told or not that it would work.
    fn look(&mut self, token: Token, batches: usize, now: Duration) -> io::Result<()> {
        if let Some(place) = self.state.connections.get(token) {
            place.readable = true;
        }
        self.serve(token, batches, now)
    }

    /// Fires the deadlines that had passed when this turn's poll began.
    fn fire_deadlines(&mut self, polled: Duration, now: Duration) -> io::Result<()> {
        while let Some(token) = self.state.connections.due(polled) {
            if let Some(place) = self.state.connections.get(token) {
                place.resting = place.resting.filter(|&until| until > polled);
            }
            self.look(token, AT_ONCE, now)?;
            let Some(place) = self.state.connections.get(token) else { continue };
            place.behind += 1;
            // It comes again in the next turn, which does not wait.
            if !place.may_receive() || place.behind >= BEHIND {
                place.behind = 0;
                self.tell(token, DatagramEvent::Tick, now);
            }
        }
        Ok(())
    }

    /// The sockets wait: for the network, and for their deadlines. One that is over is closed.
    fn leave(&mut self, now: Duration) {
        let Self { net, state, sockets, .. } = self;
        sockets.retain(|&token| {
            let Some(place) = state.connections.get(token) else { return false };
            place.endpoint.settle(now, &mut state.host);
            if place.endpoint.is_over() {
                if let Some(place) = state.connections.remove(token) {
                    net.close(place.socket);
                }
                return false;
            }
            state.connections.schedule(token);
            true
        });
    }
}
