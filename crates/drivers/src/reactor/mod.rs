//! The reactor: "tell me when it is ready".
//!
//! One loop of wait, then for each ready connection: receive until it would block, the session, send until it would
//! block. How readiness is learnt is the replaceable part, a [`Poller`]; what a socket is, a [`Net`]. The simulator
//! replaces both, so the loop that is tested is the loop that runs.
//!
//! A turn of the loop: wait · accept · drive what is ready · run inline jobs · drive what was woken · fire deadlines.
//!
//! No deadline fires before what had arrived by then was looked at, however long the loop was kept from looking: by a
//! job, or because the whole process was stopped. A deadline that has passed waits for a poll that began after it, and
//! its connection is then tried once more, since one poll need not tell of everybody. A turn has one time for all that
//! it serves; if a session took long in it, what the connections noted is set to the turn's end.

mod connection;
mod drive;
mod listeners;
mod poller;
#[cfg(test)]
pub mod tests;
mod turn;
pub mod workers;

use std::{collections::VecDeque, io, mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    address::Address,
    connection::{BLOCK, Endpoint, Event, Operation},
    host::Host,
    stats::Refusal,
    ticket::Token,
};

use crate::{
    accept::Listener,
    failed::failed,
    handover::{HANDED, Handover},
    loop_state::{Call, LoopState},
    net::Net,
    orders::{Newcomer, Orders},
};
use connection::LoopConnection;
use drive::Drive;
use listeners::Listeners;
pub use poller::{Poller, Readiness};
use turn::Turn;
use workers::{Claimed, Line};

/// The loop. A `C` is a connection that it drives, or leaves to workers.
pub struct Reactor<N: Net, P: Poller<N>, C: Drive<N> = LoopConnection<<N as Net>::Stream>> {
    net: N,
    poller: P,
    state: LoopState<C>,
    workers: C::Workers,
    listeners: Listeners<N::ListenSocket>,
    handover: Handover<N::Stream>,
    /// Connections that have more to do although nothing new has happened to them.
    busy: VecDeque<Token>,
    ready: Vec<Readiness>,
    block: BytesMut,
    /// Something has moved in this turn.
    moved: bool,
}

impl<N: Net, P: Poller<N>> Reactor<N, P> {
    /// A loop that hears of sockets of `net` from `poller`, and lets in who comes to `listeners`.
    ///
    /// # Errors
    /// If the listeners cannot be watched.
    pub fn new(
        net: N,
        poller: P,
        host: Host,
        orders: Arc<Orders>,
        listeners: Vec<Listener<N::ListenSocket>>,
    ) -> io::Result<Self> {
        Self::of(net, poller, host, orders, listeners, ())
    }
}

impl<N: Net<Stream: Send + 'static>, P: Poller<N>> Reactor<N, P, Arc<Claimed<N::Stream>>> {
    /// The same, whose connections the workers of `line` drive. Its poller tells of changes.
    ///
    /// # Errors
    /// If the listeners cannot be watched.
    pub fn with_workers(
        net: N,
        poller: P,
        host: Host,
        orders: Arc<Orders>,
        listeners: Vec<Listener<N::ListenSocket>>,
        line: Arc<Line<N::Stream>>,
    ) -> io::Result<Self> {
        Self::of(net, poller, host, orders, listeners, line)
    }
}

impl<N: Net, P: Poller<N>, C: Drive<N>> Reactor<N, P, C> {
    fn of(
        net: N,
        mut poller: P,
        host: Host,
        orders: Arc<Orders>,
        listeners: Vec<Listener<N::ListenSocket>>,
        workers: C::Workers,
    ) -> io::Result<Self> {
        let listeners = Listeners::new(listeners, &host.shared.budget, &mut poller)?;
        Ok(Self {
            net,
            poller,
            state: LoopState::new(host, orders),
            workers,
            listeners,
            handover: Handover::default(),
            busy: VecDeque::new(),
            ready: Vec::new(),
            block: BytesMut::with_capacity(BLOCK),
            moved: true,
        })
    }

