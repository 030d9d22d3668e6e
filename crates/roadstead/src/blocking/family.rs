//! What the process models share: a parent that listens, watches over its children, and serves nobody itself.
//!
//! The parent has one thread, so that it may fork. SIGTERM asks a child to finish what it is at; the parent sends it to
//! all when it drains, the system when the parent is gone. What a killed child had of the budget is given back when it
//! is joined, and so is its number: no zombie stays.
#![forbid(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    process::Pid,
};

use super::{
    child::{self, Child, Ending},
    crew::{Crew, MakeHost, Orders},
};
use crate::{
    accept::{self, Door, Open},
    budget::{Budget, Permit, Share},
    common::Ledger,
    host::{Host, Seeds, Shared},
    model::iterative::Iterative,
    os::{self, Os},
    queue::{Jobs, Queue},
    server::{RunError, Undrained},
    service::Peer,
    signals::{Came, Signals, wait_for_term},
    stats::Snapshot,
    tuning::Tuning,
    wait::{FOR_EVER, wait_for},
};

/// When there are children, and what for.
pub(crate) trait Strategy {
    /// Whether the parent accepts for them.
    fn accepts(&self) -> bool;
    /// Does what is due; answers when something else will be.
    fn tend(&mut self, family: &mut Family) -> Option<Instant>;
    /// A child of the slot has ended, and lived so long.
    fn ended(&mut self, slot: usize, lived: Duration);
}

/// Makes the opener of a process's connections.
pub(crate) type MakeOpen = dyn Fn(Arc<Shared>) -> Arc<Open>;

/// The parent and its children.
pub(crate) struct Family {
    pub(crate) budget: Budget,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) net: Os,
    pub(crate) host: Host,
    tuning: Tuning,
    queue: Queue,
    epoch: Instant,
    open: Box<MakeOpen>,
    children: Vec<Option<Child>>,
    killed: usize,
}

impl Family {
    pub(crate) fn new(
        budget: Budget,
        tuning: Tuning,
        queue: Queue,
        listeners: Vec<OwnedFd>,
        open: Box<MakeOpen>,
        size: usize,
    ) -> io::Result<Self> {
        let ledger = Arc::new(Ledger::new(size)?);
        let epoch = Instant::now();
        // It has no connections of its own, only counts.
        let shared = Shared::common(&budget, tuning, &Share { ledger: Arc::clone(&ledger), slot: 0 });
        let host = Seeds::new()?.host(shared, Jobs::inline(queue));
        let children = (0..size).map(|_| None).collect();
        let net = Os::blocking(epoch, tuning);
        Ok(Self { budget, listeners, ledger, net, host, tuning, queue, epoch, open, children, killed: 0 })
    }

