//! A worker: takes what is next out of the line, gives a connection its turn or runs a slice of a job.
#![forbid(unsafe_code)]

use std::{mem, panic::resume_unwind, sync::Arc};

use bytes::BytesMut;

use roadstead_proto::{
    connection::{BLOCK, Event, Outgoing},
    guard,
    host::Host,
};

use super::{
    claim::{DRAIN, DUE, Events, MORE, OPENED, READABLE, STOP, WOKEN, WRITABLE},
    claimed::{Claimed, Line},
};
use crate::{
    connections::{LONG, Timed},
    net::Net,
    reactor::{connection::LoopConnection, turn::Turn},
};

/// What one thread needs to work for a line.
pub struct Worker<N: Net> {
    net: N,
    host: Host,
    line: Arc<Line<N::Stream>>,
    block: BytesMut,
    connects: Vec<Outgoing>,
}

impl<N: Net<Stream: Send + 'static>> Worker<N> {
    /// A worker that receives and sends on sockets of `net`, and whose jobs go into the same line.
    pub fn new(net: N, host: Host, line: &Arc<Line<N::Stream>>) -> Self {
        let (line, block) = (Arc::clone(line), BytesMut::with_capacity(BLOCK));
        Self { net, host, line, block, connects: Vec::new() }
    }

    /// Works until the line is stopped.
    pub fn run(&mut self) {
        Arc::clone(&self.line).work(|claimed| self.give(claimed));
    }

    /// Does what is next. False if there is nothing.
    pub fn step(&mut self) -> bool {
        Arc::clone(&self.line).work_once(|claimed| self.give(claimed))
    }

    /// Gives a connection its turn, and gives it back if it is due another.
    fn give(&mut self, claimed: Arc<Claimed<N::Stream>>) -> Option<Arc<Claimed<N::Stream>>> {
        let (mut connection, events) = claimed.lock().claim.begin()?;
        // What the session makes in its turn calls for this connection.
        let before = mem::replace(&mut self.host.wake_queue, Arc::clone(&claimed.calls));
        let turn = guard::catch(|| self.turn(&mut connection, events));
        self.host.wake_queue = before;
        self.host.report();
        let panicked = turn.as_ref().err().cloned();
        let again = claimed.end(connection, turn.unwrap_or(Turn::Closes { reset: true }), &mut self.connects);
        if let Some(said) = panicked {
            // That was no session, for theirs are caught: the server ends, as it does with a loop that panics.
            resume_unwind(Box::new(said));
        }
        again.then_some(claimed)
    }

    /// Tells a connection what has happened, and does what it asks for. What has arrived by now is served before the
    /// server drains, and before a deadline is believed.
    fn turn(&mut self, connection: &mut LoopConnection<N::Stream>, events: Events) -> Turn {
        let Self { net, host, block, connects, .. } = self;
        let (now, has) = (net.now(), |event: Events| events & event != 0);
        connection.note(has(READABLE), has(WRITABLE), has(MORE));
        let told = [(OPENED, Event::Opened), (WOKEN, Event::Woken), (STOP, Event::Stop)];
        let told = told.into_iter().filter_map(|(event, told)| has(event).then_some(told));
        for event in connection.decided(net).into_iter().chain(told) {
            connection.endpoint.handle(now, event, host);
        }
        let (mut turn, _) = connection.drive(net, block, now, host, connects);
        for (event, told) in [(DRAIN, Event::Drain), (DUE, Event::Tick)] {
            if has(event) && !matches!(turn, Turn::Closes { .. }) {
                connection.endpoint.handle(now, told, host);
                (turn, _) = connection.drive(net, block, now, host, connects);
            }
        }
        // A session may have taken its time, and the peer has had none since.
        let ended = net.now();
        if ended.saturating_sub(now) >= LONG {
            connection.correct(now, ended);
        }
        turn
    }
}