    /// The same loop, as one of several of a server.
    #[must_use]
    pub fn one_of(mut self, handover: Handover<N::Stream>) -> Self {
        self.handover = handover;
        self
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
        let idle = !mem::take(&mut self.moved);
        self.state.wait(timeout, |timeout| self.poller.wait(&mut ready, timeout, idle))?;
        let now = self.net.now();
        for ready in ready.drain(..) {
            match ready.token.listener() {
                Some(number) => self.accept(number, now),
                None => self.hear(ready, now),
            }
        }
        self.ready = ready;
        for _ in 0..self.busy.len() {
            if let Some(token) = self.busy.pop_front() {
                if let Some(connection) = self.state.connections.get(token) {
                    connection.set_busy(false);
                }
                self.drive(token, now);
            }
        }
        let done = self.state.run_jobs(now, || self.net.now());
        self.moved |= done.is_some();
        let now = done.unwrap_or(now);
        self.take_calls(now);
        self.fire_deadlines(self.state.ended, now);
        self.listeners.wake(&mut self.poller, now);
        self.handover.has(self.state.connections.count());
        self.state.end_turn(now, self.net.now());
        let over = self.state.has_drained() && self.handover.is_over();
        let stopped = C::STOPS_AT_ONCE && self.state.is_stopped();
        Ok(!over && !stopped)
    }

    /// How long the next turn would wait; `None`: until something happens.
    pub fn timeout(&mut self) -> Option<Duration> {
        self.timeout_at(self.net.now())
    }

    fn timeout_at(&mut self, now: Duration) -> Option<Duration> {
        self.state.timeout(now, !self.busy.is_empty(), self.listeners.resting())
    }

    /// Drives the connections that were woken, takes newcomers and orders.
    fn take_calls(&mut self, now: Duration) {
        self.moved |= self.state.take_calls();
        while let Some(call) = self.state.next_call() {
            match call {
                Call::Woken(HANDED) => self.take_handed(now),
                Call::Woken(token) => {
                    self.tell(token, Event::Woken, now);
                    self.drive(token, now);
                }
                Call::New(Newcomer::Dials(endpoint)) => self.connect(endpoint, now),
                Call::New(Newcomer::Attends(endpoint)) => self.insert(None, endpoint, now),
                Call::Cede => self.listeners.cede(&mut self.poller),
                Call::Drain => self.drain(now),
                Call::Stop => self.stop(now),
            }
        }
    }

    fn stop(&mut self, now: Duration) {
        self.listeners.cede(&mut self.poller);
        for token in self.state.connections.tokens() {
            self.tell(token, Event::Stop, now);
            self.drive(token, now);
        }
        for handed in self.handover.close() {
            self.state.host.count.refuse(Refusal::Stopped);
            self.net.close(handed.stream, true);
        }
    }

    /// What has arrived by now is served, and so is who waits at the listeners.
    fn drain(&mut self, now: Duration) {
        for token in self.state.connections.tokens() {
            self.look(token, now);
            self.tell(token, Event::Drain, now);
            self.drive(token, now);
        }
        for (stream, endpoint) in self.listeners.close(&mut self.net, &mut self.poller, &mut self.state.host)
        {
            self.insert(Some(stream), endpoint, now);
        }
        self.handover.end();
    }

    /// Fires the deadlines that had passed when this turn's poll began.
    fn fire_deadlines(&mut self, polled: Duration, now: Duration) {
        for _ in 0..self.state.connections.deadlines() {
            let Some(token) = self.state.connections.due(polled) else {
                return;
            };
            self.look(token, now);
            self.tell(token, Event::Tick, now);
            self.drive(token, now);
        }
    }

    /// Tries what is in flight for a connection, told or not that it would work.
    fn look(&mut self, token: Token, now: Duration) {
        self.hear(Readiness { token, readable: true, writable: true, more: false }, now);
    }

    /// Takes what waits in a listener's backlog, until that is empty or it is the others' turn.
    fn accept(&mut self, number: usize, now: Duration) {
        while let Some((stream, endpoint)) = self.next(number) {
            self.moved = true;
            self.insert(Some(stream), endpoint, now);
        }
    }

    /// The next of those who wait that is for this loop.
    fn next(&mut self, number: usize) -> Option<(N::Stream, Box<dyn Endpoint>)> {
        let Self { net, poller, state, listeners, handover, .. } = self;
        let has = state.connections.count();
        listeners.next(number, net, poller, &mut state.host, |handed| handover.hand(handed, has))
    }

    /// Lets in who was handed over.
    fn take_handed(&mut self, now: Duration) {
        for handed in self.handover.take() {
            if let Some((stream, endpoint)) = handed.begin(&mut self.net, &mut self.state.host) {
                self.insert(Some(stream), endpoint, now);
            }
        }
    }

