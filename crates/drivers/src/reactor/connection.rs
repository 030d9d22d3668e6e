//! One of the reactor's connections: its socket, and what is known of its readiness.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{io, mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    connection::{BLOCK, Driven, Endpoint, Event, Op, Operation, Outgoing},
    host::Host,
    ticket::{Token, WakeQueue},
};

use super::{drive::Drive, turn::Turn};
use crate::{connections::Timed, failed::failed, net::Net, read::read_at_once};

/// Bytes that one connection may move before the others have their turn.
pub(super) const TURN: u64 = 4 * BLOCK as u64;

/// One connection of the loop: its socket, what that is ready for, and what the connection wants of it.
pub struct LoopConnection<T> {
    /// None for a session without a connection, and for a connection that could not be begun yet.
    pub(crate) stream: Option<T>,
    pub(crate) endpoint: Driven,
    pub(crate) connecting: bool,
    /// A receive of up to so many bytes is in flight; zero: none.
    pub(crate) receive: usize,
    /// A send is in flight.
    pub(crate) send: bool,
    /// A part of a file is to be read.
    read: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// A receive that is not filled may not be the last.
    pub(crate) more: bool,
    /// It has a place among those that have more to do.
    pub(crate) busy: bool,
    /// The interest that the poller knows of.
    pub(crate) told: (bool, bool),
}

impl<T> Timed for LoopConnection<T> {
    fn deadline(&self) -> Option<Duration> {
        self.endpoint.deadline()
    }

    fn is_due_no_sooner(&self) -> bool {
        self.endpoint.is_due_no_sooner()
    }

    fn correct(&mut self, from: Duration, to: Duration) {
        self.endpoint.correct(from, to);
    }
}

impl<T, N: Net<Stream = T>> Drive<N> for LoopConnection<T> {
    const STOPS_AT_ONCE: bool = true;
    type Workers = ();

    fn new((): &(), endpoint: Box<dyn Endpoint>, connecting: bool) -> Self {
        Self::new(endpoint, connecting)
    }
    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration) {
        self.endpoint.place(token, wake_queue, now);
    }
    fn attach(&mut self, stream: T) {
        self.stream = Some(stream);
    }
    fn note(&mut self, readable: bool, writable: bool, more: bool) {
        self.note(readable, writable, more);
    }
    fn decided(&mut self, net: &mut N) -> Option<Event<'static>> {
        self.decided(net)
    }
    fn tell(&mut self, event: Event<'static>, now: Duration, host: &mut Host) {
        self.endpoint.handle(now, event, host);
    }
    fn drive(
        &mut self,
        net: &mut N,
        block: &mut BytesMut,
        now: Duration,
        host: &mut Host,
        connects: &mut Vec<Outgoing>,
    ) -> (Turn, u64) {
        self.drive(net, block, now, host, connects)
    }
    fn is_busy(&self) -> bool {
        self.busy
    }
    fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }
    fn untold(&mut self) -> Option<(&T, bool, bool)> {
        let interest = self.interest();
        let stream = self.stream.as_ref().filter(|_| interest != self.told)?;
        self.told = interest;
        Some((stream, interest.0, interest.1))
    }
    fn into_stream(self) -> Option<T> {
        self.stream
    }
}

impl<T> LoopConnection<T> {
    pub fn new(endpoint: Box<dyn Endpoint>, connecting: bool) -> Self {
        Self {
            stream: None,
            endpoint: Driven::new(endpoint),
            connecting,
            receive: 0,
            send: false,
            read: false,
            readable: false,
            // A fresh socket has room; if it has not, the first send says so.
            writable: !connecting,
            more: false,
            busy: false,
            told: (false, false),
        }
    }

    /// What the poller should tell of: receive, send.
    pub(crate) fn interest(&self) -> (bool, bool) {
        (self.receive > 0, self.connecting || self.send)
    }

    /// Notes what a poller said.
    pub(crate) fn note(&mut self, readable: bool, writable: bool, more: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.more |= more;
    }

