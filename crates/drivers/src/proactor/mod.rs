//! The proactor: "tell me when it is done".
//!
//! One loop of submit, wait for completions, session, submit. Where completions arrive is the replaceable part, a
//! [`Port`]. An operation that was submitted belongs to the port with all that it works on, until its completion comes,
//! in whatever order. To close a connection is therefore three steps: cancel what is in flight, hear of it, close.
//!
//! A turn of the loop: wait · handle what is done · run inline jobs · drive what was woken · fire deadlines.
//!
//! No deadline fires before what had arrived by then was looked at, however long the loop was kept from looking: one
//! that has passed waits for a turn that began after it, and for the port to try once more what is in flight there.

mod direction;
pub mod emulated;
mod in_flight;
mod port;
pub mod readiness;
mod sends;
mod slot;
#[cfg(test)]
mod tests;

use std::{io, mem, sync::Arc, time::Duration};

use roadstead_proto::{
    connection::{Endpoint, Event, Operation, Outgoing},
    host::Host,
    ticket::Token,
};

use crate::{
    accept::{self, Open, Pool, Taken},
    failed::failed,
    net::REST,
    orders::{ORDERS, Order, Orders},
    slots::Slots,
};
pub use port::{Completion, Port};
use sends::{Sends, pages};
use slot::{Slot, begin_send, send, submit};

/// How often, and how long each time, the loop waits for what it has cancelled when it is told to stop.
const REAPS: usize = 100;
const REAP: Duration = Duration::from_millis(10);

/// One listener of the loop.
struct Listener {
    /// What becomes of its connections.
    open: Arc<Open>,
    pool: Pool,
    /// The system had no room for another connection: it is not asked for one until then.
    resting: Option<Duration>,
}

/// The loop.
pub struct Proactor<P: Port> {
    port: P,
    host: Host,
    orders: Arc<Orders>,
    listeners: Vec<Listener>,
    slots: Slots<Slot>,
    sends: Sends,
    done: Vec<Completion<P::Stream>>,
    woken: Vec<Token>,
    draining: bool,
    /// When the last turn ended.
    ended: Duration,
}

impl<P: Port> Proactor<P> {
    /// A loop around `port`, whose listeners are numbered as `doors` are.
    pub fn new(port: P, host: Host, orders: Arc<Orders>, doors: Vec<Arc<Open>>) -> Self {
        let listeners = doors.into_iter().map(|open| Listener { open, pool: Pool::new(), resting: None });
        let mut proactor = Self {
            port,
            host,
            orders,
            listeners: listeners.collect(),
            slots: Slots::default(),
            sends: Sends::new(),
            done: Vec::new(),
            woken: Vec::new(),
            draining: false,
            ended: Duration::ZERO,
        };
        proactor.accept_again(Duration::MAX);
        proactor
    }

    /// Runs until the server has drained or is stopped.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn. False when the loop has nothing left to live for.
    pub fn turn(&mut self) -> io::Result<bool> {
        let timeout = self.timeout_at(self.ended);
        self.host.count.waits += 1;
        if timeout != Some(Duration::ZERO) {
            self.host.count.sleeps += 1;
            self.sends.trim();
        }
        let mut done = mem::take(&mut self.done);
        let waited = self.port.wait(&mut done, timeout);
        self.host.bell.wake_up();
        waited?;
        let now = self.port.now();
        for done in done.drain(..) {
            self.complete(done, now);
        }
        self.done = done;
        let (served, now) = (now, if self.host.jobs.run_turn() { self.port.now() } else { now });
        self.slots.correct(served, now);
        let alive = self.answer_bell(now);
        self.look_at_due(self.ended);
        self.accept_again(now);
        self.host.report();
        self.ended = self.port.now();
        self.slots.correct(now, self.ended);
        Ok(alive && !(self.draining && self.slots.is_empty() && !self.port.has_done()))
    }

    /// How long the next turn would wait; `None`: until something happens.
    pub fn timeout(&mut self) -> Option<Duration> {
        self.timeout_at(self.port.now())
    }

    fn timeout_at(&mut self, now: Duration) -> Option<Duration> {
        if self.port.has_done() || self.host.jobs.are_ready() || !self.host.bell.fall_asleep() {
            return Some(Duration::ZERO);
        }
        let resting = self.listeners.iter().filter_map(|listener| listener.resting);
        let next = resting.chain(self.slots.next_deadline()).min()?;
        Some(next.saturating_sub(now))
    }

    fn complete(&mut self, done: Completion<P::Stream>, now: Duration) {
        match done {
            Completion::Accepted(listener, taken) => self.accepted(listener, taken, now),
            Completion::Connected(token, result) => {
                let event = match result {
                    Ok(()) => Event::Opened,
                    Err(error) => failed(Operation::Connect, error, P::classify),
                };
                self.completed(token, Operation::Connect, event, now);
            }
            Completion::Sent(token, output, result) => {
                self.sends.take_back(output);
                self.sent(token, result, now);
            }
            Completion::Full(token, output) => {
                self.sends.take_back(output);
                self.full(token);
            }
            Completion::Room(token) => self.room(token),
            Completion::Looked(token) => self.looked(token, now),
            Completion::Received(token, mut block, result) => {
                self.host.count.receives += 1;
                let event = match result {
                    Ok(0) => Event::Ended,
                    Ok(_) => Event::Received(&mut block),
                    Err(error) => failed(Operation::Receive, error, P::classify),
                };
                self.completed(token, Operation::Receive, event, now);
                self.port.recycle(block);
            }
        }
    }

