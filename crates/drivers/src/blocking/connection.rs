//! One connection and the thread that waits for it.
//!
//! A connection that only bytes can move waits in `recv` itself, one call per message; but not for long, since nobody
//! can call its thread out of there. If nothing comes, or something else may move it (a ticket, a waker, a peer that
//! does not take its answer), the thread waits in `poll` for the socket and a wake descriptor: the server's, by which all
//! its threads hear of a drain, or one of its own if more than that may move it. Nothing else ever waits, so that
//! deadlines and orders are always looked at. No deadline fires before the socket was: the thread may have been
//! kept from it for longer than the peer, by a job, or because the whole process was stopped.
#![forbid(unsafe_code)]

use std::{io, mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    connection::{BLOCK, Driven, Endpoint, Event, Op, Operation},
    host::Host,
    queue::Run,
    ticket::{Token, WakeQueue},
};

use super::{
    server_handle::ServerHandle,
    wait::{WaitingNet, Wants},
};
use crate::{connections::LONG, failed::failed, orders::Order, read::read_at_once};

/// What others may do to a connection's thread: wake it.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<WakeQueue>);

impl Handle {
    /// There are new orders. Who waits in `recv` hears of it a little later.
    pub(crate) fn order(&self) {
        self.0.wake(TOKEN);
    }
}

/// The longest wait in `recv`: so much later does a busy connection hear of new orders.
const GLANCE: Duration = Duration::from_millis(50);

/// A loop of one connection needs but one name.
const TOKEN: Token = Token(0);

/// One connection and the thread that waits for it.
pub(crate) struct Blocking<N: WaitingNet> {
    server: Arc<dyn ServerHandle>,
    net: N,
    /// None until a connection to elsewhere was begun.
    stream: Option<N::Stream>,
    /// Ends a wait when the server drains.
    alarm: N::Wakeup,
    interrupt: Option<N::Wakeup>,
    endpoint: Driven,
    host: Host,
    block: BytesMut,
    /// It is to be connected first.
    dials: bool,
    /// The connection was begun and is not decided.
    connecting: bool,
    /// A receive of up to so many bytes is in flight; zero: none.
    receive: usize,
    /// A send is in flight.
    send: bool,
    /// A part of a file is to be read.
    read: bool,
    /// Nothing came in the last wait in `recv`.
    silent: bool,
    order: Order,
    /// When an event was told, if nothing was waited for since.
    told: Option<Duration>,
}

/// How a wait ended.
enum Woke {
    Readable,
    /// In `recv` itself, which has already filled the block.
    Received(io::Result<usize>),
    Otherwise,
}

impl<N: WaitingNet> Blocking<N> {
    /// Drives `endpoint` on an accepted connection.
    pub(crate) fn accepted(
        server: Arc<dyn ServerHandle>,
        net: N,
        alarm: N::Wakeup,
        stream: N::Stream,
        endpoint: Box<dyn Endpoint>,
        host: Host,
    ) -> Self {
        Self { stream: Some(stream), ..Self::new(server, net, alarm, endpoint, host) }
    }

    /// Drives `endpoint` on a connection to its address.
    pub(crate) fn outgoing(
        server: Arc<dyn ServerHandle>,
        net: N,
        alarm: N::Wakeup,
        endpoint: Box<dyn Endpoint>,
        host: Host,
    ) -> Self {
        Self { dials: true, ..Self::new(server, net, alarm, endpoint, host) }
    }

