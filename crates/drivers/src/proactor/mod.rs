//! The proactor: "tell me when it is done".
//!
//! One loop of submit, wait for completions, session, submit. Where completions arrive is the replaceable part, a
//! [`CompletionQueue`]. An operation that was submitted belongs to the completion queue with all that it works on,
//! until its completion comes, in whatever order; what was lent to a send belongs to it until it comes home. To close
//! a connection is therefore three steps: cancel what is in flight, hear of it, close.
//!
//! A turn of the loop: wait · handle what is done · run inline jobs · drive what was woken · fire deadlines.
//!
//! No deadline fires before what had arrived by then was looked at, however long the loop was kept from looking: one
//! that has passed waits for a turn that began after it, and for the completion queue to try what is in flight there.

pub mod blocks;
mod completions;
mod connection;
mod direction;
pub mod emulated;
mod in_flight;
mod incoming;
mod listeners;
pub mod readiness;
mod sends;
#[cfg(test)]
mod tests;

use std::{io, mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    budget::give_back,
    connection::{Endpoint, Event, Operation},
    host::Host,
    output::Lent,
    stats::Refusal,
    ticket::Token,
};

use crate::{
    accept::{self, Open, Taken},
    failed::failed,
    handover::{HANDED, Handed, Handover},
    loop_state::{Call, LoopState},
    net::Failure,
    orders::{Newcomer, Orders},
};
use blocks::Block;
pub use completions::{Completion, CompletionQueue};
use connection::{LoopConnection, begin_send, submit};
use in_flight::Sending;
use listeners::Listeners;
use sends::Lines;

/// How often, and how long each time, the loop waits for what it has cancelled when it is told to stop.
const REAPS: usize = 100;
const REAP: Duration = Duration::from_millis(10);

/// The loop.
pub struct Proactor<P: CompletionQueue> {
    completions: P,
    state: LoopState<LoopConnection>,
    listeners: Listeners,
    handover: Handover<P::Stream>,
    lines: Lines,
    done: Vec<Completion<P::Stream>>,
}

impl<P: CompletionQueue> Proactor<P> {
    /// A loop around `completions`, whose listeners are numbered as `openers` are.
    pub fn new(completions: P, host: Host, orders: Arc<Orders>, openers: Vec<Arc<Open>>) -> Self {
        let mut proactor = Self {
            completions,
            listeners: Listeners::new(openers, &host.shared.budget),
            handover: Handover::default(),
            lines: Lines::new(host.shared.budget.in_flight),
            done: Vec::new(),
            state: LoopState::new(host, orders),
        };
        proactor.listeners.accept_again(&mut proactor.completions, Duration::MAX);
        proactor
    }

    /// The same loop, as one of several of a server.
    #[must_use]
    pub fn one_of(mut self, handover: Handover<P::Stream>) -> Self {
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
        if timeout != Some(Duration::ZERO) {
            self.lines.trim();
        }
        let mut done = mem::take(&mut self.done);
        self.state.wait(timeout, |timeout| self.completions.wait(&mut done, timeout))?;
        let now = self.completions.now();
        for done in done.drain(..) {
            self.complete(done, now);
        }
        self.done = done;
        let now = self.state.run_jobs(now, || self.completions.now()).unwrap_or(now);
        self.take_calls(now);
        self.look_at_due(self.state.ended);
        if self.state.lets_in() {
            self.listeners.accept_again(&mut self.completions, now);
        }
        self.handover.has(self.state.connections.count());
        self.state.end_turn(now, self.completions.now());
        let over = self.state.has_drained() && self.handover.is_over();
        Ok(!self.state.is_stopped() && (!over || self.completions.has_done()))
    }

    /// How long the next turn would wait; `None`: until something happens.
    pub fn timeout(&mut self) -> Option<Duration> {
        self.timeout_at(self.completions.now())
    }

    fn timeout_at(&mut self, now: Duration) -> Option<Duration> {
        self.state.timeout(now, self.completions.has_done(), self.listeners.resting())
    }

