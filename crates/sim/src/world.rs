//! The simulated network: connections, what is on its way in them, and when it arrives.
//!
//! It keeps to what a kernel promises, and to no more: bytes arrive in order, an end behind the bytes before it, a
//! reset whenever it likes; readiness is told when it changes or for as long as it lasts, and may be told of too often.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use roadstead_proto::{Address, ticket::Token};

use crate::{
    dice::Dice,
    fate::{Cut, End, Fate},
    faults::Faults,
    told::{Tells, Watch},
    trace::{Notes, What},
    wire::{Flight, Wire},
};

/// Virtual time, in nanoseconds since the run began. Only the run sets it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    pub(crate) fn set(&self, now: Duration) {
        self.0.store(now.as_nanos() as u64, Relaxed);
    }
}

/// What will happen at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The client of this number begins its connection.
    Dial(usize),
    /// The servers are told to drain.
    Drain,
    /// A node begins to listen.
    Start(usize),
    /// A node stops.
    Stop(usize),
    /// A connection's request reaches its listener.
    Request(usize),
    /// The answer reaches the side that began.
    Answer(usize),
    /// What is next on its way to this end arrives.
    Arrive(End),
    /// This end's peer has made room.
    Room(End),
    /// A reset reaches this end.
    Reset(End, io::ErrorKind),
    /// The network breaks a connection.
    Cut(usize),
}

impl Event {
    /// The connection that it concerns.
    fn wire(self) -> Option<usize> {
        match self {
            Self::Dial(_) | Self::Drain | Self::Start(_) | Self::Stop(_) => None,
            Self::Request(wire) | Self::Answer(wire) | Self::Cut(wire) => Some(wire),
            Self::Arrive(end) | Self::Room(end) | Self::Reset(end, _) => Some(end.wire),
        }
    }
}

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) address: Address,
    pub(super) node: usize,
    /// Which poller watches it, if one does.
    pub(crate) poller: usize,
    pub(crate) token: Option<Token>,
    pub(crate) open: bool,
    pub(crate) backlog: VecDeque<usize>,
}

/// The network, and what is going to happen in it.
pub(super) struct World {
    pub(crate) clock: Clock,
    pub(super) faults: Faults,
    pub(crate) dice: Dice,
    pub(crate) wires: Vec<Wire>,
    pub(super) trace: Notes,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    pub(crate) listeners: Vec<Listener>,
    pub(super) watches: Vec<Watch>,
    /// By node: the delay of its connections, if it has one of its own.
    pub(super) delays: Vec<Option<Duration>>,
    /// By the number of a connection: how many bytes arrive at which side before it is reset.
    pub(super) cuts: BTreeMap<usize, (usize, u64)>,
}

impl World {
    pub(crate) fn new(faults: Faults, dice: Dice, cuts: BTreeMap<usize, (usize, u64)>, trace: Notes) -> Self {
        Self {
            clock: Clock::default(),
            faults,
            dice,
            wires: Vec::new(),
            trace,
            events: BinaryHeap::new(),
            scheduled: 0,
            listeners: Vec::new(),
            watches: Vec::new(),
            delays: Vec::new(),
            cuts,
        }
    }

    /// Another machine, whose connections have this delay if it is given.
    pub(super) fn add_node(&mut self, delay: Option<Duration>) {
        self.delays.push(delay);
    }

    /// Another poller; `of_changes`: it tells of nothing else. Answers its number.
    pub(super) fn add_poller(&mut self, of_changes: bool) -> usize {
        let tells = [Tells::Changes, Tells::States][self.dice.below(2)];
        self.watches.push(Watch::new(if of_changes { Tells::Changes } else { tells }));
        self.watches.len() - 1
    }

    pub(crate) fn listen(&mut self, node: usize, address: Address, open: bool) -> usize {
        self.listeners.push(Listener {
            address,
            node,
            poller: 0,
            token: None,
            open,
            backlog: VecDeque::new(),
        });
        self.listeners.len() - 1
    }

