//! One of the reactor's connections: its socket, and what is known of its readiness.
#![forbid(unsafe_code)]

use std::{io, time::Duration};

use bytes::BytesMut;

use crate::{
    connection::{Endpoint, Event},
    host::Host,
    net::Net,
    slots::Timed,
};

/// One connection of the loop.
pub(super) struct Slot<T> {
    /// None for a session without a connection.
    pub(super) stream: Option<T>,
    pub(super) endpoint: Box<dyn Endpoint>,
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
}

impl<T> Timed for Slot<T> {
    fn deadline(&self) -> Option<Duration> {
        self.endpoint.deadline()
    }
}

impl<T> Slot<T> {
    pub(super) fn new(stream: Option<T>, endpoint: Box<dyn Endpoint>, connecting: bool) -> Self {
        Self {
            stream,
            endpoint,
            connecting,
            receive: 0,
            send: false,
            readable: false,
            // A fresh socket has room; if it has not, the first send says so.
            writable: !connecting,
            ended: false,
            busy: false,
            told: (false, false),
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
