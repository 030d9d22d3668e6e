//! A worker: takes a connection out of the line, gives it its turn, runs the jobs that came of it.
#![forbid(unsafe_code)]

use std::{mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    connection::{BLOCK, Event, Operation, Outgoing},
    host::Host,
};

use super::{
    claim::{Claim, DRAIN, DUE, Events, MORE, OPENED, READABLE, STOP, WOKEN, WRITABLE},
    claimed::{Claimed, Content},
    line::{Line, Next},
    one_shot::OneShot,
    reports::{Report, Reports},
};
use crate::{
    connections::{LONG, Timed},
    failed::failed,
    net::Net,
    reactor::connection::Turn,
};

/// Gives turns to the connections of a line.
pub struct Worker<N: Net, O> {
    net: N,
    poller: O,
    host: Host,
    line: Arc<Line<Claimed<N::Stream>>>,
    reports: Arc<Reports>,
    block: BytesMut,
    connects: Vec<Outgoing>,
    /// Between the beginning and the end of [`Worker::run`].
    runs: bool,
}

/// What a worker's step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Works,
    /// It sleeps until it is called.
    Sleeps,
    /// It ends.
    Ends,
}

impl<N: Net<Stream: Send + 'static>, O: OneShot<N>> Worker<N, O> {
    /// A worker that receives and sends on sockets of `net`, and reports to the dispatcher of `line`.
    pub fn new(
        net: N,
        poller: O,
        host: Host,
        line: Arc<Line<Claimed<N::Stream>>>,
        reports: Arc<Reports>,
    ) -> Self {
        let block = BytesMut::with_capacity(BLOCK);
        Self { net, poller, host, line, reports, block, connects: Vec::new(), runs: false }
    }

    /// Works until the line is over.
    pub fn run(mut self) {
        self.runs = true;
        while self.runs {
            match self.step() {
                Step::Works => {}
                Step::Sleeps => self.line.sleep(),
                Step::Ends => self.runs = false,
            }
        }
    }

    /// Does what is next: a connection's turn, or else what waits of its jobs.
    pub fn step(&mut self) -> Step {
        let patient = !self.host.jobs.are_ready();
        let step = match self.line.next(patient) {
            Next::Turn(claimed) => {
                self.turn(claimed);
                Step::Works
            }
            Next::Nobody if patient => {
                self.host.count.sleeps += 1;
                Step::Sleeps
            }
            Next::Nobody => {
                self.host.jobs.run_turn();
                Step::Works
            }
            Next::Over => Step::Ends,
        };
        self.host.report();
        step
    }

    /// Whether it is called, asked in its sleep.
    pub fn hears(&self) -> bool {
        self.line.hear()
    }

    /// One turn of a connection that this worker has the claim of.
    fn turn(&mut self, claimed: Arc<Claimed<N::Stream>>) {
        let events = claimed.claim.begin();
        let mut guard = claimed.content();
        let Some(content) = guard.as_mut() else {
            return;
        };
        mem::swap(&mut self.host.wake_queue, &mut content.wake_queue);
        let turn = self.drive(content, events);
        mem::swap(&mut self.host.wake_queue, &mut content.wake_queue);
        for outgoing in self.connects.drain(..) {
            self.reports.connect(outgoing);
        }
        let turn = match turn {
            Turn::Closes { .. } => turn,
            _ => self.leave(&claimed.claim, content, turn),
        };
        if let Turn::Closes { reset } = turn {
            let closed = guard.take();
            drop(guard);
            claimed.claim.close();
            return self.close(closed, reset);
        }
        drop(guard);
        if claimed.claim.end(matches!(turn, Turn::HasMore)) {
            self.line.push_again(claimed);
        }
    }

    /// Runs jobs while the claim is held: their replies make this worker go on with the connection, and wake no other.
    fn leave(&mut self, claim: &Claim, content: &mut Content<N::Stream>, turn: Turn) -> Turn {
        self.host.jobs.run_turn();
        match turn {
            Turn::Rests if !claim.has_news() => self.rest(content),
            other => other,
        }
    }

    /// Tells the connection what has happened, and does what it asks for.
    fn drive(&mut self, content: &mut Content<N::Stream>, events: Events) -> Turn {
        let now = self.net.now();
        let connection = &mut content.connection;
        let has = |event: Events| events & event != 0;
        if has(READABLE | WRITABLE | MORE) {
            connection.note(has(READABLE), has(WRITABLE), has(MORE));
            connection.told = (false, false);
        }
        if has(DUE) {
            content.known = Duration::MAX;
        }
        let newcomer = has(OPENED);
        if has(DRAIN) && newcomer {
            connection.endpoint.handle(now, Event::Drain, &mut self.host);
        }
        let told = [(OPENED, Event::Opened), (WOKEN, Event::Woken), (STOP, Event::Stop)];
        let told = told.into_iter().filter_map(|(event, told)| has(event).then_some(told));
        for event in connection.decided(&mut self.net).into_iter().chain(told) {
            connection.endpoint.handle(now, event, &mut self.host);
        }
        let mut turn = self.drive_on(content, now);
        // What has arrived by now is served before the server drains, and before a deadline is believed.
        if has(DRAIN) && !newcomer && !is_over(&turn) {
            turn = self.look(content, now);
            if !is_over(&turn) {
                content.connection.endpoint.handle(now, Event::Drain, &mut self.host);
                turn = self.drive_on(content, now);
            }
        }
        if !is_over(&turn) && is_due(content, now) {
            turn = self.look(content, now);
            if !is_over(&turn) && is_due(content, now) {
                content.connection.endpoint.handle(now, Event::Tick, &mut self.host);
                turn = self.drive_on(content, now);
            }
        }
        // A session may have taken its time, and the peer has had none since.
        let ended = self.net.now();
        if ended.saturating_sub(now) >= LONG {
            content.connection.correct(now, ended);
        }
        turn
    }

    /// Tries what is in flight, told or not that it would work.
    fn look(&mut self, content: &mut Content<N::Stream>, now: Duration) -> Turn {
        let connection = &mut content.connection;
        connection.note(true, true, false);
        if let Some(event) = connection.decided(&mut self.net) {
            connection.endpoint.handle(now, event, &mut self.host);
        }
        self.drive_on(content, now)
    }

    fn drive_on(&mut self, content: &mut Content<N::Stream>, now: Duration) -> Turn {
        let connection = &mut content.connection;
        let (turn, _) =
            connection.drive(&mut self.net, &mut self.block, now, &mut self.host, &mut self.connects);
        let Turn::Dials(address) = turn else { return turn };
        let begun = self.net.connect(address).and_then(|stream| content.attach(stream, &self.poller));
        if let Err(error) = begun {
            let event = failed(Operation::Connect, error, N::classify);
            content.connection.endpoint.handle(now, event, &mut self.host);
        }
        self.drive_on(content, now)
    }

    /// The connection waits: for the poller, and for its deadline.
    fn rest(&mut self, content: &mut Content<N::Stream>) -> Turn {
        let Content { connection, token, known, .. } = content;
        let (receive, send) = connection.interest();
        let more = (receive && !connection.told.0) || (send && !connection.told.1);
        if let Some(stream) = connection.stream.as_ref().filter(|_| more) {
            connection.told = (receive, send);
            if let Err(error) = self.poller.arm(stream, *token, receive, send) {
                tracing::warn!(%error, "the poller lost a connection");
                return Turn::Closes { reset: true };
            }
        }
        if let Some(deadline) = connection.endpoint.deadline().filter(|deadline| deadline < known) {
            *known = deadline;
            self.reports.add(*token, Report::Due(deadline));
        }
        Turn::Rests
    }

    fn close(&mut self, closed: Option<Content<N::Stream>>, reset: bool) {
        let Some(Content { connection, token, .. }) = closed else {
            return;
        };
        if let Some(stream) = connection.stream {
            self.net.close(stream, reset);
        }
        self.reports.add(token, Report::Closed);
    }
}

fn is_over(turn: &Turn) -> bool {
    matches!(turn, Turn::Closes { .. })
}

fn is_due<T>(content: &Content<T>, now: Duration) -> bool {
    content.connection.endpoint.deadline().is_some_and(|deadline| deadline <= now)
}

/// What panics here is no session, for that is caught: the server ends, as it would with the loop's own thread.
impl<N: Net, O> Drop for Worker<N, O> {
    fn drop(&mut self) {
        if self.runs {
            self.reports.break_off();
        }
    }
}
