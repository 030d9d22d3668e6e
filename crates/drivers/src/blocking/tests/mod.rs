//! The threads that wait, on a network where a script says what happens while they do.
#![forbid(unsafe_code)]

mod connection;
mod jobs;
mod server;

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::BytesMut;

use roadstead_proto::{
    address::Address,
    budget::Permit,
    connection::{Endpoint, Event, Op, Pending},
    host::Host,
    output::{Lent, Output},
    ticket::{Token, WakeQueue},
};

use super::wait::{Found, WaitingNet, Wants};
use crate::net::{Failure, Net};

/// What happens during one wait.
type Step = Box<dyn FnOnce(&Scripted) + Send>;

/// A network for threads that wait; all that are made of one are the same.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<World>>);

#[derive(Default)]
pub(crate) struct World {
    now: Duration,
    looks_at_the_clock: usize,
    /// One for each wait. When there is none any more, all that passes is time.
    script: VecDeque<Step>,
    /// The next wait finds nothing, whatever has come.
    blind: bool,
    /// What is answered instead of what a wait has found.
    unable: VecDeque<io::Result<Option<Found>>>,
    waits: Vec<Wait>,
    /// What has come to be received, and how much was asked for each time.
    pub(crate) came: VecDeque<io::Result<&'static [u8]>>,
    pub(crate) most: Vec<usize>,
    /// What comes of each send. When there is none, it has no room.
    pub(crate) sends: VecDeque<io::Result<u64>>,
    /// What comes of each connection that is begun, and of those that are asked about.
    begun: VecDeque<io::Result<()>>,
    pub(crate) decided: VecDeque<io::Result<()>>,
    dialled: Vec<Address>,
    broken: Option<io::ErrorKind>,
    /// Who waits at each listener; a failure in place of some.
    backlogs: [VecDeque<Option<Failure>>; 2],
    /// No descriptor is left: not to be woken by, nor to turn somebody away.
    cramped: bool,
    /// How often the alarm was rung.
    rung: usize,
    shed: usize,
    /// Listeners, in the order in which they were closed, and how many waited there then.
    left: Vec<(usize, usize)>,
    pub(crate) shut: usize,
    /// Whether each that was closed was reset.
    closed: Vec<bool>,
}

/// A listener of the world, by its number.
pub(crate) struct Door {
    number: usize,
    net: Scripted,
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut world = self.net.world();
        let waiting = world.backlogs[self.number].len();
        world.left.push((self.number, waiting));
    }
}

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// A connection's own.
    Own,
    /// All threads of a server have it.
    Alarm,
}

/// How somebody waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    InReceive(Duration),
    For { receive: bool, send: bool, wakeup: Option<Wakeup>, timeout: Option<Duration> },
    AtListeners(usize, Option<Duration>),
}

impl Scripted {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// The next wait passes like this.
    fn then(&self, step: impl FnOnce(&Self) + Send + 'static) -> &Self {
        self.world().script.push_back(Box::new(step));
        self
    }

    fn pass(&self, time: Duration) {
        self.world().now += time;
    }

    pub(crate) fn come(&self, what: io::Result<&'static [u8]>) {
        self.world().came.push_back(what);
    }

    fn waited(&self, how: Wait, timeout: Option<Duration>) {
        self.world().waits.push(how);
        let step = self.world().script.pop_front();
        match step {
            Some(step) => step(self),
            None => self.pass(timeout.expect("somebody waits for ever")),
        }
    }
}

fn waits<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Net for Scripted {
    type ListenSocket = Door;
    type Stream = ();

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }
    fn now(&self) -> Duration {
        let mut world = self.world();
        world.looks_at_the_clock += 1;
        assert!(world.looks_at_the_clock < 10_000, "a loop without end");
        world.now
    }
    fn accept(&mut self, listener: &Door) -> io::Result<((), Address)> {
        match self.world().backlogs[listener.number].pop_front() {
            Some(None) => Ok(((), guest())),
            Some(Some(failure)) => Err(io::Error::other(failure)),
            None => waits(),
        }
    }
    fn shed(&mut self, _: &Door) -> bool {
        let mut world = self.world();
        world.shed += 1;
        !world.cramped
    }
    fn connect(&mut self, address: &Address) -> io::Result<()> {
        let mut world = self.world();
        world.dialled.push(address.clone());
        world.begun.pop_front().unwrap_or(Ok(()))
    }
    fn connected(&mut self, (): &()) -> io::Result<()> {
        self.world().decided.pop_front().unwrap_or_else(waits)
    }
    fn receive(&mut self, (): &(), block: &mut BytesMut, most: usize) -> io::Result<usize> {
        let mut world = self.world();
        world.most.push(most);
        block.clear();
        let bytes = world.came.pop_front().unwrap_or_else(waits)?;
        block.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn send(&mut self, (): &(), _: &Output) -> io::Result<u64> {
        self.world().sends.pop_front().unwrap_or_else(waits)
    }
    fn shutdown(&mut self, (): &()) {
        self.world().shut += 1;
    }
    fn close(&mut self, (): (), reset: bool) {
        self.world().closed.push(reset);
    }
}

impl WaitingNet for Scripted {
    type Wakeup = Wakeup;