    fn sent(&mut self, token: Token, result: io::Result<u64>, now: Duration) {
        let Some(pinned) = self.slots.get(token).and_then(|slot| slot.in_flight.send) else { return };
        self.host.count.sends += 1;
        let well = result.is_ok();
        let event = match result {
            Ok(count) => Event::Sent(count),
            Err(error) => failed(Operation::Send, error, P::classify),
        };
        self.completed(token, Operation::Send, event, now);
        self.sends.end(pinned, well);
        self.send_waiting();
    }

    /// A peer without room is in nobody's way but its own.
    fn full(&mut self, token: Token) {
        let send = self.slots.get(token).and_then(|slot| slot.in_flight.send.as_mut());
        let Some(pinned) = send.map(mem::take) else { return };
        self.sends.end(pinned, false);
        self.send_waiting();
    }

    /// A peer has room again: its send has its turn as any other.
    fn room(&mut self, token: Token) {
        let Some(slot) = self.slots.get(token).filter(|slot| slot.in_flight.send == Some(0)) else { return };
        slot.in_flight.send = None;
        match slot.closing {
            None => begin_send(slot, token, &mut self.port, &mut self.sends),
            Some(_) => self.close_if_idle(token),
        }
    }

    /// Begins the sends that waited, as many as there is room for.
    fn send_waiting(&mut self) {
        while let Some(token) = self.sends.first() {
            // Whoever is closed has left the line.
            let Some(slot) = self.slots.get(token) else { return };
            let pages = pages(slot.endpoint.output().buffered());
            if !self.sends.begin_first(pages) {
                return;
            }
            slot.waits = None;
            send(slot, token, &mut self.port, &mut self.sends, pages);
        }
    }

    /// One operation of a connection is done; of one that closes, nothing else matters.
    fn completed(&mut self, token: Token, operation: Operation, event: Event<'_>, now: Duration) {
        let Some(slot) = self.slots.get(token) else { return };
        if !slot.in_flight.end(operation) {
            return;
        }
        if let Event::Exhausted(_) = event {
            self.sends.exhausted();
        }
        match slot.closing {
            None => {
                slot.endpoint.handle(now, event, &mut self.host);
                self.drive(token, now);
            }
            Some(_) => self.close_if_idle(token),
        }
    }

    fn accepted(&mut self, number: usize, taken: Taken<P::Stream>, now: Duration) {
        let Some(listener) = self.listeners.get_mut(number) else {
            if let Taken::One(stream, _) = taken {
                self.port.refuse(stream);
            }
            return;
        };
        if let Taken::Exhausted = taken {
            listener.pool.exhausted();
            listener.resting = (!self.draining).then_some(now + REST);
            return;
        }
        listener.pool.complete(now);
        match taken {
            Taken::One(stream, peer) => match accept::admit(&*listener.open, peer, &mut self.host) {
                Some(endpoint) => self.adopt(stream, endpoint, now),
                None => self.port.refuse(stream),
            },
            Taken::Shed => self.host.count.refused += 1,
            Taken::Lost | Taken::Empty | Taken::Exhausted => {}
        }
    }

    /// Fills the pools of the listeners that do not rest.
    fn accept_again(&mut self, now: Duration) {
        if self.draining {
            return;
        }
        for (number, listener) in self.listeners.iter_mut().enumerate() {
            if listener.resting.is_none_or(|until| until <= now) {
                listener.resting = None;
                (0..listener.pool.fill()).for_each(|_| self.port.accept(number));
            }
        }
    }

    fn adopt(&mut self, stream: P::Stream, endpoint: Box<dyn Endpoint>, now: Duration) {
        let token = self.insert(endpoint, true, now);
        if self.draining {
            self.tell(token, Event::Drain, now);
        }
        let event = match self.port.adopt(stream, token) {
            Ok(()) => Event::Opened,
            Err(error) => Event::Failed(error),
        };
        self.open(token, event, now);
    }

    /// Begins to drive an endpoint that is where it belongs.
    fn open(&mut self, token: Token, event: Event<'_>, now: Duration) {
        self.tell(token, event, now);
        self.drive(token, now);
    }

    fn insert(&mut self, endpoint: Box<dyn Endpoint>, socket: bool, now: Duration) -> Token {
        let token = self.slots.insert(Slot::new(endpoint, socket));
        if let Some(slot) = self.slots.get(token) {
            slot.endpoint.place(token, &self.host.bell, now);
        }
        token
    }

