//! The I/O thread: waits, accepts, and raises what it hears; it never touches a connection that a worker may have.
#![forbid(unsafe_code)]

use std::{io, mem, net::SocketAddr, sync::Arc, time::Duration};

use roadstead_proto::{
    connection::{Endpoint, Event, Operation},
    host::Host,
    ticket::Token,
};

use super::{
    claim::{DRAIN, DUE, Events, MORE, OPENED, READABLE, STOP, WRITABLE},
    claimed::Claimed,
    line::Line,
    one_shot::OneShot,
    reports::{REPORTS, Report, Reports},
    worker::Worker,
};
use crate::{
    accept::Listener,
    connections::Timed,
    failed::failed,
    loop_state::{Call, LoopState},
    net::Net,
    orders::Orders,
    reactor::{
        connection::LoopConnection,
        listeners::Listeners,
        poller::{Poller, Readiness},
    },
};

/// The loop of the I/O thread.
pub struct Dispatcher<N: Net, P, O> {
    net: N,
    poller: P,
    one_shot: O,
    state: LoopState<Watched<N::Stream>>,
    reports: Arc<Reports>,
    listeners: Listeners<N::ListenSocket>,
    ready: Vec<Readiness>,
    /// What every newcomer is to hear of: that the server drains, or stops.
    ending: Events,
    /// The connections that are due a turn.
    pub line: Arc<Line<Claimed<N::Stream>>>,
}

/// A connection, and when it is to be looked at.
struct Watched<T> {
    claimed: Arc<Claimed<T>>,
    deadline: Option<Duration>,
}

impl<T> Timed for Watched<T> {
    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }
}