    /// What became of a connection that was being opened, once there is news of it.
    pub(crate) fn decided<N: Net<Stream = T>>(&mut self, net: &mut N) -> Option<Event<'static>> {
        let stream = self.stream.as_ref().filter(|_| self.connecting && self.writable)?;
        let event = match net.connected(stream) {
            Ok(()) => Event::Opened,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                return None;
            }
            Err(error) => Event::Failed(error),
        };
        self.connecting = false;
        Some(event)
    }

    /// Does what the connection asks for until it has to wait, or until it is the others' turn. Answers how many bytes
    /// that moved, and adds the connections that it wants opened to `connects`.
    pub(crate) fn drive<N: Net<Stream = T>>(
        &mut self,
        net: &mut N,
        block: &mut BytesMut,
        now: Duration,
        host: &mut Host,
        connects: &mut Vec<Outgoing>,
    ) -> (Turn, u64) {
        let mut moved = 0;
        let turn = loop {
            if self.endpoint.asks()
                && let Some(turn) = self.collect(net, connects)
            {
                return (turn, moved);
            }
            if moved >= TURN {
                break Turn::HasMore;
            }
            match self.step(net, block, now, host) {
                Some(count) => moved += count,
                None => break Turn::Rests,
            }
        };
        self.endpoint.settle(now, host);
        let asked = if self.endpoint.asks() { self.collect(net, connects) } else { None };
        // No poller tells of a file.
        (asked.unwrap_or(if self.read { Turn::HasMore } else { turn }), moved)
    }

    /// Takes the operations that the connection asks for. `Some` when its turn is over.
    fn collect<N: Net<Stream = T>>(&mut self, net: &mut N, connects: &mut Vec<Outgoing>) -> Option<Turn> {
        while let Some(op) = self.endpoint.next() {
            match op {
                Op::Receive(most) => self.receive = most,
                Op::Send => self.send = true,
                Op::Read => self.read = true,
                Op::Shutdown => match &self.stream {
                    Some(stream) => net.shutdown(stream),
                    None => return Some(Turn::Closes { reset: false }),
                },
                Op::Connect(outgoing) => connects.push(*outgoing),
                Op::Redial => return Some(Turn::Dials(self.endpoint.address().clone())),
                Op::Close { reset } => return Some(Turn::Closes { reset }),
            }
        }
        None
    }

    /// Does one operation that is in flight and would not block. `None` when there is none; else the bytes it moved.
    fn step<N: Net<Stream = T>>(
        &mut self,
        net: &mut N,
        block: &mut BytesMut,
        now: Duration,
        host: &mut Host,
    ) -> Option<u64> {
        if mem::take(&mut self.read) {
            return Some(read_at_once(&mut self.endpoint, now, host));
        }
        let stream = self.stream.as_ref().filter(|_| !self.connecting)?;
        if self.send && self.writable {
            host.count.sends += 1;
            let result = net.send(stream, self.endpoint.output());
            return Some(self.sent::<N>(result, now, host));
        }
        if self.receive > 0 && self.readable {
            host.count.receives += 1;
            let result = net.receive(stream, block, self.receive);
            return Some(self.received::<N>(result, block, now, host));
        }
        None
    }

    fn sent<N: Net>(&mut self, result: io::Result<u64>, now: Duration, host: &mut Host) -> u64 {
        match result {
            Ok(count) => {
                self.send = false;
                self.endpoint.handle(now, Event::Sent(count), host);
                return count;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => self.writable = false,
                io::ErrorKind::Interrupted => {}
                _ => {
                    self.send = false;
                    self.endpoint.handle(now, failed(Operation::Send, error, N::classify), host);
                }
            },
        }
        0
    }

    fn received<N: Net>(
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
                // Fewer bytes than were asked for: the rest would block, unless the poller has said otherwise.
                self.readable = count == self.receive || self.more;
                self.receive = 0;
                self.endpoint.handle(now, Event::Received(block), host);
                count as u64
            }
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::WouldBlock => self.readable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        self.receive = 0;
                        self.endpoint.handle(now, failed(Operation::Receive, error, N::classify), host);
                    }
                }
                0
            }
        }
    }
}
