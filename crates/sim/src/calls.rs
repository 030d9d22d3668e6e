//! What the sockets of a simulated node are asked, and what the network makes of it.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};

use roadstead_drivers::net::Failure;
use roadstead_proto::{Address, UnixName};

use crate::{
    fate::{Cut, End, Fate},
    trace::What,
    wire::{Flight, Wire},
    world::{Event, World},
};

/// The most pieces that one send is torn into.
const PIECES: usize = 8;
/// The first address of the simulated machines; each node has one of its own.
const SUBNET: [u8; 3] = [10, 0, 0];

impl World {
    pub(crate) fn connect(&mut self, node: usize, address: &Address) -> io::Result<End> {
        let now = self.clock.now();
        self.make_room(End { wire: self.wires.len(), side: 0 })?;
        let mut wire = Wire::draw(address.clone(), (node, node), &self.faults, &mut self.dice, now);
        let end = End { wire: self.wires.len(), side: 0 };
        if let Some(&(side, after)) = self.cuts.get(&end.wire) {
            wire.fate = Fate::Sever(side, after);
        }
        let there = self.listener(address).map(|listener| listener.node);
        if let Some(delay) = self.delays[node].or_else(|| self.delays[there?]) {
            wire.pipes.iter_mut().for_each(|pipe| pipe.delay = delay);
        }
        let (fate, delay) = (wire.fate, wire.pipes[1].delay);
        self.wires.push(wire);
        self.note(end, What::Connect);
        let wire = &mut self.wires[end.wire];
        match fate {
            Fate::RefuseAtOnce => {
                wire.cut = Some(Cut::Refused);
                wire.sides[0].closed = Some(now);
                self.note(end, What::Refused);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Fate::Ignore => wire.cut = Some(Cut::Unanswered),
            _ => {
                wire.pipes[1].latest = now + delay;
                self.schedule(now + delay, Event::Request(end.wire));
            }
        }
        if let Fate::ResetAt(after) = fate {
            self.schedule(now + delay * 2 + after, Event::Cut(end.wire));
        }
        Ok(end)
    }

    pub(crate) fn connected(&self, end: End) -> io::Result<()> {
        let side = &self.wires[end.wire].sides[end.side];
        match side.broken {
            Some(kind) => Err(kind.into()),
            None if side.decided => Ok(()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn accept(&mut self, listener: usize) -> io::Result<(End, Address)> {
        let Some(&wire) = self.listeners[listener].backlog.front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let end = End { wire, side: 1 };
        self.make_room(end)?;
        if self.dice.chance(self.faults.exhausted) {
            return Err(match self.dice.below(4) {
                0 => {
                    self.turn_away(listener);
                    io::Error::new(io::ErrorKind::ConnectionAborted, Failure::Passing)
                }
                1 => io::Error::other(Failure::NoDescriptors),
                2 => io::Error::other(Failure::NoRoom),
                _ => io::Error::new(io::ErrorKind::Interrupted, Failure::Passing),
            });
        }
        self.listeners[listener].backlog.pop_front();
        self.note(end, What::Accepted);
        let last = self.wires[wire].sides[0].node as u8 + 1;
        let from = match &self.wires[wire].address {
            Address::Ip(_) => {
                ([SUBNET[0], SUBNET[1], SUBNET[2], last], 40_000 + (wire % 20_000) as u16).into()
            }
            Address::Unix(_) => UnixName::none().into(),
        };
        Ok((end, from))
    }

    /// The system has room for an operation, as it nearly always has.
    fn make_room(&mut self, end: End) -> io::Result<()> {
        if self.dice.chance(self.faults.scarce) {
            self.note(end, What::Exhausted);
            let kind = [io::ErrorKind::Other, io::ErrorKind::OutOfMemory][self.dice.below(2)];
            return Err(io::Error::new(kind, Failure::NoRoom));
        }
        Ok(())
    }

    /// Loses the first connection of a backlog. False if there was none.
    pub(crate) fn turn_away(&mut self, listener: usize) -> bool {
        let Some(wire) = self.listeners[listener].backlog.pop_front() else {
            return false;
        };
        let end = End { wire, side: 1 };
        self.wires[wire].cut = Some(Cut::Refused);
        self.note(end, What::Turned);
        self.wires[wire].sides[1].closed = Some(self.clock.now());
        self.send_reset(end.other());
        true
    }

    pub(super) fn close_listener(&mut self, listener: usize) {
        self.listeners[listener].open = false;
        while self.turn_away(listener) {}
    }

    /// Takes bytes from the front of what `end` has to send, as many as there is room for.
    pub(crate) fn send(&mut self, end: End, offered: &mut BytesMut) -> io::Result<u64> {
        let (faults, peer) = (self.faults, end.other());
        self.make_room(end)?;
        let wire = &mut self.wires[end.wire];
        if let Some(kind) = wire.sides[end.side].broken {
            return Err(kind.into());
        }
        let pipe = &mut wire.pipes[peer.side];
        assert!(!pipe.finished, "the engine sends behind its own end");
        assert!(!offered.is_empty(), "the engine sends nothing");
        if self.dice.chance(faults.spurious / 4.0) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let room = pipe.capacity - pipe.used;
        let short = self.dice.chance(faults.short);
        if room == 0 || short && self.dice.below(4) == 0 {
            if room > 0 && !pipe.starved {
                let at = self.clock.now() + wire.pipes[end.side].delay;
                self.schedule(at, Event::Room(end));
            }
            self.wires[end.wire].pipes[peer.side].starved = true;
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
        let wire = &mut self.wires[end.wire];
        let pipe = &mut wire.pipes[end.side];
        let before = pipe.sent;
        pipe.sent += bytes.len() as u64;
        if pipe.lost {
            return;
        }
        let (mut ends, mut severed) = (false, false);
        match wire.fate {
            Fate::Sever(side, after) if side == end.side && after < pipe.sent && wire.cut.is_none() => {
                bytes.truncate((after - before) as usize);
                wire.cut = Some(Cut::Reset);
                pipe.lost = true;
                severed = true;
            }
            Fate::HalfClose(side, after) if side == end.side && after < pipe.sent && wire.cut.is_none() => {
                bytes.truncate((after - before.min(after)) as usize);
                wire.cut = Some(Cut::HalfClosed { to_server: side == 1 });
                pipe.lost = true;
                ends = true;
            }
            Fate::Reset(side, after) if side == end.side && after < pipe.sent => {
                self.schedule(self.clock.now(), Event::Cut(end.wire));
            }
            _ => {}
        }
        self.wires[end.wire].pipes[end.side].used += bytes.len();
        self.tear(end, bytes);
        if ends {
            self.note(end, What::Cut);
            self.fly(end, Flight::End, Duration::ZERO);
        }
        if severed {
            self.note(end, What::Cut);
            // One more delay, so that what has arrived is received.
            let pipe = &self.wires[end.wire].pipes[end.side];
            let at = pipe.latest.max(self.clock.now()) + pipe.delay;
            self.schedule(at, Event::Reset(end, io::ErrorKind::ConnectionReset));
            self.send_reset(end.other());
        }
    }

    /// Sends what will arrive on its way to `end`, whole or in pieces.
    fn tear(&mut self, end: End, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let whole = !self.dice.chance(self.faults.split);
            let count = if whole { bytes.len() } else { self.piece(bytes.len()) };
            let pause =
                if whole { Duration::ZERO } else { self.dice.time(self.faults.delay) / PIECES as u32 };
            self.fly(end, Flight::Bytes(bytes.split_to(count)), pause);
        }
    }

    /// How large the next piece of a torn send is: small ones are likely, but there are not too many of them.
    fn piece(&mut self, length: usize) -> usize {
        let least = (length / (PIECES * PIECES)).max(1);
        self.dice.scale(least as u64, length as u64) as usize
    }

    pub(crate) fn receive(&mut self, end: End, block: &mut BytesMut, most: usize) -> io::Result<usize> {
        assert!(most > 0, "the engine receives into nothing");
        if self.dice.chance(self.faults.spurious / 4.0) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.make_room(end)?;
        let wire = &mut self.wires[end.wire];
        let back = wire.pipes[1 - end.side].delay;
        let pipe = &mut wire.pipes[end.side];
        if pipe.inbox.is_empty() {
            return match wire.sides[end.side].broken {
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

    pub(crate) fn shutdown(&mut self, end: End) {
        if self.wires[end.wire].sides[end.side].broken.is_none() {
            self.note(end, What::Shutdown);
            self.finish(end);
        }
    }

    fn finish(&mut self, end: End) {
        let pipe = &mut self.wires[end.wire].pipes[1 - end.side];
        if !pipe.finished && !pipe.lost {
            self.fly(end.other(), Flight::End, Duration::ZERO);
        }
        self.wires[end.wire].pipes[1 - end.side].finished = true;
    }

    pub(crate) fn close(&mut self, end: End, reset: bool) {
        let now = self.clock.now();
        self.note(end, if reset { What::Aborted } else { What::Closed });
        let wire = &mut self.wires[end.wire];
        let unread = !wire.pipes[end.side].inbox.is_empty();
        let side = &mut wire.sides[end.side];
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
