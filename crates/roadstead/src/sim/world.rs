//! The simulated network: connections, what is on its way in them, and when it arrives.
//!
//! It keeps to what a kernel promises, and to no more: bytes arrive in order, an end behind the bytes before it, a reset
//! whenever it likes; readiness is told when it changes or for as long as it lasts, and may be told of too often.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    Cut,
    dice::Dice,
    faults::Faults,
    link::{End, Flight, Link, Plan},
    trace::{Trace, What},
    watch::Watch,
};
use crate::ticket::Token;

/// The most pieces that one send is torn into.
const PIECES: usize = 8;
/// The first address of the simulated machines; each node has one of its own.
const SUBNET: [u8; 3] = [10, 0, 0];

/// Virtual time, in nanoseconds since the run began. Only the run sets it.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    pub(super) fn set(&self, now: Duration) {
        self.0.store(now.as_nanos() as u64, Relaxed);
    }
}

/// What will happen at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The client of this number begins its connection.
    Dial(usize),
    /// The servers are told to drain.
    Drain,
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

/// A listening socket.
pub(super) struct Listener {
    address: SocketAddr,
    pub(super) node: usize,
    pub(super) token: Option<Token>,
    open: bool,
    pub(super) backlog: VecDeque<usize>,
}

/// The network, and what is going to happen in it.
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) faults: Faults,
    pub(super) dice: Dice,
    pub(super) links: Vec<Link>,
    pub(super) trace: Trace,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    pub(super) listeners: Vec<Listener>,
    pub(super) watches: Vec<Watch>,
}

impl World {
    pub(super) fn new(faults: Faults, dice: Dice) -> Self {
        Self {
            clock: Clock::default(),
            faults,
            dice,
            links: Vec::new(),
            trace: Trace::default(),
            events: BinaryHeap::new(),
            scheduled: 0,
            listeners: Vec::new(),
            watches: Vec::new(),
        }
    }

    /// Another machine; answers its number.
    pub(super) fn add_node(&mut self) -> usize {
        let edges = self.dice.below(2) == 0;
        self.watches.push(Watch::new(edges));
        self.watches.len() - 1
    }

    pub(super) fn listen(&mut self, node: usize, address: SocketAddr) -> usize {
        self.listeners.push(Listener { address, node, token: None, open: true, backlog: VecDeque::new() });
        self.listeners.len() - 1
    }

    pub(super) fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    /// When something will happen next.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    /// What is due now.
    pub(super) fn due(&mut self) -> Option<Event> {
        if self.next_time()? > self.clock.now() {
            return None;
        }
        self.events.pop().map(|Reverse((.., event))| event)
    }

    /// How many connections have an end that is still open.
    pub(super) fn open(&self) -> usize {
        let is_open = |link: &&Link| {
            link.sides[0].closed.is_none() || link.sides[1].decided && link.sides[1].closed.is_none()
        };
        self.links.iter().filter(is_open).count()
    }

    pub(super) fn note(&mut self, end: End, what: What) {
        self.trace.note(self.clock.now(), (end.link, end.side), what);
    }