    fn complete(&mut self, done: Completion<P::Stream>, now: Duration) {
        match done {
            Completion::Accepted(listener, taken, first) => self.accepted(listener, taken, first, now),
            Completion::Connected(token, result) => {
                let event = match result {
                    Ok(()) => Event::Opened,
                    Err(error) => failed(Operation::Connect, error, P::classify),
                };
                self.completed(token, Operation::Connect, event, now);
            }
            Completion::Sent(token, result) => self.sent(token, result, now),
            Completion::Full(token) => self.full(token),
            Completion::Room(token) => self.room(token),
            Completion::Released(token, lent) => self.released(token, lent, now),
            Completion::Read(token, result) => self.read(token, result, now),
            Completion::Looked(token) => self.looked(token, now),
            Completion::Received { token, result, more } => self.received(token, result, more, now),
        }
    }

    fn received(&mut self, token: Token, result: io::Result<Block>, more: bool, now: Duration) {
        let Some(connection) = self.state.connections.get(token) else { return };
        if !connection.in_flight.received(result.as_ref().map_or(0, |block| block.len()), more) {
            return;
        }
        let host = &mut self.state.host;
        host.count.receives += 1;
        let exhausted = result.as_ref().is_err_and(|error| P::classify(error) == Failure::NoRoom);
        if exhausted {
            self.lines.sends.exhausted();
        }
        if connection.closing.is_some() {
            return self.close_if_idle(token);
        }
        match result {
            Ok(block) if !block.is_empty() => connection.receive(block, now, host),
            Ok(_) => connection.receive_last(Ok(()), now, host),
            // What is not asked for yet is asked of the completion queue again when it is.
            Err(_) if exhausted => {
                if connection.incoming.take_asked().is_some() {
                    connection.endpoint.handle(now, Event::Exhausted(Operation::Receive), host);
                }
            }
            Err(error) => connection.receive_last(Err(error), now, host),
        }
        self.drive(token, now);
    }

    fn sent(&mut self, token: Token, result: io::Result<u64>, now: Duration) {
        let Some(connection) = self.state.connections.get(token) else { return };
        if connection.in_flight.send == Sending::Idle {
            return;
        }
        self.state.host.count.sends += 1;
        let event = match result {
            Ok(count) => {
                self.lines.sends.went_well();
                Event::Sent(count)
            }
            Err(error) => failed(Operation::Send, error, P::classify),
        };
        self.completed(token, Operation::Send, event, now);
    }

    fn read(&mut self, token: Token, mut part: io::Result<BytesMut>, now: Duration) {
        let Some(connection) = self.state.connections.get(token) else { return };
        let Some(pages) = connection.in_flight.read.take() else { return };
        match connection.closing {
            None => self.heard(token, Event::Read(&mut part), now),
            Some(_) => self.close_if_idle(token),
        }
        self.lines.reads.give_back(pages);
        self.begin_waiting(true);
    }

    /// A peer without room is in nobody's way but its own.
    fn full(&mut self, token: Token) {
        if let Some(connection) = self.state.connections.get(token)
            && connection.in_flight.send == Sending::Works
        {
            connection.in_flight.send = Sending::Full;
        }
    }

    /// What was lent to a send comes home. What was not sent of it is lent again where that is what is waited for.
    fn released(&mut self, token: Token, mut lent: Box<Lent>, now: Duration) {
        if let Some(connection) = self.state.connections.get(token).filter(|connection| connection.lent > 0) {
            give_back(&mut connection.lent, 1);
            connection.endpoint.take_back(&mut lent);
        }
        self.lines.sends.take_back(lent);
        self.resume(token, now);
        self.begin_waiting(false);
    }

    fn resume(&mut self, token: Token, now: Duration) {
        let Some(connection) = self.state.connections.get(token) else { return };
        match connection.closing {
            None => {
                if connection.resumes {
                    begin_send(connection, token, &mut self.completions, &mut self.lines.sends);
                }
                self.drive(token, now);
            }
            Some(_) => self.close_if_idle(token),
        }
    }

    /// A peer has room again: its send has its turn as any other.
    fn room(&mut self, token: Token) {
        let Some(connection) =
            self.state.connections.get(token).filter(|connection| connection.in_flight.send == Sending::Full)
        else {
            return;
        };
        connection.in_flight.send = Sending::Idle;
        match connection.closing {
            None => begin_send(connection, token, &mut self.completions, &mut self.lines.sends),
            Some(_) => self.close_if_idle(token),
        }
    }