impl<N: Net<Stream: Send + 'static>, P: Poller<N>, O: OneShot<N>> Dispatcher<N, P, O> {
    /// A loop whose listeners `poller` tells of, and whose connections `one_shot`, which has the same tell of them.
    pub fn new(
        net: N,
        mut poller: P,
        one_shot: O,
        host: Host,
        orders: Arc<Orders>,
        listeners: Vec<Listener<N::ListenSocket>>,
    ) -> io::Result<Self> {
        let reports = Reports::new(Arc::clone(&orders), Arc::clone(&host.wake_queue));
        let listeners = Listeners::new(listeners, &host.shared.budget, &mut poller)?;
        Ok(Self {
            net,
            poller,
            one_shot,
            state: LoopState::new(host, orders),
            reports,
            listeners,
            ready: Vec::new(),
            ending: 0,
            line: Arc::default(),
        })
    }

    /// A worker for its connections, with what is its own.
    pub fn worker(&self, net: N, one_shot: O, host: Host) -> Worker<N, O> {
        Worker::new(net, one_shot, host, Arc::clone(&self.line), Arc::clone(&self.reports))
    }

    /// Runs until the server has drained or is stopped, and no connection is left.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn. False when it has nothing left to live for.
    pub fn turn(&mut self) -> io::Result<bool> {
        let timeout = self.timeout();
        let mut ready = mem::take(&mut self.ready);
        self.state.wait(timeout, |timeout| self.poller.wait(&mut ready, timeout, false))?;
        let now = self.net.now();
        for ready in ready.drain(..) {
            match ready.token.listener() {
                Some(number) => self.accept(number),
                None => self.hear(ready),
            }
        }
        self.ready = ready;
        self.take_calls(now);
        self.fire_deadlines(now);
        self.listeners.wake(&mut self.poller, now);
        self.state.host.report();
        if self.reports.is_broken() {
            return Err(io::Error::other("a worker panicked"));
        }
        Ok(!self.state.has_drained())
    }

    /// How long the next turn would wait; `None`: until something happens.
    pub fn timeout(&mut self) -> Option<Duration> {
        self.state.timeout(self.net.now(), false, self.listeners.resting())
    }

    fn hear(&mut self, ready: Readiness) {
        let mut events = 0;
        for (is, event) in [(ready.readable, READABLE), (ready.writable, WRITABLE), (ready.more, MORE)] {
            events |= if is { event } else { 0 };
        }
        self.raise(ready.token, events);
    }

    fn raise(&mut self, token: Token, events: Events) {
        if let Some(entry) = self.state.connections.get(token) {
            entry.claimed.raise(events);
        }
    }

    fn take_calls(&mut self, now: Duration) {
        self.state.take_calls();
        while let Some(call) = self.state.next_call() {
            match call {
                Call::Woken(REPORTS) => self.read_reports(),
                Call::Woken(_) => {}
                Call::New((Some(address), endpoint)) => self.connect(address, endpoint, now),
                Call::New((None, endpoint)) => self.insert(Ok(None), endpoint, false, now),
                Call::Cede => self.listeners.cede(&mut self.poller),
                Call::Drain => self.end(DRAIN, now),
                Call::Stop => self.end(STOP, now),
            }
        }
    }

    /// Has all hear that the server drains, or stops; each once.
    fn end(&mut self, ending: Events, now: Duration) {
        if ending <= self.ending {
            return;
        }
        self.ending = ending;
        for token in self.state.connections.tokens() {
            self.raise(token, ending);
        }
        for (stream, endpoint) in self.listeners.close(&mut self.net, &mut self.poller, &mut self.state.host)
        {
            self.insert(Ok(Some(stream)), endpoint, false, now);
        }
    }

    fn read_reports(&mut self) {
        for (token, report) in self.reports.take() {
            match report {
                Report::Closed => _ = self.state.connections.remove(token),
                Report::Due(deadline) => self.schedule(token, deadline),
            }
        }
    }

    fn schedule(&mut self, token: Token, deadline: Duration) {
        if let Some(entry) = self.state.connections.get(token) {
            entry.deadline = Some(deadline);
            self.state.connections.schedule(token);
        }
    }

    /// A worker that has heard of it says when to look again.
    fn fire_deadlines(&mut self, now: Duration) {
        while let Some(token) = self.state.connections.due(now) {
            if let Some(entry) = self.state.connections.get(token) {
                entry.deadline = None;
                entry.claimed.raise(DUE);
            }
        }
    }

    /// Takes what waits in a listener's backlog, until that is empty or it is the others' turn.
    fn accept(&mut self, number: usize) {
        while let Some((stream, endpoint)) =
            self.listeners.next(number, &mut self.net, &mut self.poller, &mut self.state.host, Some)
        {
            // To make a session may have taken long.
            self.insert(Ok(Some(stream)), endpoint, false, self.net.now());
        }
    }

    fn connect(&mut self, address: SocketAddr, endpoint: Box<dyn Endpoint>, now: Duration) {
        let Some(endpoint) = self.state.dials(endpoint, now) else { return };
        let begun = self.net.connect(address).map(Some);
        self.insert(begun, endpoint, true, now);
    }

    /// Places an endpoint on its stream, and leaves it to the workers.
    fn insert(
        &mut self,
        stream: io::Result<Option<N::Stream>>,
        endpoint: Box<dyn Endpoint>,
        connecting: bool,
        now: Duration,
    ) {
        let claimed = Claimed::new(LoopConnection::new(endpoint, connecting), &self.line);
        let token = self.state.connections.insert(Watched { claimed: Arc::clone(&claimed), deadline: None });
        let mut guard = claimed.content();
        let Some(content) = guard.as_mut() else {
            return;
        };
        content.token = token;
        content.connection.endpoint.place(token, &content.wake_queue, now);
        let added = stream.and_then(|stream| match stream {
            Some(stream) => content.attach(stream, &self.one_shot),
            None => Ok(()),
        });
        let connection = &mut content.connection;
        let events = match added {
            Ok(()) if connecting => 0,
            Ok(()) => OPENED | self.ending,
            Err(error) => {
                let event = match connecting {
                    true => failed(Operation::Connect, error, N::classify),
                    false => Event::Failed(error),
                };
                connection.endpoint.handle(now, event, &mut self.state.host);
                DUE
            }
        };
        let deadline = connection.endpoint.deadline();
        content.known = deadline.unwrap_or(Duration::MAX);
        drop(guard);
        if let Some(deadline) = deadline {
            self.schedule(token, deadline);
        }
        if events != 0 {
            claimed.raise(events);
        }
    }
}