    /// Lets one thing happen that concerns connections only.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Dial(_) | Event::Drain => {}
            Event::Request(link) => self.request(link),
            Event::Answer(link) => {
                let end = End { link, side: 0 };
                self.links[link].sides[0].decided = true;
                self.note(end, What::Answered);
                self.change(end);
            }
            Event::Arrive(end) => self.arrive(end),
            Event::Room(end) => {
                let pipe = &mut self.links[end.link].pipes[1 - end.side];
                // What room there was may be filled again already; then the sender starves on.
                if pipe.used < pipe.capacity {
                    pipe.starved = false;
                    self.change(end);
                }
            }
            Event::Reset(end, kind) => self.reset(end, kind),
            Event::Cut(link) => self.cut(link),
        }
    }

    fn request(&mut self, link: usize) {
        let now = self.clock.now();
        let (client, server) = (End { link, side: 0 }, End { link, side: 1 });
        let address = self.links[link].address;
        let back = now + self.links[link].pipes[0].delay;
        let listener =
            self.listeners.iter_mut().find(|listener| listener.address == address && listener.open);
        match listener {
            Some(listener) if self.links[link].plan != Plan::Refuse => {
                listener.backlog.push_back(link);
                let link = &mut self.links[link];
                link.sides[1].node = listener.node;
                link.sides[1].decided = true;
                link.pipes[0].latest = back;
                self.schedule(back, Event::Answer(client.link));
            }
            _ => {
                if self.links[link].plan == Plan::Refuse {
                    self.links[link].cut = Some(Cut::Refused);
                }
                self.links[link].sides[1].closed = Some(now);
                self.note(server, What::Refused);
                self.schedule(back, Event::Reset(client, io::ErrorKind::ConnectionRefused));
            }
        }
    }

    fn arrive(&mut self, end: End) {
        let link = &mut self.links[end.link];
        let (pipe, side) = (&mut link.pipes[end.side], &link.sides[end.side]);
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
        let link = &mut self.links[end.link];
        let side = &mut link.sides[end.side];
        if side.closed.is_some() || side.broken.is_some() {
            return;
        }
        side.broken = Some(kind);
        // Some kernels let what has arrived be received before they tell of the reset, some don't.
        if !keeps {
            let pipe = &mut link.pipes[end.side];
            pipe.used -= pipe.inbox.len();
            pipe.inbox.clear();
        }
        self.note(end, What::Reset);
        self.change(end);
    }

    /// The network resets both ends, each in its time.
    fn cut(&mut self, number: usize) {
        let link = &mut self.links[number];
        if link.cut.is_some() || link.sides.iter().all(|side| side.closed.is_some()) {
            return;
        }
        link.cut = Some(Cut::Reset);
        self.note(End { link: number, side: 0 }, What::Cut);
        for side in 0..2 {
            self.send_reset(End { link: number, side });
        }
    }

    /// A reset is on its way to `end`: behind the bytes before it, or overtaking them.
    fn send_reset(&mut self, end: End) {
        let pipe = &self.links[end.link].pipes[end.side];
        let mut at = self.clock.now() + pipe.delay;
        if self.dice.below(2) == 0 {
            at = at.max(pipe.latest);
        }
        self.schedule(at, Event::Reset(end, io::ErrorKind::ConnectionReset));
    }

    /// Something is on its way to `end`, behind what is on its way already.
    fn fly(&mut self, end: End, flight: Flight, pause: Duration) {
        let pipe = &mut self.links[end.link].pipes[end.side];
        pipe.latest = pipe.latest.max(self.clock.now() + pipe.delay) + pause;
        pipe.flights.push_back(flight);
        let at = pipe.latest;
        self.schedule(at, Event::Arrive(end));
    }
}