    fn connect(&mut self, outgoing: Outgoing, now: Duration) {
        self.host.count.connected += 1;
        let Outgoing { address, mut endpoint } = outgoing;
        if self.draining {
            return endpoint.handle(now, Event::Stop, &mut self.host);
        }
        let token = self.insert(endpoint, true, now);
        if let Some(slot) = self.slots.get(token) {
            slot.in_flight.connect = true;
            self.port.connect(address, token);
        }
        self.slots.schedule(token);
    }

    /// Drives those whose bell has rung. False when the loop was told to stop.
    fn answer_bell(&mut self, now: Duration) -> bool {
        let mut woken = mem::take(&mut self.woken);
        self.host.bell.answer(&mut woken);
        let mut alive = true;
        for token in woken.drain(..) {
            if token == ORDERS {
                alive &= self.obey(now);
            } else {
                self.tell(token, Event::Woken, now);
                self.drive(token, now);
            }
        }
        self.woken = woken;
        alive
    }

    fn obey(&mut self, now: Duration) -> bool {
        for (address, endpoint) in self.orders.newcomers() {
            match address {
                Some(address) => self.connect(Outgoing { address, endpoint }, now),
                None => {
                    let token = self.insert(endpoint, false, now);
                    self.open(token, Event::Opened, now);
                    if self.draining {
                        self.tell(token, Event::Drain, now);
                        self.drive(token, now);
                    }
                }
            }
        }
        match self.orders.order() {
            Order::Stop => {
                self.stop(now);
                return false;
            }
            Order::Drain if !self.draining => self.drain(),
            _ => {}
        }
        true
    }

    fn stop(&mut self, now: Duration) {
        self.draining = true;
        self.listeners.clear();
        self.port.deafen();
        for token in self.slots.tokens() {
            self.tell(token, Event::Stop, now);
            self.drive(token, now);
        }
        self.reap(now);
    }

    /// What has arrived by now is served, and so is who waits at the doors.
    fn drain(&mut self) {
        self.draining = true;
        for token in self.slots.tokens() {
            if let Some(slot) = self.slots.get(token) {
                slot.drains = true;
                self.port.look(token);
            }
        }
        self.listeners.iter_mut().for_each(|listener| listener.resting = None);
        self.port.deafen();
    }

    /// Hears of what was cancelled, so that every connection is closed. A port that does not tell is not waited for long.
    fn reap(&mut self, now: Duration) {
        let mut done = Vec::new();
        for _ in 0..REAPS {
            if self.slots.is_empty() || self.port.wait(&mut done, Some(REAP)).is_err() {
                return;
            }
            for done in done.drain(..) {
                self.complete(done, now);
            }
        }
    }

    /// Has the port look at those whose deadlines had passed when this turn's wait began.
    fn look_at_due(&mut self, waited: Duration) {
        while let Some(token) = self.slots.due(waited) {
            if let Some(slot) = self.slots.get(token) {
                slot.overdue = Some(waited);
                self.port.look(token);
            }
        }
    }

    /// Fires a deadline that nothing has moved, and lets the connection know of the drain.
    fn looked(&mut self, token: Token, now: Duration) {
        let Some(slot) = self.slots.get(token) else { return };
        let since = slot.overdue.take().unwrap_or_default();
        if slot.endpoint.deadline().is_some_and(|deadline| deadline <= since) {
            self.tell(token, Event::Tick, now);
        }
        if self.slots.get(token).is_some_and(|slot| mem::take(&mut slot.drains)) {
            self.tell(token, Event::Drain, now);
        }
        self.drive(token, now);
    }

    fn tell(&mut self, token: Token, event: Event<'_>, now: Duration) {
        if let Some(slot) = self.slots.get(token).filter(|slot| slot.closing.is_none()) {
            slot.endpoint.handle(now, event, &mut self.host);
        }
    }

    /// Submits what the connection asks for.
    fn drive(&mut self, token: Token, now: Duration) {
        let mut connects = Vec::new();
        let Some(slot) = self.slots.get(token).filter(|slot| slot.closing.is_none()) else { return };
        slot.closing = submit(slot, token, &mut self.port, &mut self.sends, &mut connects);
        if slot.closing.is_none() {
            slot.endpoint.settle(now, &mut self.host);
            slot.closing = submit(slot, token, &mut self.port, &mut self.sends, &mut connects);
        }
        if slot.closing.is_some() {
            if let Some(place) = slot.waits.take() {
                self.sends.leave(place);
            }
            if !slot.in_flight.is_empty() {
                self.port.cancel(token);
            }
            self.close_if_idle(token);
        } else {
            self.slots.schedule(token);
        }
        for outgoing in connects {
            self.connect(outgoing, now);
        }
    }

    fn close_if_idle(&mut self, token: Token) {
        let Some(slot) = self.slots.get(token) else { return };
        if let Some(reset) = slot.closing.filter(|_| slot.in_flight.is_empty()) {
            if slot.socket {
                self.port.close(token, reset);
            }
            self.slots.remove(token);
        }
    }
}