    /// Who listens at `address` now.
    pub(crate) fn listener(&mut self, address: &Address) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|listener| listener.address == *address && listener.open)
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    /// When something will happen next.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// What is due now.
    pub(crate) fn due(&mut self) -> Option<Event> {
        if self.next_time()? > self.clock.now() {
            return None;
        }
        self.events.pop().map(|Reverse((.., event))| event)
    }

    /// Lets what comes next in the network happen if it does within `time`, while a node is in the midst of a turn.
    pub(crate) fn go_on(&mut self, time: Duration) {
        let now = self.clock.now();
        if let Some(&Reverse((at, _, event))) = self.events.peek()
            && at <= now + time
            && event.wire().is_some()
        {
            self.events.pop();
            self.clock.set(at.max(now));
            self.happen(event);
        }
    }

    /// Whether nothing is going to happen but between such nodes.
    pub(super) fn is_quiet_but_for(&self, such: impl Fn(usize) -> bool) -> bool {
        let is_theirs = |wire: usize| self.wires[wire].sides.iter().all(|side| such(side.node));
        self.events.iter().all(|Reverse((.., event))| event.wire().is_some_and(is_theirs))
    }

    /// How many connections have an end that is still open.
    pub(crate) fn open(&self) -> usize {
        let is_open = |wire: &&Wire| {
            wire.sides[0].closed.is_none() || wire.sides[1].decided && wire.sides[1].closed.is_none()
        };
        self.wires.iter().filter(is_open).count()
    }

    pub(crate) fn note(&mut self, end: End, what: What) {
        self.trace.note(self.clock.now(), (end.wire, end.side), what);
    }

    /// Lets one thing happen that concerns connections only.
    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Dial(_) | Event::Drain | Event::Stop(_) => {}
            Event::Start(node) => {
                let its = self.listeners.iter_mut().filter(|listener| listener.node == node);
                its.for_each(|listener| listener.open = true);
            }
            Event::Request(wire) => self.request(wire),
            Event::Answer(wire) => {
                let end = End { wire, side: 0 };
                self.wires[wire].sides[0].decided = true;
                self.note(end, What::Answered);
                self.change(end);
            }
            Event::Arrive(end) => self.arrive(end),
            Event::Room(end) => {
                let pipe = &mut self.wires[end.wire].pipes[1 - end.side];
                // What room there was may be filled again already; then the sender starves on.
                if pipe.used < pipe.capacity {
                    pipe.starved = false;
                    self.change(end);
                }
            }
            Event::Reset(end, kind) => self.reset(end, kind),
            Event::Cut(wire) => self.cut(wire),
        }
    }

    fn request(&mut self, wire: usize) {
        let now = self.clock.now();
        let (client, server) = (End { wire, side: 0 }, End { wire, side: 1 });
        let address = self.wires[wire].address.clone();
        let back = now + self.wires[wire].pipes[0].delay;
        let refused = self.wires[wire].fate == Fate::Refuse;
        match self.listener(&address).filter(|_| !refused) {
            Some(listener) => {
                listener.backlog.push_back(wire);
                let node = listener.node;
                let wire = &mut self.wires[wire];
                wire.sides[1].node = node;
                wire.sides[1].decided = true;
                wire.pipes[0].latest = back;
                self.schedule(back, Event::Answer(client.wire));
            }
            None => {
                if refused {
                    self.wires[wire].cut = Some(Cut::Refused);
                }
                self.wires[wire].sides[1].closed = Some(now);
                self.note(server, What::Refused);
                self.schedule(back, Event::Reset(client, io::ErrorKind::ConnectionRefused));
            }
        }
    }

    fn arrive(&mut self, end: End) {
        let wire = &mut self.wires[end.wire];
        let (pipe, side) = (&mut wire.pipes[end.side], &wire.sides[end.side]);
        let Some(flight) = pipe.flights.pop_front() else { return };
        let gone = side.closed.is_some();
        match flight {
            Flight::Bytes(bytes) if gone || side.broken.is_some() => {
                pipe.used -= bytes.len();
                if gone {
                    self.send_reset(end.other());
                }
            }
            Flight::Bytes(bytes) => {
                pipe.arrived += bytes.len() as u64;
                pipe.inbox.extend(&bytes);
                self.note(end, What::Arrived(bytes.len()));
                self.change(end);
            }
            Flight::End if !gone => {
                pipe.end_arrived = true;
                self.note(end, What::EndArrived);
                self.change(end);
            }
            Flight::End => {}
        }
    }

    fn reset(&mut self, end: End, kind: io::ErrorKind) {
        let keeps = self.dice.below(2) == 0;
        let wire = &mut self.wires[end.wire];
        let side = &mut wire.sides[end.side];
        if side.closed.is_some() || side.broken.is_some() {
            return;
        }
        side.broken = Some(kind);
        // Some kernels let what has arrived be received before they tell of the reset, some don't.
        if !keeps {
            let pipe = &mut wire.pipes[end.side];
            pipe.used -= pipe.inbox.len();
            pipe.inbox.clear();
        }
        self.note(end, What::Reset);
        self.change(end);
    }

    /// The network resets both ends, each in its time.
    fn cut(&mut self, number: usize) {
        let wire = &mut self.wires[number];
        if wire.cut.is_some() || wire.sides.iter().all(|side| side.closed.is_some()) {
            return;
        }
        wire.cut = Some(Cut::Reset);
        self.note(End { wire: number, side: 0 }, What::Cut);
        for side in 0..2 {
            self.send_reset(End { wire: number, side });
        }
    }

    /// A reset is on its way to `end`: behind the bytes before it, or overtaking them.
    pub(super) fn send_reset(&mut self, end: End) {
        let pipe = &self.wires[end.wire].pipes[end.side];
        let mut at = self.clock.now() + pipe.delay;
        if self.dice.below(2) == 0 {
            at = at.max(pipe.latest);
        }
        self.schedule(at, Event::Reset(end, io::ErrorKind::ConnectionReset));
    }

    /// Something is on its way to `end`, behind what is on its way already.
    pub(super) fn fly(&mut self, end: End, flight: Flight, pause: Duration) {
        let pipe = &mut self.wires[end.wire].pipes[end.side];
        pipe.latest = pipe.latest.max(self.clock.now() + pipe.delay) + pause;
        pipe.flights.push_back(flight);
        let at = pipe.latest;
        self.schedule(at, Event::Arrive(end));
    }
}