    fn new(
        server: Arc<dyn ServerHandle>,
        net: N,
        alarm: N::Wakeup,
        endpoint: Box<dyn Endpoint>,
        host: Host,
    ) -> Self {
        Self {
            server,
            net,
            stream: None,
            alarm,
            interrupt: None,
            endpoint: Driven::new(endpoint),
            host,
            block: BytesMut::with_capacity(BLOCK),
            dials: false,
            connecting: false,
            receive: 0,
            send: false,
            read: false,
            silent: false,
            order: Order::Serve,
            told: None,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.host.wake_queue))
    }

    /// Drives the connection to its end.
    pub(crate) fn run(mut self) {
        let reset = self.drive();
        let Self { server, mut net, stream, endpoint, mut host, .. } = self;
        if let Some(stream) = stream {
            net.close(stream, reset);
        }
        drop(endpoint);
        // Before it is at work, which may be the last thing that its process does.
        host.report();
        // What its own tickets are for is forgotten now. What it has submitted is not: others may wait for that.
        while server.order() != Order::Stop && host.jobs.run_one().is_some() {}
        host.report();
    }

    /// Answers whether the peer is to see a reset.
    fn drive(&mut self) -> bool {
        self.endpoint.place(TOKEN, &self.host.wake_queue, self.net.now());
        match self.dials {
            true => self.dial(),
            false => {
                // Who comes during a drain hears of it first.
                if let Some(reset) = self.obey() {
                    return reset;
                }
                self.tell(Event::Opened);
            }
        }
        loop {
            if let Some(reset) = self.obey() {
                return reset;
            }
            if let Some(reset) = self.fire_deadline() {
                return reset;
            }
            if let Some(reset) = self.collect() {
                return reset;
            }
            if self.take_calls() || self.try_read() || self.try_send() {
                continue;
            }
            self.endpoint.settle(self.net.now(), &mut self.host);
            if let Some(reset) = self.collect() {
                return reset;
            }
            if self.read {
                continue;
            }
            match self.wait() {
                Woke::Readable => self.look(),
                Woke::Received(result) => self.received(result),
                Woke::Otherwise => {}
            }
        }
    }

    /// `Some` when the connection asks to be closed.
    fn fire_deadline(&mut self) -> Option<bool> {
        let now = self.net.now();
        self.catch_up(now);
        let is_due = |endpoint: &dyn Endpoint| endpoint.deadline().is_some_and(|deadline| deadline <= now);
        if is_due(&*self.endpoint) {
            // A stop may have come between its opening and the first time that anything was asked for.
            if let Some(reset) = self.collect() {
                return Some(reset);
            }
            self.look_at_all();
            if is_due(&*self.endpoint) {
                self.tell(Event::Tick);
            }
        }
        None
    }

    /// Tries whatever is in flight, although nobody has told that it would work.
    fn look_at_all(&mut self) {
        self.look();
        self.try_send();
        if self.connecting {
            self.look_at_connect();
        }
    }

    /// Begins the connection.
    fn dial(&mut self) {
        match self.net.connect(self.endpoint.address()) {
            Ok(stream) => (self.stream, self.connecting) = (Some(stream), true),
            Err(error) => self.tell(failed(Operation::Connect, error, N::classify)),
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        let now = self.net.now();
        self.catch_up(now);
        self.told = Some(now);
        self.endpoint.handle(now, event, &mut self.host);
    }

    /// Nothing was waited for since an event was told. If that was long ago, the session has taken its time, and the
    /// peer has had none.
    fn catch_up(&mut self, now: Duration) {
        if let Some(told) = self.told.take().filter(|told| now.saturating_sub(*told) >= LONG) {
            self.endpoint.correct(told, now);
        }
    }

    /// `Some` when the connection asks to be closed.
    fn obey(&mut self) -> Option<bool> {
        let order = self.server.order();
        if order == self.order {
            return None;
        }
        self.order = order;
        if order < Order::Drain {
            return None;
        }
        if order == Order::Drain {
            // What has arrived by now is served, also where nobody has asked for it since the last event.
            if let Some(reset) = self.collect() {
                return Some(reset);
            }
            self.look_at_all();
        }
        self.tell(if order == Order::Stop { Event::Stop } else { Event::Drain });
        None
    }

    /// Takes the operations the connection asks for. `Some` when it asks to be closed.
    fn collect(&mut self) -> Option<bool> {
        while let Some(op) = self.endpoint.next() {
            match op {
                Op::Receive(most) => self.receive = most,
                Op::Send => self.send = true,
                Op::Read => self.read = true,
                Op::Shutdown => self.stream.iter().for_each(|stream| self.net.shutdown(stream)),
                Op::Connect(outgoing) => Arc::clone(&self.server).connect(outgoing.endpoint),
                Op::Redial => self.dial(),
                Op::Close { reset } => return Some(reset),
            }
        }
        None
    }

    /// This thread is the logic unit too: runs what waits, and hears who calls. True if anything happened.
    fn take_calls(&mut self) -> bool {
        if self.host.jobs.are_ready() {
            // What was counted is not lost if its process does not survive the job.
            self.host.report();
        }
        let ran = self.host.jobs.run_one();
        if ran == Some(Run::Slice) {
            // A job in slices is not to hold the connection.
            self.look();
            self.try_send();
        }
        let mut happened = ran.is_some();
        let mut woken = Vec::new();
        self.host.wake_queue.take(&mut woken);
        if !woken.is_empty() {
            self.tell(Event::Woken);
            happened = true;
        }
        happened
    }

    /// Learns what became of a connection that was begun, if that is decided.
    fn look_at_connect(&mut self) {
        let result = begun(&self.stream).and_then(|stream| self.net.connected(stream));
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return;
        }
        self.connecting = false;
        self.tell(result.map_or_else(Event::Failed, |()| Event::Opened));
    }

    /// Receives without waiting.
    fn look(&mut self) {
        if self.receive > 0 {
            let stream = begun(&self.stream);
            let result = stream.and_then(|stream| self.net.receive(stream, &mut self.block, self.receive));
            self.received(result);
        }
    }

    /// Reads what is to be read of a file. True if anything happened.
    fn try_read(&mut self) -> bool {
        let reads = mem::take(&mut self.read);
        if reads {
            read_at_once(&mut self.endpoint, self.net.now(), &mut self.host);
        }
        reads
    }

    /// Sends without waiting. True if anything happened.
    fn try_send(&mut self) -> bool {
        if !self.send {
            return false;
        }
        self.host.count.sends += 1;
        let stream = begun(&self.stream);
        match stream.and_then(|stream| self.net.send(stream, self.endpoint.output())) {
            Ok(count) => {
                self.send = false;
                self.tell(Event::Sent(count));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return false,
                io::ErrorKind::Interrupted => {}
                _ => {
                    self.send = false;
                    self.tell(failed(Operation::Send, error, N::classify));
                }
            },
        }
        true
    }

    fn received(&mut self, result: io::Result<usize>) {
        self.host.count.receives += 1;
        match result {
            Ok(0) => {
                self.receive = 0;
                self.tell(Event::Ended);
            }
            Ok(_) => {
                self.receive = 0;
                let mut block = mem::take(&mut self.block);
                self.tell(Event::Received(&mut block));
                self.block = block;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => {
                    self.receive = 0;
                    self.tell(failed(Operation::Receive, error, N::classify));
                }
            },
        }
    }

    fn wait(&mut self) -> Woke {
        let left = self.endpoint.deadline().map(|deadline| deadline.saturating_sub(self.net.now()));
        if left == Some(Duration::ZERO) {
            return Woke::Otherwise;
        }
        self.host.count.sleeps += 1;
        let soon = left.is_some_and(|left| left < GLANCE);
        let silent = mem::take(&mut self.silent) && self.wakeup().is_ok();
        if self.receive > 0 && !self.send && !soon && !silent && self.endpoint.is_quiet() {
            return self.park();
        }
        self.poll(left).unwrap_or_else(|error| {
            self.tell(Event::Failed(error));
            Woke::Otherwise
        })
    }

    /// Waits in `recv` itself, for a while.
    fn park(&mut self) -> Woke {
        self.host.report();
        let result = begun(&self.stream)
            .and_then(|stream| self.net.receive_within(stream, &mut self.block, self.receive, GLANCE));
        self.silent = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        Woke::Received(result)
    }

    /// Waits for the socket and the wake descriptor. Where no descriptor is left for that, the wake queue is looked at
    /// every now and then.
    fn poll(&mut self, left: Option<Duration>) -> io::Result<Woke> {
        let interrupt = self.wakeup().ok();
        let left =
            if interrupt.is_some() { left } else { Some(left.map_or(GLANCE, |left| left.min(GLANCE))) };
        if !self.host.wake_queue.begin_sleep() {
            return Ok(Woke::Otherwise);
        }
        self.host.report();
        self.host.rest();
        self.host.count.waits += 1;
        let wants = Wants { receive: self.receive > 0, send: self.send || self.connecting };
        let found = self.net.wait(self.stream.as_ref(), wants, interrupt.as_ref(), left);
        self.host.wake_queue.end_sleep();
        match found? {
            None => self.look_at_all(),
            Some(found) if self.connecting && found.any => self.look_at_connect(),
            Some(found) if self.receive > 0 && found.readable => return Ok(Woke::Readable),
            Some(found) if found.broken => return Err(self.net.broken_by(begun(&self.stream)?)),
            Some(_) => {}
        }
        Ok(Woke::Otherwise)
    }

    /// What ends a poll. Where only a drain can move the connection beside its bytes, that is what the threads of the
    /// server have in common, so that an idle connection holds no descriptor but its socket.
    fn wakeup(&mut self) -> io::Result<N::Wakeup> {
        let shares = self.interrupt.is_none() && self.endpoint.is_quiet();
        // It has been rung for the last time.
        if shares && self.order < Order::Drain { Ok(self.alarm.clone()) } else { self.interrupt() }
    }

    /// What interrupts its own poll, made when it is first needed.
    fn interrupt(&mut self) -> io::Result<N::Wakeup> {
        if let Some(interrupt) = &self.interrupt {
            return Ok(interrupt.clone());
        }
        let interrupt = self.net.interrupt(&self.host.wake_queue)?;
        Ok(self.interrupt.insert(interrupt).clone())
    }
}

/// The socket of a connection that has one.
fn begun<S>(stream: &Option<S>) -> io::Result<&S> {
    stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
}
