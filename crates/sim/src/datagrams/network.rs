//! The network between simulated datagram sockets: what flies, what has come, and what the seed does to it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use roadstead_drivers::{net::Failure, reactor::Readiness};
use roadstead_proto::{
    datagrams::{Arrival, Batch, Ecn, Local, Outbox, Outgoing},
    host::DAWN,
    ticket::Token,
};

use super::{
    faults::{DatagramFaults, Relay},
    trace::{DatagramTrace, What, headers},
};
use crate::{dice::Dice, world::Clock};

/// Datagrams that a socket's system keeps for it.
const KEPT: usize = 256;
/// How many hops a datagram may go if nobody says so.
const HOPS: u8 = 64;
/// The most hops between two.
const FAR: usize = 9;

/// A datagram on its way.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) hops: u8,
    pub(super) congestion: bool,
    pub(super) bytes: Vec<u8>,
}

/// What happens at a time.
enum Event {
    Arrive(Packet),
    /// A socket's system takes something again.
    Room(usize),
    /// It hears that nobody receives there.
    Unreachable(usize, SocketAddr),
}

/// A socket, one for each node.
struct Socket {
    address: SocketAddr,
    open: bool,
    token: Option<Token>,
    came: VecDeque<(SystemTime, Packet)>,
    errors: VecDeque<SocketAddr>,
    /// Whether its system knows what the way there carries.
    known: BTreeMap<SocketAddr, bool>,
    /// What it is to be told of.
    readable: bool,
    writable: bool,
    blocked: bool,
}

/// The network as all nodes share it. Everything happens in one thread.
pub(super) struct Network {
    pub(super) clock: Clock,
    dice: Dice,
    faults: DatagramFaults,
    sockets: Vec<Socket>,
    events: BTreeMap<(Duration, u64), Event>,
    number: u64,
    /// When the relay will have passed on all that it has.
    relayed: Duration,
    pub(super) trace: DatagramTrace,
}

impl Network {
    pub(super) fn new(dice: Dice, faults: DatagramFaults) -> Self {
        let (sockets, events) = (Vec::new(), BTreeMap::new());
        Self {
            clock: Clock::default(),
            dice,
            faults,
            sockets,
            events,
            number: 0,
            relayed: Duration::ZERO,
            trace: DatagramTrace::default(),
        }
    }

    /// Another socket; its number.
    pub(super) fn bind(&mut self, address: SocketAddr) -> usize {
        self.sockets.push(Socket {
            address,
            open: true,
            token: None,
            came: VecDeque::new(),
            errors: VecDeque::new(),
            known: BTreeMap::new(),
            readable: false,
            writable: false,
            blocked: false,
        });
        self.sockets.len() - 1
    }

    pub(super) fn close(&mut self, socket: usize) {
        let socket = &mut self.sockets[socket];
        socket.open = false;
        socket.came.clear();
    }

