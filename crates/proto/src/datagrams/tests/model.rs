//! What a socket is to do, said again as plainly as can be: lists that are walked, and no lazy deadline.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::probe::{Act, peer};
use crate::{datagrams::outbox::EACH, flight::REST};

/// An IPv4 header and one of UDP.
const HEADERS: i64 = 28;

pub(super) struct Limits {
    pub(super) peers: usize,
    pub(super) each: usize,
    pub(super) all: usize,
    pub(super) jobs: usize,
    pub(super) idle: Duration,
    pub(super) linger: Duration,
    /// What is counted for a peer beside what it holds.
    pub(super) size: usize,
}

/// What may still go to an address. None: any amount.
pub(super) type Left = Option<i64>;

pub(super) struct Known {
    pub(super) who: SocketAddr,
    left: Left,
    heard: Duration,
    bytes: usize,
}

pub(super) struct Model {
    pub(super) limits: Limits,
    pub(super) now: Duration,
    pub(super) waits: VecDeque<(SocketAddr, usize)>,
    pub(super) peers: Vec<Known>,
    pub(super) tickets: VecDeque<(SocketAddr, Left)>,
    pub(super) timer: Option<Duration>,
    pub(super) flooded: bool,
    /// What is counted for what waits, since the loop has left the socket.
    charged: usize,
    wants_room: bool,
    room_at: Option<Duration>,
    pub(super) finishes: bool,
    pub(super) drains: bool,
    pub(super) over: bool,
    /// It has finished, and what waits is dropped then.
    lingers: Option<Duration>,
    /// Tickets that a session has left behind which panicked. They count until they are dropped.
    pub(super) strays: usize,
    pub(super) withheld: u64,
    pub(super) dropped: u64,
}

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Duration::ZERO,
            waits: VecDeque::new(),
            peers: Vec::new(),
            tickets: VecDeque::new(),
            timer: None,
            flooded: false,
            charged: 0,
            wants_room: false,
            room_at: None,
            finishes: false,
            drains: false,
            over: false,
            lingers: None,
            strays: 0,
            withheld: 0,
            dropped: 0,
        }
    }

    pub(super) fn held(&self) -> usize {
        self.waits.iter().map(|(_, length)| length + EACH).sum()
    }

    /// What all counts for.
    pub(super) fn used(&self) -> usize {
        self.charged + self.peers.iter().map(|known| known.bytes).sum::<usize>()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let idle = self.peers.iter().map(|known| known.heard + self.limits.idle);
        idle.chain(self.timer).chain(self.room_at).chain(self.lingers).min()
    }

    pub(super) fn come(&mut self, datagrams: &[(usize, usize, Act)]) {
        if self.over || self.finishes {
            return;
        }
        for &(number, length, act) in datagrams {
            let (who, left) = (peer(number), Some(3 * (length as i64 + HEADERS)));
            match act {
                Act::Nothing => {}
                Act::Answer(length) => _ = self.send(who, left, length),
                Act::Validated(length) => _ = self.send(who, None, length),
                Act::Keep(bytes) => self.keep(who, left, bytes),
                Act::Hear(length) => self.hear(who, left, length),
                Act::Hold(bytes) => self.hold(who, bytes),
                Act::Forget => self.peers.retain(|known| known.who != who),
                Act::Defer if self.tickets.len() + self.strays < self.limits.jobs => {
                    self.tickets.push_back((who, left));
                }
                Act::Defer => {}
                Act::Timer(after) => self.timer = Some(self.now + Duration::from_millis(after)),
                Act::Finish => self.finishes = true,
                Act::Panic => {
                    self.peers.clear();
                    self.strays += self.tickets.len();
                    self.tickets.clear();
                    (self.timer, self.lingers) = (None, None);
                    (self.wants_room, self.room_at) = (false, None);
                    // Another begins, and hears of the drain.
                    self.finishes = self.drains;
                    break;
                }
            }
        }
        self.flooded |= self.held() > self.limits.each / 4;
        self.settle();
    }

    /// What is left then.
    fn send(&mut self, who: SocketAddr, left: Left, length: usize) -> Left {
        if self.held() + length + EACH > self.limits.each {
            self.dropped += 1;
            self.wants_room |= length + EACH <= self.limits.each;
            return left;
        }
        let cost = length as i64 + HEADERS;
        if left.is_some_and(|left| left < cost) {
            self.withheld += 1;
            return left;
        }
        self.waits.push_back((who, length));
        left.map(|left| left - cost)
    }

    fn keep(&mut self, who: SocketAddr, left: Left, bytes: usize) {
        self.peers.retain(|known| known.who != who);
        let bytes = bytes + self.limits.size;
        let fits = bytes <= self.limits.each && self.used() + bytes <= self.limits.all;
        if fits && self.peers.len() < self.limits.peers {
            self.peers.push(Known { who, left, heard: self.now, bytes });
        }
    }

    fn hear(&mut self, who: SocketAddr, more: Left, length: usize) {
        let Some(at) = self.peers.iter().position(|known| known.who == who) else { return };
        self.peers[at].heard = self.now;
        let left = self.peers[at].left.zip(more).map(|(left, more)| left + more);
        self.peers[at].left = self.send(who, left, length);
    }

    fn hold(&mut self, who: SocketAddr, bytes: usize) {
        let (bytes, before) = (bytes + self.limits.size, self.used());
        let (each, all) = (self.limits.each, self.limits.all);
        if let Some(known) = self.peers.iter_mut().find(|known| known.who == who)
            && bytes <= each
            && before - known.bytes + bytes <= all
        {
            known.bytes = bytes;
        }
    }

    /// A ticket comes back, with an answer of so many bytes or none.
    pub(super) fn reply(&mut self, answer: Option<usize>) {
        let Some((who, left)) = self.tickets.pop_front() else { return };
        if let Some(length) = answer {
            self.send(who, left, length);
            self.flooded |= self.held() > self.limits.each / 4;
        }
        self.settle();
    }

    /// The first has left, or never will.
    pub(super) fn gone(&mut self, left: bool) {
        if self.waits.pop_front().is_some() && !left {
            self.dropped += 1;
        }
        self.drained();
        self.settle();
    }

    fn drained(&mut self) {
        if self.held() <= self.limits.each / 8 {
            (self.flooded, self.wants_room) = (false, false);
        }
    }

    /// The loop leaves the socket.
    pub(super) fn leave(&mut self) {
        let others = self.used() - self.charged;
        if others + self.held() <= self.limits.all || self.held() <= self.charged {
            self.charged = self.held();
        } else {
            self.dropped += self.waits.len() as u64;
            self.waits.clear();
            (self.charged, self.flooded) = (0, false);
            self.room_at = self.wants_room.then_some(self.now + REST);
            self.settle();
        }
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<SocketAddr> {
        self.now += time;
        let (now, idle) = (self.now, self.limits.idle);
        let (mut gone, kept): (Vec<_>, _) = self.peers.drain(..).partition(|known| known.heard + idle <= now);
        self.peers = kept;
        self.timer = self.timer.filter(|&timer| timer > now);
        if self.room_at.take_if(|when| *when <= now).is_some() {
            self.drained();
        }
        self.settle();
        gone.sort_by_key(|known| known.who);
        gone.into_iter().map(|known| known.who).collect()
    }

    pub(super) fn drain(&mut self) {
        if !self.over {
            (self.drains, self.finishes) = (true, true);
            self.settle();
        }
    }

    pub(super) fn stop(&mut self) {
        self.over = true;
        self.strays += self.tickets.len();
        self.tickets.clear();
        self.peers.clear();
        self.waits.clear();
        (self.timer, self.room_at, self.lingers) = (None, None, None);
        self.charged = 0;
    }

    fn settle(&mut self) {
        if self.over || !self.finishes || !self.tickets.is_empty() {
            self.lingers = None;
            return;
        }
        let until = *self.lingers.get_or_insert(self.now + self.limits.linger);
        if self.waits.is_empty() || until <= self.now {
            self.dropped += self.waits.len() as u64;
            self.stop();
        }
    }
}