    fn connect(&mut self, endpoint: Box<dyn Endpoint>, now: Duration) {
        let Some(endpoint) = self.state.dials(endpoint, now) else { return };
        let address = endpoint.address().clone();
        let token = self.place(endpoint, true, now);
        self.dial(token, address, now);
    }

    /// Begins the connection of an endpoint.
    fn dial(&mut self, token: Token, address: Address, now: Duration) {
        let begun = self.net.connect(&address).and_then(|stream| self.attach(token, stream));
        if let Err(error) = begun {
            self.tell(token, failed(Operation::Connect, error, N::classify), now);
        }
        self.drive(token, now);
    }

    /// Drives an endpoint on its stream; one without a stream is never ready for anything.
    fn insert(&mut self, stream: Option<N::Stream>, endpoint: Box<dyn Endpoint>, now: Duration) {
        let token = self.place(endpoint, false, now);
        if stream.is_none() {
            self.state.connections.set_aside(token);
        }
        // A connection hears of the drain first, what has none after it was opened.
        let drains = self.state.is_draining();
        let (first, then) = (drains && stream.is_some(), drains && stream.is_none());
        if first {
            self.tell(token, Event::Drain, now);
        }
        match stream.map_or(Ok(()), |stream| self.attach(token, stream)) {
            Err(error) => self.tell(token, Event::Failed(error), now),
            Ok(()) => self.tell(token, Event::Opened, now),
        }
        if then {
            self.tell(token, Event::Drain, now);
        }
        self.drive(token, now);
    }

    fn place(&mut self, endpoint: Box<dyn Endpoint>, connecting: bool, now: Duration) -> Token {
        let token = self.state.connections.insert(C::new(&self.workers, endpoint, connecting));
        if let Some(connection) = self.state.connections.get(token) {
            connection.place(token, &self.state.host.wake_queue, now);
        }
        token
    }

    fn attach(&mut self, token: Token, stream: N::Stream) -> io::Result<()> {
        let added = self.poller.add(&stream, token);
        match self.state.connections.get(token) {
            Some(connection) if added.is_ok() => connection.attach(stream),
            _ => {
                // It may know of it all the same.
                self.poller.remove(&stream);
                self.net.close(stream, true);
            }
        }
        added
    }

    /// Notes what a poller said of a connection, and drives it.
    fn hear(&mut self, ready: Readiness, now: Duration) {
        let Some(connection) = self.state.connections.get(ready.token) else {
            return;
        };
        connection.note(ready.readable, ready.writable, ready.more);
        if connection.is_busy() {
            return;
        }
        if let Some(event) = connection.decided(&mut self.net) {
            self.moved = true;
            self.tell(ready.token, event, now);
        }
        self.drive(ready.token, now);
    }

    fn tell(&mut self, token: Token, event: Event<'static>, now: Duration) {
        if let Some(connection) = self.state.connections.get(token) {
            connection.tell(event, now, &mut self.state.host);
        }
    }

    /// Gives a connection its turn.
    fn drive(&mut self, token: Token, now: Duration) {
        let mut connects = Vec::new();
        let Some(connection) = self.state.connections.get(token) else {
            return;
        };
        let (turn, moved) =
            connection.drive(&mut self.net, &mut self.block, now, &mut self.state.host, &mut connects);
        self.moved |= moved > 0;
        match turn {
            Turn::Closes { reset } => self.close(token, reset),
            Turn::Dials(address) => self.dial(token, address, now),
            Turn::Rests => self.rest(token),
            Turn::HasMore => {
                if !connection.is_busy() {
                    connection.set_busy(true);
                    self.busy.push_back(token);
                }
                self.rest(token);
            }
        }
        if !connects.is_empty() {
            connects.into_iter().for_each(|outgoing| self.connect(outgoing.endpoint, now));
        }
    }

    /// The connection waits: for the poller, and for its deadline.
    fn rest(&mut self, token: Token) {
        let Some(connection) = self.state.connections.get(token) else {
            return;
        };
        if let Some((stream, receive, send)) = connection.untold()
            && let Err(error) = self.poller.interest(stream, token, receive, send)
        {
            tracing::warn!(%error, "the poller lost a connection");
            return self.close(token, true);
        }
        self.state.connections.schedule(token);
    }

    fn close(&mut self, token: Token, reset: bool) {
        if let Some(stream) = self.state.connections.remove(token).and_then(Drive::into_stream) {
            self.poller.remove(&stream);
            self.net.close(stream, reset);
        }
    }
}