    /// The lowest slot without a child.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        self.children.iter().position(Option::is_none)
    }

    pub(crate) fn is_free(&self, slot: usize) -> bool {
        self.children[slot].is_none()
    }

    /// Begins a child that serves one connection, or, without one, whoever comes, one at a time.
    pub(crate) fn begin(&mut self, slot: usize, name: &str, one: Option<(OwnedFd, Peer)>) -> io::Result<()> {
        self.ledger.occupy(slot);
        let name = format!("{name}-{slot}");
        let child = Child::fork(name, || self.live(slot, one).map_or(1, |()| 0))?;
        tracing::debug!("{child} begins");
        self.children[slot] = Some(child);
        Ok(())
    }

    /// What a child does.
    fn live(&mut self, slot: usize, one: Option<(OwnedFd, Peer)>) -> io::Result<()> {
        let share = Share { ledger: Arc::clone(&self.ledger), slot };
        let shared = Shared::common(&self.budget, self.tuning, &share);
        // Not a copy of the parent's: no two processes may draw the same numbers.
        let (seeds, queue) = (Seeds::new()?, self.queue);
        let open = (self.open)(Arc::clone(&shared));
        let make: Box<MakeHost> = Box::new(move || seeds.host(Arc::clone(&shared), Jobs::inline(queue)));
        let crew = Crew::new(self.epoch, make, Box::new(Iterative))?;
        let orders = Arc::clone(&crew);
        thread::Builder::new().name("orders".into()).spawn(move || {
            wait_for_term();
            orders.order(Orders::Drain);
        })?;
        let listeners = std::mem::take(&mut self.listeners);
        match one {
            Some((stream, peer)) => {
                drop(listeners);
                let endpoint = accept::open(&*open, peer, Permit::elsewhere());
                crew.serve_one(stream, endpoint.ok_or(io::ErrorKind::ConnectionAborted)?);
            }
            None => {
                let door = |listener| Door { listener, open: Arc::clone(&open) };
                crew.accept(&listeners.into_iter().map(door).collect::<Vec<_>>())?;
            }
        }
        crew.wait_for_all();
        Ok(())
    }

    /// Serves until SIGINT or SIGTERM, then drains; the second ends all at once.
    pub(crate) fn run(
        mut self,
        mut strategy: Box<dyn Strategy>,
        signals: &Signals,
        patience: Duration,
    ) -> Result<Snapshot, RunError> {
        let mut until = None;
        loop {
            let mut next = until;
            if until.is_none() {
                next = strategy.tend(&mut self);
                self.host.report();
            } else if self.children.iter().all(Option::is_none) {
                break;
            } else if until.is_some_and(|until| until <= Instant::now()) {
                self.kill_all();
                break;
            }
            self.wait(signals, strategy.accepts(), next)?;
            while let Some(came) = signals.next() {
                match came {
                    Came::Child => self.join(&mut *strategy),
                    Came::End if until.is_none() => {
                        until = Some(Instant::now() + patience.min(FOR_EVER));
                        self.drain();
                    }
                    Came::End => {
                        self.kill_all();
                        return Err(RunError::Interrupted);
                    }
                }
            }
        }
        self.host.report();
        let undrained = self.killed;
        if undrained > 0 { Err(Undrained(undrained).into()) } else { Ok(self.ledger.stats().snapshot()) }
    }

    /// Waits for a signal, for connections in the backlog if asked to, or for the next thing that is due.
    fn wait(&self, signals: &Signals, accepts: bool, next: Option<Instant>) -> io::Result<()> {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if accepts {
            fds.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        }
        wait_for(&mut fds, next)
    }

    /// Takes note of the children that have ended.
    fn join(&mut self, strategy: &mut dyn Strategy) {
        while let Some((pid, ending)) = child::join_one(false) {
            if let Some((slot, lived)) = self.bury(pid, ending) {
                strategy.ended(slot, lived);
            }
        }
    }

    /// Gives back what a child had: which slot it was, and how long it lived. A connection that it could not end itself
    /// has failed.
    fn bury(&mut self, pid: Pid, ending: Ending) -> Option<(usize, Duration)> {
        let is_it = |child: &Option<Child>| child.as_ref().is_some_and(|child| child.pid() == pid);
        let slot = self.children.iter().position(is_it)?;
        let child = self.children[slot].take()?;
        let served = self.ledger.clear(slot);
        if ending == Ending::Exited(0) {
            tracing::debug!("{child} has ended");
        } else {
            tracing::warn!("{child} {ending}");
            self.host.count.closed += u64::from(served);
            self.host.count.failed += u64::from(served);
        }
        Some((slot, child.begun().elapsed()))
    }

    /// Nobody comes any more, and who is there may finish.
    fn drain(&mut self) {
        tracing::info!(open = self.ledger.open(), "draining");
        for listener in self.listeners.drain(..) {
            os::hang_up(&listener);
        }
        self.children.iter().flatten().for_each(Child::terminate);
    }

    /// Ends all children at once, and waits for their ends.
    fn kill_all(&mut self) {
        self.killed = self.ledger.open();
        self.children.iter().flatten().for_each(Child::kill);
        while self.children.iter().any(Option::is_some) {
            let Some((pid, ending)) = child::join_one(true) else { break };
            self.bury(pid, ending);
        }
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(os::local_address).collect()
    }
}

impl Drop for Family {
    /// However it came to this: no child is left.
    fn drop(&mut self) {
        self.kill_all();
    }
}