    /// Begins the sends, or the reads, that waited, as many as there is room for.
    fn begin_waiting(&mut self, reads: bool) {
        let line = self.lines.of(reads);
        while let Some(token) = line.first() {
            // Whoever is closed has left the line.
            let Some(connection) = self.state.connections.get(token) else { return };
            let pages = connection.waits_for();
            if !line.begin_first(pages) {
                return;
            }
            connection.begin_waiting(token, &mut self.completions, line, pages);
        }
    }

    /// One operation of a connection is done; of one that closes, nothing else matters.
    fn completed(&mut self, token: Token, operation: Operation, event: Event<'_>, now: Duration) {
        let Some(connection) = self.state.connections.get(token) else { return };
        if !connection.in_flight.end(operation) {
            return;
        }
        if let Event::Exhausted(_) = event {
            self.lines.sends.exhausted();
        }
        match connection.closing {
            None => self.heard(token, event, now),
            Some(_) => self.close_if_idle(token),
        }
    }

    /// Drives a connection that hears of something.
    fn heard(&mut self, token: Token, event: Event<'_>, now: Duration) {
        self.tell(token, event, now);
        self.drive(token, now);
    }

    fn accepted(&mut self, number: usize, taken: Taken<P::Stream>, first: Option<Block>, now: Duration) {
        match self.listeners.complete(number, taken, now, self.state.lets_in(), &mut self.state.host) {
            // Who drains lets in by itself who has waited; what came in a block of this loop is read here.
            Ok(Some(it)) if first.is_some() || self.state.is_draining() => self.let_in(it, first, now),
            Ok(Some(handed)) => {
                if let Some(kept) = self.handover.hand(handed, self.state.connections.count()) {
                    self.let_in(kept, None, now);
                }
            }
            Ok(None) => {}
            Err(stream) => self.completions.refuse(stream),
        }
    }

    fn let_in(&mut self, handed: Handed<P::Stream>, first: Option<Block>, now: Duration) {
        let Handed { stream, peer, permit, open } = handed;
        match accept::begin(&*open, peer, permit, &mut self.state.host) {
            Some(endpoint) => self.adopt(stream, endpoint, first, now),
            None => self.completions.refuse(stream),
        }
    }

    /// Lets in who was handed over.
    fn take_handed(&mut self, now: Duration) {
        for handed in self.handover.take() {
            self.let_in(handed, None, now);
        }
    }

    fn adopt(&mut self, stream: P::Stream, endpoint: Box<dyn Endpoint>, first: Option<Block>, now: Duration) {
        let token = self.insert(endpoint, true, now);
        if let Some((connection, first)) = self.state.connections.get(token).zip(first) {
            match first.is_empty() {
                true => connection.receive_last(Ok(()), now, &mut self.state.host),
                false => connection.keep(&first, now, &mut self.state.host),
            }
        }
        if self.state.is_draining() {
            self.tell(token, Event::Drain, now);
        }
        let event = match self.completions.adopt(stream, token) {
            Ok(()) => Event::Opened,
            Err(error) => Event::Failed(error),
        };
        self.heard(token, event, now);
    }

    fn insert(&mut self, endpoint: Box<dyn Endpoint>, socket: bool, now: Duration) -> Token {
        let token = self.state.connections.insert(LoopConnection::new(endpoint, socket));
        if let Some(connection) = self.state.connections.get(token) {
            connection.endpoint.place(token, &self.state.host.wake_queue, now);
        }
        token
    }

    fn connect(&mut self, endpoint: Box<dyn Endpoint>, now: Duration) {
        let Some(endpoint) = self.state.dials(endpoint, now) else { return };
        let address = endpoint.address().clone();
        let token = self.insert(endpoint, true, now);
        if let Some(connection) = self.state.connections.get(token) {
            connection.in_flight.connect = true;
            self.completions.connect(address, token);
        }
        self.state.connections.schedule(token);
    }

    /// Drives the connections that were woken, takes newcomers and orders.
    fn take_calls(&mut self, now: Duration) {
        self.state.take_calls();
        while let Some(call) = self.state.next_call() {
            match call {
                Call::Woken(HANDED) => self.take_handed(now),
                Call::Woken(token) => self.heard(token, Event::Woken, now),
                Call::New(Newcomer::Dials(endpoint)) => self.connect(endpoint, now),
                Call::New(Newcomer::Attends(endpoint)) => self.attend(endpoint, now),
                Call::Cede => self.listeners.close(&mut self.completions, false),
                Call::Drain => self.drain(),
                Call::Stop => self.stop(now),
            }
        }
    }

