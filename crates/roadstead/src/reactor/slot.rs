//! The reactor's connections: each with its socket, what is known of its readiness, and its deadline.
#![forbid(unsafe_code)]

use std::{cmp::Reverse, collections::BinaryHeap, io, mem, time::Duration};

use bytes::BytesMut;
use slab::Slab;

use crate::{
    connection::{Endpoint, Event},
    host::Host,
    net::Net,
    ticket::Token,
};

/// One connection of the loop.
pub(super) struct Slot<T> {
    /// None for a session without a connection.
    pub(super) stream: Option<T>,
    pub(super) endpoint: Box<dyn Endpoint>,
    generation: u32,
    pub(super) connecting: bool,
    /// A receive of up to so many bytes is in flight; zero: none.
    pub(super) receive: usize,
    /// A send is in flight.
    pub(super) send: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) ended: bool,
    /// It has a place among those that have more to do.
    pub(super) busy: bool,
    /// The interest that the poller knows of.
    pub(super) told: (bool, bool),
    /// The earliest time for which the heap holds this connection.
    scheduled: Duration,
}

impl<T> Slot<T> {
    pub(super) fn new(stream: Option<T>, endpoint: Box<dyn Endpoint>, connecting: bool) -> Self {
        Self {
            stream,
            endpoint,
            generation: 0,
            connecting,
            receive: 0,
            send: false,
            readable: false,
            // A fresh socket has room; if it has not, the first send says so.
            writable: !connecting,
            ended: false,
            busy: false,
            told: (false, false),
            scheduled: Duration::MAX,
        }
    }

    /// What the poller should tell of: receive, send.
    pub(super) fn interest(&self) -> (bool, bool) {
        (self.receive > 0, self.connecting || self.send)
    }

    /// Does one operation that is in flight and would not block. `None` when there is none; else the bytes it moved.
    pub(super) fn step<N: Net<Stream = T>>(
        &mut self,
        net: &mut N,
        block: &mut BytesMut,
        now: Duration,
        host: &mut Host,
    ) -> Option<u64> {
        let stream = self.stream.as_ref().filter(|_| !self.connecting)?;
        if self.send && self.writable {
            host.count.sends += 1;
            let result = net.send(stream, self.endpoint.output());
            return Some(self.sent(result, now, host));
        }
        if self.receive > 0 && self.readable {
            host.count.receives += 1;
            let result = net.receive(stream, block, self.receive);
            return Some(self.received(result, block, now, host));
        }
        None
    }

    fn sent(&mut self, result: io::Result<u64>, now: Duration, host: &mut Host) -> u64 {
        match result {
            Ok(count) => {
                self.send = false;
                self.endpoint.handle(now, Event::Sent(count), host);
                return count;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => self.writable = false,
                io::ErrorKind::Interrupted => {}
                _ => self.endpoint.handle(now, Event::Failed(error), host),
            },
        }
        0
    }

    fn received(
        &mut self,
        result: io::Result<usize>,
        block: &mut BytesMut,
        now: Duration,
        host: &mut Host,
    ) -> u64 {
        match result {
            Ok(0) => {
                self.receive = 0;
                self.endpoint.handle(now, Event::Ended, host);
                0
            }
            Ok(count) => {
                // Fewer bytes than were asked for: the rest would block, unless the end is what comes next.
                self.readable = count == self.receive || self.ended;
                self.receive = 0;
                self.endpoint.handle(now, Event::Received(block), host);
                count as u64
            }
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::WouldBlock => self.readable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => self.endpoint.handle(now, Event::Failed(error), host),
                }
                0
            }
        }
    }
}

/// All connections of the loop, by token, and a heap of their deadlines.
///
/// A deadline that moves back (as an idle timeout does with every byte) is not moved in the heap: when the old time
/// comes the connection is asked again. So a byte costs nothing here.
pub(super) struct Slots<T> {
    slab: Slab<Slot<T>>,
    heap: BinaryHeap<Reverse<(Duration, Token)>>,
    generation: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slab: Slab::new(), heap: BinaryHeap::new(), generation: 0 }
    }
}

impl<T> Slots<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(super) fn insert(&mut self, mut slot: Slot<T>) -> Token {
        // Thirty-one bits keep every token below those of the listeners; a wrapped generation meets an index again
        // only after two thousand million connections.
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> 1);
        slot.generation = self.generation;
        let index = self.slab.insert(slot);
        Token((u64::from(self.generation) << 32) | index as u64)
    }

    pub(super) fn get(&mut self, token: Token) -> Option<&mut Slot<T>> {
        self.slab.get_mut(index(token)).filter(|slot| slot.generation == generation(token))
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Slot<T>> {
        self.get(token)?;
        self.slab.try_remove(index(token))
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.slab
            .iter()
            .map(|(index, slot)| Token((u64::from(slot.generation) << 32) | index as u64))
            .collect()
    }

    /// Sees to it that the connection is asked at its deadline.
    pub(super) fn schedule(&mut self, token: Token) {
        let Some(slot) = self.get(token) else { return };
        if let Some(deadline) = slot.endpoint.deadline()
            && deadline < slot.scheduled
        {
            slot.scheduled = deadline;
            self.heap.push(Reverse((deadline, token)));
            self.compact();
        }
    }

    /// Forgets the deadlines of connections that are gone once they outnumber the living.
    fn compact(&mut self) {
        if self.heap.len() > 2 * self.slab.len() + 64 {
            let mut heap = mem::take(&mut self.heap);
            heap.retain(|&Reverse((time, token))| self.get(token).is_some_and(|slot| slot.scheduled == time));
            self.heap = heap;
        }
    }

    /// How many deadlines are noted.
    pub(super) fn deadlines(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// A connection whose deadline has passed by `now`; each once.
    pub(super) fn due(&mut self, now: Duration) -> Option<Token> {
        while let Some(&Reverse((time, token))) = self.heap.peek() {
            if time > now {
                return None;
            }
            self.heap.pop();
            let Some(slot) = self.get(token) else {
                continue;
            };
            if slot.scheduled != time {
                continue;
            }
            slot.scheduled = Duration::MAX;
            match slot.endpoint.deadline() {
                Some(deadline) if deadline <= now => return Some(token),
                _ => self.schedule(token),
            }
        }
        None
    }
}

fn index(token: Token) -> usize {
    (token.0 & u64::from(u32::MAX)) as usize
}

fn generation(token: Token) -> u32 {
    (token.0 >> 32) as u32
}