    fn another(&self) -> Self {
        self.clone()
    }
    fn accepting(&self) -> Self {
        self.clone()
    }
    fn interrupt(&mut self, _: &WakeQueue) -> io::Result<Wakeup> {
        if self.world().cramped { Err(io::Error::other(Failure::NoDescriptors)) } else { Ok(Wakeup::Own) }
    }
    fn alarm(&mut self) -> io::Result<Wakeup> {
        Ok(Wakeup::Alarm)
    }
    fn ring(&self, alarm: &Wakeup) {
        assert_eq!(*alarm, Wakeup::Alarm);
        self.world().rung += 1;
    }
    fn receive_within(
        &mut self,
        stream: &(),
        block: &mut BytesMut,
        most: usize,
        patience: Duration,
    ) -> io::Result<usize> {
        self.waited(Wait::InReceive(patience), Some(patience));
        self.receive(stream, block, most)
    }
    fn wait(
        &mut self,
        stream: Option<&()>,
        wants: Wants,
        interrupt: Option<&Wakeup>,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Found>> {
        let Wants { receive, send } = wants;
        self.waited(Wait::For { receive, send, wakeup: interrupt.copied(), timeout }, timeout);
        let mut world = self.world();
        if let Some(instead) = world.unable.pop_front() {
            return instead;
        }
        if std::mem::take(&mut world.blind) || stream.is_none() {
            return Ok(Some(Found::default()));
        }
        let broken = world.broken.is_some();
        let readable = broken || receive && !world.came.is_empty();
        let writable = send && !(world.sends.is_empty() && world.decided.is_empty());
        Ok(Some(Found { any: readable || writable, readable, broken }))
    }
    fn wait_for_any<'a>(
        &mut self,
        listeners: impl Iterator<Item = &'a Door>,
        _: &Wakeup,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.waited(Wait::AtListeners(listeners.count(), timeout), timeout);
        self.world().unable.pop_front().map_or(Ok(()), |instead| instead.map(drop))
    }
    fn broken_by(&mut self, (): &()) -> io::Error {
        self.world().broken.take().unwrap_or(io::ErrorKind::Other).into()
    }
}

/// Who comes.
pub(crate) fn guest() -> Address {
    Address::from(([192, 0, 2, 1], 7))
}

/// What an endpoint asks for.
#[derive(Default)]
pub(crate) struct Wishes {
    ops: VecDeque<Op>,
    deadline: Option<Duration>,
    /// Something else than bytes may move it.
    is_awaited: bool,
}

impl Wishes {
    pub(crate) fn ask(&mut self, op: Op) {
        self.ops.push_back(op);
    }
    pub(crate) fn receive(&mut self) {
        self.ask(Op::Receive(9));
    }
    fn close(&mut self) {
        self.ask(Op::Close { reset: false });
    }
}

/// What an endpoint wishes when it hears something.
type Plan = Box<dyn FnMut(&str, &mut Wishes, &mut Host) + Send>;
pub(crate) type Heard = Arc<Mutex<Vec<String>>>;

/// An endpoint that notes what it hears and asks for what a plan says.
pub(crate) struct Puppet {
    heard: Heard,
    wishes: Wishes,
    plan: Plan,
    output: Output,
    address: Address,
    _permit: Option<Permit>,
}

impl Puppet {
    pub(crate) fn new(plan: impl FnMut(&str, &mut Wishes, &mut Host) + Send + 'static) -> (Box<Self>, Heard) {
        let heard = Heard::default();
        let (wishes, output) = (Wishes::default(), Output::new(1));
        let puppet = Self {
            heard: heard.clone(),
            wishes,
            plan: Box::new(plan),
            output,
            address: guest(),
            _permit: None,
        };
        (Box::new(puppet), heard)
    }
}

impl Endpoint for Puppet {
    fn place(&mut self, _: Token, _: &Arc<WakeQueue>, _: Duration) {}
    fn handle(&mut self, _: Duration, event: Event<'_>, host: &mut Host) -> Pending {
        let heard = match event {
            Event::Received(block) => format!("received {}", String::from_utf8_lossy(block)),
            Event::Failed(error) => format!("failed: {}", error.kind()),
            event => format!("{event:?}").to_lowercase(),
        };
        (self.plan)(&heard, &mut self.wishes, host);
        self.heard.lock().unwrap().push(heard);
        Pending::ANY
    }
    fn next(&mut self) -> Option<Op> {
        self.wishes.ops.pop_front()
    }
    fn address(&self) -> &Address {
        &self.address
    }
    fn correct(&mut self, from: Duration, to: Duration) {
        self.heard.lock().unwrap().push(format!("not at {from:?} but at {to:?}"));
    }
    fn deadline(&self) -> Option<Duration> {
        self.wishes.deadline
    }
    fn output(&self) -> &Output {
        &self.output
    }
    fn lend(&mut self, _: &mut Lent) {}
    fn take_back(&mut self, _: &mut Lent) {}
    fn settle(&mut self, _: Duration, host: &mut Host) -> Pending {
        (self.plan)("settle", &mut self.wishes, host);
        Pending::ANY
    }
    fn is_quiet(&self) -> bool {
        !self.wishes.is_awaited
    }
    fn awaits_end(&self) -> bool {
        false
    }
}

impl fmt::Debug for Puppet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Puppet")
    }
}