    pub(super) fn watch(&mut self, socket: usize, token: Token) {
        self.sockets[socket].token = Some(token);
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    /// A stranger sends a datagram in the name of another, then.
    pub(super) fn forge(&mut self, at: Duration, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.schedule(at, Event::Arrive(Packet { from, to, hops: HOPS, congestion: false, bytes }));
    }

    /// When something happens next.
    pub(super) fn next_time(&self) -> Option<Duration> {
        self.events.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Lets one thing happen that is due. False if none is.
    pub(super) fn advance(&mut self) -> bool {
        if self.next_time().is_none_or(|at| at > self.clock.now()) {
            return false;
        }
        match self.events.pop_first() {
            Some((_, Event::Arrive(packet))) => self.arrive(packet),
            Some((_, Event::Room(socket))) => {
                let socket = &mut self.sockets[socket];
                (socket.blocked, socket.writable) = (false, true);
            }
            Some((_, Event::Unreachable(socket, who))) => {
                let socket = &mut self.sockets[socket];
                socket.errors.push_back(who);
                socket.readable = true;
            }
            None => return false,
        }
        true
    }

    fn arrive(&mut self, packet: Packet) {
        let (from, to, length) = (packet.from, packet.to, packet.bytes.len());
        let mut what = What::Nowhere;
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.open && socket.address == to) {
            what = What::Overflowed;
            if socket.came.len() < KEPT {
                what = What::Arrived;
                socket.came.push_back((SystemTime::UNIX_EPOCH + DAWN + self.clock.now(), packet));
                socket.readable = true;
            }
        } else if let Some(sender) =
            self.sockets.iter().position(|socket| socket.open && socket.address == from)
        {
            let at = self.clock.now() + self.dice.time(self.faults.delay);
            self.schedule(at, Event::Unreachable(sender, to));
        }
        self.trace.note(self.clock.now(), (from, to), length, what);
    }

    /// Whether a wait for it would be over.
    pub(super) fn is_ready(&self, socket: usize) -> bool {
        self.sockets[socket].readable || self.sockets[socket].writable
    }

    pub(super) fn wait(&mut self, number: usize, ready: &mut Vec<Readiness>) {
        let spurious = self.dice.chance(self.faults.spurious);
        let socket = &mut self.sockets[number];
        let Some(token) = socket.token else { return };
        if self.dice.chance(self.faults.spurious / 2.0) && (socket.readable || socket.writable) {
            // Told of by the next wait only.
            return;
        }
        let (readable, writable) =
            (socket.readable || spurious, socket.writable || spurious && !socket.blocked);
        (socket.readable, socket.writable) = (false, false);
        ready.push(Readiness { token, readable, writable, more: false });
    }

    pub(super) fn unreachable(&mut self, socket: usize) -> Option<SocketAddr> {
        self.sockets[socket].errors.pop_front()
    }

    /// A call that comes to nothing for reasons of its own.
    fn trouble(&mut self) -> io::Result<()> {
        if self.dice.chance(self.faults.scarce) {
            return Err(io::Error::other(Failure::NoRoom));
        }
        if self.dice.chance(self.faults.spurious / 4.0) {
            return Err(io::Error::other(Failure::Passing));
        }
        Ok(())
    }

    pub(super) fn receive(&mut self, number: usize, batch: &mut Batch) -> io::Result<()> {
        self.trouble()?;
        let Self { dice, faults, sockets, trace, clock, .. } = self;
        let socket = &mut sockets[number];
        if !socket.errors.is_empty() {
            return Err(io::Error::other(Failure::Passing));
        }
        let most = batch.places().len();
        let most = if dice.chance(faults.spurious) { 1 + dice.below(most) } else { most };
        for place in 0..most {
            let Some((at, packet)) = socket.came.pop_front() else { break };
            let room = batch.places().nth(place).map_or(0, |place| place.len());
            let short = if dice.chance(faults.truncate) { dice.below(packet.bytes.len() + 1) } else { room };
            let length = packet.bytes.len().min(short);
            if let Some(place) = batch.places().nth(place) {
                place[..length].copy_from_slice(&packet.bytes[..length]);
            }
            let local = Local { address: packet.to.ip(), interface: 1 };
            let arrival = Arrival {
                from: packet.from,
                to: Some(packet.to.ip()),
                local: Some(local),
                at: Some(at),
                ecn: if packet.congestion { Ecn::Congestion } else { Ecn::NotCapable },
                hops: Some(packet.hops),
                truncated: length < packet.bytes.len(),
            };
            trace.note(clock.now(), (packet.from, packet.to), length, What::Received);
            batch.came(place, length, None, arrival);
        }
        if batch.is_empty() { Err(io::Error::other(Failure::Empty)) } else { Ok(()) }
    }

    pub(super) fn send(&mut self, number: usize, outbox: &Outbox) -> io::Result<usize> {
        self.trouble()?;
        if self.sockets[number].blocked {
            return Err(io::Error::other(Failure::Empty));
        }
        let mut most = outbox.len();
        if self.dice.chance(self.faults.spurious) {
            most = self.dice.below(most + 1);
            if most == 0 {
                self.sockets[number].blocked = true;
                let at = self.clock.now() + self.dice.time(self.faults.delay);
                self.schedule(at, Event::Room(number));
                return Err(io::Error::other(Failure::Empty));
            }
        }
        let mut count = 0;
        for outgoing in outbox.iter().take(most) {
            if !self.let_go(number, outgoing) {
                return if count == 0 { Err(io::Error::other(Failure::Other)) } else { Ok(count) };
            }
            count += outgoing.datagrams();
        }
        Ok(count)
    }

    /// Sends one entry. False: the system knows that the way does not carry it.
    fn let_go(&mut self, number: usize, outgoing: Outgoing<'_>) -> bool {
        let from = SocketAddr::new(
            outgoing.from.map_or(self.sockets[number].address.ip(), |from| from.address),
            self.sockets[number].address.port(),
        );
        let too_long = |bytes: &[u8], faults: &DatagramFaults| bytes.len().saturating_add(48) > faults.mtu;
        let step = outgoing.segment.unwrap_or(usize::MAX).min(outgoing.bytes.len()).max(1);
        let mut parts: Vec<_> = outgoing.bytes.chunks(step).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        if parts.iter().any(|part| too_long(part, &self.faults)) {
            let Self { sockets, dice, .. } = self;
            if *sockets[number].known.entry(outgoing.to).or_insert_with(|| dice.below(2) == 0) {
                return false;
            }
        }
        for part in parts {
            let what = if too_long(part, &self.faults) { Some(What::TooLong) } else { None };
            self.fly((from, outgoing.to), outgoing.hops.unwrap_or(HOPS), part, what);
        }
        true
    }

    fn fly(&mut self, ends: (SocketAddr, SocketAddr), hops: u8, bytes: &[u8], lost: Option<What>) {
        let (now, length) = (self.clock.now(), bytes.len());
        self.trace.note(now, ends, length, What::Sent);
        let far = distance(ends);
        let lost = lost.or_else(|| self.dice.chance(self.faults.loss).then_some(What::Lost));
        let lost = lost.or_else(|| (hops <= far).then_some(What::Lost));
        if let Some(what) = lost {
            return self.trace.note(now, ends, length, what);
        }
        let Some(waits) = self.relay(ends, length) else {
            return self.trace.note(now, ends, length, What::Lost);
        };
        let congestion = self.dice.chance(self.faults.congestion);
        let packet = Packet { from: ends.0, to: ends.1, hops: hops - far, congestion, bytes: bytes.to_vec() };
        if self.dice.chance(self.faults.duplicate) {
            self.trace.note(now, ends, length, What::Duplicated);
            let at = now + self.dice.time(self.faults.delay);
            self.schedule(at, Event::Arrive(packet.clone()));
        }
        let at = now + self.dice.time(self.faults.delay) + waits;
        self.schedule(at, Event::Arrive(packet));
    }

    /// How long the relay takes to pass on another of so many bytes. None: it has no room for it.
    fn relay(&mut self, ends: (SocketAddr, SocketAddr), length: usize) -> Option<Duration> {
        let Some(Relay { rate, queue }) = self.faults.relay else { return Some(Duration::ZERO) };
        let (now, length) = (self.clock.now(), (length + headers(ends.1)) as u64);
        let kept = self.relayed.saturating_sub(now).as_nanos() * u128::from(rate) / 1_000_000_000;
        if kept + u128::from(length) > u128::from(queue) {
            return None;
        }
        let takes = u128::from(length) * 1_000_000_000 / u128::from(rate.max(1));
        self.relayed = self.relayed.max(now) + Duration::from_nanos(takes as u64);
        Some(self.relayed - now)
    }
}

/// How many hops there are between two: always the same.
fn distance((from, to): (SocketAddr, SocketAddr)) -> u8 {
    let sum = |address: SocketAddr| match address.ip() {
        std::net::IpAddr::V4(address) => address.to_bits() as usize,
        std::net::IpAddr::V6(address) => address.to_bits() as usize,
    };
    ((sum(from) ^ sum(to)) % FAR) as u8
}