/// What a node's sockets are asked.
impl World {
    pub(super) fn connect(&mut self, node: usize, address: SocketAddr) -> io::Result<End> {
        let now = self.clock.now();
        let link = Link::draw(address, (node, node), &self.faults, &mut self.dice, now);
        let (plan, delay) = (link.plan, link.pipes[1].delay);
        let end = End { link: self.links.len(), side: 0 };
        self.links.push(link);
        self.note(end, What::Connect);
        let link = &mut self.links[end.link];
        match plan {
            Plan::RefuseAtOnce => {
                link.cut = Some(Cut::Refused);
                link.sides[0].closed = Some(now);
                self.note(end, What::Refused);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Plan::Ignore => link.cut = Some(Cut::Unanswered),
            _ => {
                link.pipes[1].latest = now + delay;
                self.schedule(now + delay, Event::Request(end.link));
            }
        }
        if let Plan::ResetAt(after) = plan {
            self.schedule(now + delay * 2 + after, Event::Cut(end.link));
        }
        Ok(end)
    }

    pub(super) fn connected(&self, end: End) -> io::Result<()> {
        self.links[end.link].sides[end.side].broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    pub(super) fn accept(&mut self, listener: usize) -> io::Result<(End, SocketAddr)> {
        let Some(&link) = self.listeners[listener].backlog.front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let end = End { link, side: 1 };
        if self.dice.chance(self.faults.exhausted) {
            use rustix::io::Errno;
            return Err(match self.dice.below(4) {
                0 => {
                    self.turn_away(listener);
                    Errno::CONNABORTED
                }
                1 => Errno::MFILE,
                2 => Errno::NOBUFS,
                _ => Errno::INTR,
            }
            .into());
        }
        self.listeners[listener].backlog.pop_front();
        self.note(end, What::Accepted);
        let last = self.links[link].sides[0].node as u8 + 1;
        let address =
            SocketAddr::from(([SUBNET[0], SUBNET[1], SUBNET[2], last], 40_000 + (link % 20_000) as u16));
        Ok((end, address))
    }

    /// Loses the first connection of a backlog. False if there was none.
    pub(super) fn turn_away(&mut self, listener: usize) -> bool {
        let Some(link) = self.listeners[listener].backlog.pop_front() else {
            return false;
        };
        let end = End { link, side: 1 };
        self.links[link].cut = Some(Cut::Refused);
        self.note(end, What::Turned);
        self.links[link].sides[1].closed = Some(self.clock.now());
        self.send_reset(end.other());
        true
    }

    pub(super) fn close_listener(&mut self, listener: usize) {
        self.listeners[listener].open = false;
        while self.turn_away(listener) {}
    }

    /// Takes bytes from the front of what `end` has to send, as many as there is room for.
    pub(super) fn send(&mut self, end: End, offered: &mut BytesMut) -> io::Result<u64> {
        let (faults, peer) = (self.faults, end.other());
        let link = &mut self.links[end.link];
        if let Some(kind) = link.sides[end.side].broken {
            return Err(kind.into());
        }
        let pipe = &mut link.pipes[peer.side];
        assert!(!pipe.finished, "the engine sends behind its own end");
        assert!(!offered.is_empty(), "the engine sends nothing");
        if self.dice.chance(faults.spurious / 4.0) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let room = pipe.capacity - pipe.used;
        let short = self.dice.chance(faults.short);
        if room == 0 || short && self.dice.below(4) == 0 {
            if room > 0 && !pipe.starved {
                let at = self.clock.now() + link.pipes[end.side].delay;
                self.schedule(at, Event::Room(end));
            }
            self.links[end.link].pipes[peer.side].starved = true;
            self.note(end, What::Full);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = room.min(offered.len());
        let taken = if short { self.dice.scale(1, most as u64) as usize } else { most };
        let bytes = offered.split_to(taken).freeze();
        self.note(end, What::Sent(taken, crc32fast::hash(&bytes)));
        self.carry(peer, bytes);
        Ok(taken as u64)
    }

    /// Sends `bytes` on their way to `end`, unless the network has other plans.
    fn carry(&mut self, end: End, mut bytes: Bytes) {
        let link = &mut self.links[end.link];
        let pipe = &mut link.pipes[end.side];
        let before = pipe.sent;
        pipe.sent += bytes.len() as u64;
        if pipe.lost {
            return;
        }
        let mut ends = false;
        match link.plan {
            Plan::HalfClose(side, after) if side == end.side && after < pipe.sent && link.cut.is_none() => {
                bytes.truncate((after - before.min(after)) as usize);
                link.cut = Some(Cut::HalfClosed { to_server: side == 1 });
                pipe.lost = true;
                ends = true;
            }
            Plan::Reset(side, after) if side == end.side && after < pipe.sent => {
                self.schedule(self.clock.now(), Event::Cut(end.link));
            }
            _ => {}
        }
        self.links[end.link].pipes[end.side].used += bytes.len();
        while !bytes.is_empty() {
            let whole = !self.dice.chance(self.faults.split);
            let count = if whole { bytes.len() } else { self.piece(bytes.len()) };
            let pause =
                if whole { Duration::ZERO } else { self.dice.time(self.faults.delay) / PIECES as u32 };
            self.fly(end, Flight::Bytes(bytes.split_to(count)), pause);
        }
        if ends {
            self.note(end, What::Cut);
            self.fly(end, Flight::End, Duration::ZERO);
        }
    }

    /// How large the next piece of a torn send is: small ones are likely, but there are not too many of them.
    fn piece(&mut self, length: usize) -> usize {
        let least = (length / (PIECES * PIECES)).max(1);
        self.dice.scale(least as u64, length as u64) as usize
    }

    pub(super) fn receive(&mut self, end: End, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        let interrupted = self.dice.chance(self.faults.spurious / 4.0);
        let link = &mut self.links[end.link];
        assert!(most > 0, "the engine receives into nothing");
        if interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let back = link.pipes[1 - end.side].delay;
        let pipe = &mut link.pipes[end.side];
        if pipe.inbox.is_empty() {
            return match link.sides[end.side].broken {
                Some(kind) => Err(kind.into()),
                None if pipe.end_arrived => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let count = most.min(pipe.inbox.len());
        block.extend(pipe.inbox.drain(..count));
        pipe.used -= count;
        pipe.received += count as u64;
        let starved = pipe.starved;
        self.note(end, What::Received(count, crc32fast::hash(block)));
        if starved {
            self.schedule(self.clock.now() + back, Event::Room(end.other()));
        }
        Ok(count)
    }

    pub(super) fn shutdown(&mut self, end: End) {
        if self.links[end.link].sides[end.side].broken.is_none() {
            self.note(end, What::Shutdown);
            self.finish(end);
        }
    }

    fn finish(&mut self, end: End) {
        let pipe = &mut self.links[end.link].pipes[1 - end.side];
        if !pipe.finished && !pipe.lost {
            self.fly(end.other(), Flight::End, Duration::ZERO);
        }
        self.links[end.link].pipes[1 - end.side].finished = true;
    }

    pub(super) fn close(&mut self, end: End, reset: bool) {
        let now = self.clock.now();
        self.note(end, if reset { What::Aborted } else { What::Closed });
        let link = &mut self.links[end.link];
        let unread = !link.pipes[end.side].inbox.is_empty();
        let side = &mut link.sides[end.side];
        side.closed = Some(now);
        let (decided, broken) = (side.decided, side.broken.is_some());
        if broken {
            return;
        }
        if reset || unread || !decided {
            self.send_reset(end.other());
        } else {
            self.finish(end);
        }
    }
}