    /// Drives a session that has no connection.
    fn attend(&mut self, endpoint: Box<dyn Endpoint>, now: Duration) {
        let token = self.insert(endpoint, false, now);
        self.state.connections.set_aside(token);
        self.heard(token, Event::Opened, now);
        if self.state.is_draining() {
            self.tell(token, Event::Drain, now);
            self.drive(token, now);
        }
    }

    fn stop(&mut self, now: Duration) {
        self.listeners.clear();
        self.completions.deafen(true);
        for token in self.state.connections.tokens() {
            self.tell(token, Event::Stop, now);
            self.drive(token, now);
        }
        for handed in self.handover.close() {
            self.state.host.count.refuse(Refusal::Stopped);
            self.completions.refuse(handed.stream);
        }
        self.reap(now);
    }

    /// What has arrived by now is served, and so is who waits at the listeners.
    fn drain(&mut self) {
        for token in self.state.connections.tokens() {
            if let Some(connection) = self.state.connections.get(token) {
                connection.drains = true;
                self.completions.look(token);
            }
        }
        self.listeners.close(&mut self.completions, true);
        self.handover.end();
    }

    /// Hears of what was cancelled, so that every connection is closed. A completion queue that does not tell is not
    /// waited for long.
    fn reap(&mut self, now: Duration) {
        let mut done = Vec::new();
        for _ in 0..REAPS {
            if self.state.connections.is_empty() || self.completions.wait(&mut done, Some(REAP)).is_err() {
                return;
            }
            for done in done.drain(..) {
                self.complete(done, now);
            }
        }
    }

    /// Has the completion queue look at those whose deadlines had passed when this turn's wait began.
    fn look_at_due(&mut self, waited: Duration) {
        while let Some(token) = self.state.connections.due(waited) {
            if let Some(connection) = self.state.connections.get(token) {
                connection.overdue = Some(waited);
                self.completions.look(token);
            }
        }
    }

    /// Fires a deadline that nothing has moved, and lets the connection know of the drain.
    fn looked(&mut self, token: Token, now: Duration) {
        let Some(connection) = self.state.connections.get(token) else { return };
        let since = connection.overdue.take().unwrap_or_default();
        if connection.endpoint.deadline().is_some_and(|deadline| deadline <= since) {
            self.tell(token, Event::Tick, now);
        }
        if self.state.connections.get(token).is_some_and(|connection| mem::take(&mut connection.drains)) {
            self.tell(token, Event::Drain, now);
        }
        self.drive(token, now);
    }

    fn tell(&mut self, token: Token, event: Event<'_>, now: Duration) {
        if let Some(connection) =
            self.state.connections.get(token).filter(|connection| connection.closing.is_none())
        {
            connection.endpoint.handle(now, event, &mut self.state.host);
        }
    }

    /// Submits what the connection asks for.
    fn drive(&mut self, token: Token, now: Duration) {
        let mut connects = Vec::new();
        let Some(connection) =
            self.state.connections.get(token).filter(|connection| connection.closing.is_none())
        else {
            return;
        };
        loop {
            connection.closing =
                submit(connection, token, &mut self.completions, &mut self.lines, &mut connects);
            if connection.closing.is_some() || !connection.hear_early(now, &mut self.state.host) {
                break;
            }
        }
        if connection.closing.is_none() {
            connection.endpoint.settle(now, &mut self.state.host);
            connection.closing =
                submit(connection, token, &mut self.completions, &mut self.lines, &mut connects);
        }
        if connection.closing.is_some() {
            connection.incoming.close();
            if let Some(place) = connection.waits.take() {
                self.lines.of(connection.reads).leave(place);
                connection.reads = false;
            }
            if !connection.in_flight.is_empty() {
                self.completions.cancel(token);
            }
            self.close_if_idle(token);
        } else {
            self.state.connections.schedule(token);
        }
        for outgoing in connects {
            self.connect(outgoing.endpoint, now);
        }
    }

    fn close_if_idle(&mut self, token: Token) {
        let Some(connection) = self.state.connections.get(token) else { return };
        if let Some(reset) = connection.closing.filter(|_| connection.in_flight.is_empty()) {
            if mem::take(&mut connection.socket) {
                self.completions.close(token, reset);
            }
            if connection.lent == 0 {
                self.state.connections.remove(token);
            }
        }
    }
}
