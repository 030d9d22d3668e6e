//! A reactor's loop and its workers without threads: the seed decides which of them takes the next step.
//!
//! A step is what a thread does between two waits, and no thread waits within one for another. So each is a call here.
//! Wherever it asks the network something, others may take steps before it goes on, as on several processors: a worker
//! finds that its connection was told of, woken or became due while it had it. What no seed plays are interleavings of
//! single memory accesses; those are for loom.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use roadstead_drivers::reactor::{
    Reactor,
    workers::{Claimed, Line, Worker},
};

use crate::{
    dice::Dice,
    fate::End,
    others::GoesOn,
    sockets::{Shared, Sockets, Watcher},
    turns::Turns,
    world::Clock,
};

/// In one of so many calls others go on before it is over.
const INTERLEAVED: usize = 4;

/// A loop that leaves its connections to workers.
pub(super) type Leaves = Reactor<Sockets, Watcher, Arc<Claimed<End>>>;

/// The threads of one node.
pub(crate) struct Interleaved {
    world: Shared,
    clock: Clock,
    poller: usize,
    dice: RefCell<Dice>,
    reactor: RefCell<Leaves>,
    line: Arc<Line<End>>,
    workers: Vec<SimWorker>,
    /// What the loop's turns came to since this was asked.
    turned: Cell<io::Result<bool>>,
}

/// A worker, and what its thread would be doing.
pub(super) struct SimWorker {
    worker: RefCell<Worker<Sockets>>,
    asleep: Cell<bool>,
    paused: Cell<Duration>,
}

impl SimWorker {
    pub(crate) fn new(worker: Worker<Sockets>) -> Self {
        Self { worker: RefCell::new(worker), asleep: Cell::new(false), paused: Cell::new(Duration::ZERO) }
    }

    /// When it takes its next step; `None`: when it is called, or once it has ended the step that it is at.
    fn next(&self, line: &Line<End>, now: Duration) -> Option<Duration> {
        self.worker.try_borrow().ok()?;
        if self.asleep.get() {
            self.asleep.set(!line.has_next());
        }
        (!self.asleep.get()).then(|| self.paused.get().max(now))
    }
}

impl Interleaved {
    pub(crate) fn new(
        world: Shared,
        clock: Clock,
        poller: usize,
        dice: Dice,
        reactor: Leaves,
        (line, workers): (Arc<Line<End>>, Vec<SimWorker>),
    ) -> Self {
        let (dice, reactor) = (RefCell::new(dice), RefCell::new(reactor));
        Self { world, clock, poller, dice, reactor, line, workers, turned: Cell::new(Ok(true)) }
    }

    /// How long nobody would do anything. `None`: until something happens.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let now = self.clock.now();
        let workers = self.workers.iter().filter_map(|worker| worker.next(&self.line, now));
        let next = workers.chain(self.loops(now)).min()?;
        Some(next.saturating_sub(now))
    }

    /// When the loop takes its next turn.
    fn loops(&self, now: Duration) -> Option<Duration> {
        let mut reactor = self.reactor.try_borrow_mut().ok()?;
        if self.world.borrow().has_ready(self.poller) { Some(now) } else { Some(now + reactor.timeout()?) }
    }

    /// Somebody takes a step. False when the loop has nothing left to live for.
    pub(crate) fn turn(&self) -> io::Result<bool> {
        self.step();
        self.turned.replace(Ok(true))
    }

    fn step(&self) {
        let now = self.clock.now();
        let is_due = |next: Option<Duration>| next.is_some_and(|next| next <= now);
        let mut due: Vec<_> =
            self.workers.iter().filter(|worker| is_due(worker.next(&self.line, now))).map(Some).collect();
        if is_due(self.loops(now)) {
            due.push(None);
        }
        let chosen = self.dice.borrow_mut().below(due.len().max(1));
        match due.get(chosen) {
            Some(Some(worker)) => self.work(worker),
            Some(None) => self.turn_loop(),
            None => {}
        }
    }

    fn work(&self, worker: &SimWorker) {
        if let Some(pause) = self.pause() {
            return worker.paused.set(self.clock.now() + pause);
        }
        let worked = worker.worker.borrow_mut().step();
        worker.asleep.set(!worked);
    }

    fn turn_loop(&self) {
        let turned = self.reactor.borrow_mut().turn();
        if !matches!(turned, Ok(true)) {
            self.turned.set(turned);
        }
    }

    /// How long a thread stands still, if it does.
    fn pause(&self) -> Option<Duration> {
        let faults = self.world.borrow().faults;
        let mut dice = self.dice.borrow_mut();
        dice.chance(faults.pause).then(|| dice.time(faults.delay))
    }
}

/// The threads end, and with them what waits.
impl Drop for Interleaved {
    fn drop(&mut self) {
        self.line.stop();
    }
}

impl GoesOn for Interleaved {
    /// One thread is in the midst of a step: the network and the others may go on.
    fn go_on(&self) {
        if self.dice.borrow_mut().below(INTERLEAVED) == 0 {
            let pause = self.pause().unwrap_or_default();
            self.world.borrow_mut().go_on(pause);
            self.step();
        }
    }
}

impl Turns for Rc<Interleaved> {
    fn timeout(&mut self) -> Option<Duration> {
        Interleaved::timeout(self)
    }
    fn turn(&mut self) -> io::Result<bool> {
        Interleaved::turn(self)
    }
}
