//! What the process models share: a parent that listens, watches over its children, and serves nobody itself.
//!
//! The parent has one thread, so that it may fork. SIGTERM asks a child to finish what it is at; the parent sends it to
//! all when it drains, the system when the parent is gone. Then a child that does not finish in time ends itself, as
//! its parent would have ended it. What a killed child had of the budget is given back when it is joined, and so is its
//! number: no zombie stays.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    process::Pid,
};

use roadstead_drivers::{
    accept::{self, Listener, Open, Taken},
    blocking::{
        iterative::Iterative,
        server::{BlockingServer, MakeHost},
        wait::WaitingNet,
    },
    net::{Net, REST},
    orders::Order,
};
use roadstead_proto::{
    address::Address,
    budget::{Books, Refused},
    host::{Host, Shared},
    layer::{self, Layers},
    queue::Jobs,
    service::Peer,
    stats::{Counters, Refusal, Snapshot},
};

use crate::{
    audit::Audit,
    host::on_system,
    outcome::Undrained,
    processes::{
        child::{self, Child, Exit},
        ledger::Ledger,
        plan::{ForkEnd, Plan},
    },
    signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SignalQueue},
    sockets::{self, WaitingOs, WaitingStream, unix::SocketFile},
    threads::{TooFew, each::Threads},
    wait::{FOR_EVER, wait_for},
};

/// When there are children, and what for.
pub trait Forking {
    /// Begins the children that are there before anybody comes.
    fn start(&mut self, _: &mut ParentProcess) -> Result<(), TooFew> {
        Ok(())
    }
    /// Whether the parent accepts for them.
    fn accepts(&self) -> bool;
    /// Does what is due; answers when something else will be.
    fn tend(&mut self, parent: &mut ParentProcess) -> Option<Instant>;
    /// A child of the slot has ended, and lived so long.
    fn ended(&mut self, slot: usize, lived: Duration);
}

/// The parent and its children.
pub struct ParentProcess {
    pub(crate) plan: Plan,
    /// Of those listeners that have one; dropped first, as a [`SocketFile`] asks for.
    files: Vec<SocketFile>,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) net: WaitingOs,
    pub(crate) host: Host,
    /// The parent's: a child has its own.
    signals: Option<SignalQueue>,
    children: Vec<Option<Child>>,
    /// Who waited when the listeners were closed, and has no child yet.
    last: VecDeque<(WaitingStream, Peer)>,
    draining: bool,
    killed: usize,
    /// Through which a child that is waited for says whether it can serve.
    tells: Option<(PipeReader, PipeWriter)>,
}

impl ParentProcess {
    /// A parent of at most `size` children.
    ///
    /// # Errors
    /// What the system says: memory that is shared, or signals, cannot be had.
    pub fn new(plan: Plan, listeners: Vec<OwnedFd>, files: Vec<SocketFile>, size: usize) -> io::Result<Self> {
        let ledger = Arc::new(Ledger::new(size)?);
        // It has no connections of its own, only counts.
        let shared = Shared::common(&plan.budget, plan.tuning, &ledger.share(0), Arc::clone(&ledger));
        let host = on_system(shared, Jobs::Inline(plan.queue.discipline()));
        let net = WaitingOs::new(Instant::now(), plan.tuning).accepting();
        let signals = Some(Audit::watch(plan.audit, &[SIGHUP, SIGINT, SIGTERM, SIGCHLD])?);
        Ok(Self {
            plan,
            listeners,
            files,
            ledger,
            net,
            host,
            signals,
            children: (0..size).map(|_| None).collect(),
            last: VecDeque::new(),
            draining: false,
            killed: 0,
            tells: None,
        })
    }

    /// The lowest slot without a child.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        self.children.iter().position(Option::is_none)
    }

    pub(crate) fn is_free(&self, slot: usize) -> bool {
        self.children[slot].is_none()
    }

    /// Begins a child that serves one connection and takes it, or, without one, serves whoever comes, one at a time.
    pub(crate) fn begin(
        &mut self,
        slot: usize,
        name: &str,
        one: &mut Option<(WaitingStream, Peer)>,
    ) -> io::Result<()> {
        self.ledger.occupy(slot);
        let name = format!("{name}-{slot}");
        // Taken in the child alone, whose copy of the descriptor is then its only one: it can reset the connection.
        let body = |parent, _held| {
            let ready = self.prepare(parent, slot);
            if let Some((_, tell)) = self.tells.take() {
                say(tell, ready.as_ref().err());
                if ready.is_err() {
                    return 0;
                }
            }
            match ready.and_then(|ready| self.live(ready, one.take())) {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!(%error, slot, "a child cannot serve, and ends");
                    1
                }
            }
        };
        let child = Child::fork(name, body)?;
        self.host.count.children += 1;
        tracing::debug!("{child} begins");
        self.children[slot] = Some(child);
        Ok(())
    }

    /// The same for a child that serves whoever comes, and waits until it can.
    ///
    /// # Errors
    /// Why it cannot: there is no process for it, or no thread in it.
    pub(crate) fn begin_ready(&mut self, slot: usize, name: &str) -> io::Result<()> {
        self.tells = Some(io::pipe()?);
        let begun = self.begin(slot, name, &mut None);
        let tells = self.tells.take();
        begun?;
        tells.map_or(Ok(()), heard)
    }

    /// Asks the budget about a connection, and begins its child. If the system has no process left the connection is
    /// closed.
    pub(crate) fn admit(&mut self, stream: WaitingStream, peer: Peer) {
        let full = Refused::Full(self.children.len());
        let slot = self.free_slot().ok_or(full).and_then(|slot| {
            self.ledger.occupy(slot);
            let budget = &self.plan.budget;
            match peer.address.ip() {
                Some(from) => self.ledger.admit(slot, from, budget),
                None => self.ledger.admit_other(slot, budget),
            }
            .map(|()| slot)
        });
        let slot = match slot {
            Ok(slot) => slot,
            Err(why) => {
                accept::refused(&peer, why);
                return self.refuse(stream, Refusal::Budget(why));
            }
        };
        // Counted before there is a child that could count its end.
        self.host.count.accepted += 1;
        self.host.report();
        let mut one = Some((stream, peer));
        if let Err(error) = self.begin(slot, "client", &mut one) {
            tracing::warn!(%error, "no process could be had for a connection; it is closed");
            one.into_iter().for_each(|(stream, _)| self.net.close(stream, true));
            self.lost(slot);
        }
    }

    fn refuse(&mut self, stream: WaitingStream, why: Refusal) {
        self.host.count.refuse(why);
        self.net.close(stream, true);
    }

    /// Begins children for those who waited when the listeners were closed, as many as there is room for.
    fn admit_last(&mut self) {
        while self.free_slot().is_some()
            && let Some((stream, peer)) = self.last.pop_front()
        {
            self.admit(stream, peer);
        }
    }

    /// What a child does first.
    fn prepare(&mut self, parent: Pid, slot: usize) -> io::Result<Ready> {
        drop(self.signals.take());
        self.last.clear();
        self.files.clear();
        let (ledger, plan) = (&self.ledger, &self.plan);
        let shared = Shared::common(&plan.budget, plan.tuning, &ledger.share(slot), Arc::clone(ledger));
        let queue = self.plan.queue;
        let open = (self.plan.open)(Arc::clone(&shared));
        let common = Arc::clone(&shared);
        let make: Box<MakeHost> =
            Box::new(move || on_system(Arc::clone(&common), Jobs::Inline(queue.discipline())));
        let server = BlockingServer::new(self.net.another(), make, Box::new(Iterative), Box::new(Threads))?;
        if self.draining {
            server.raise(Order::Drain);
        }
        self.obey_as(parent, Arc::clone(&server))?;
        Ok(Ready { shared, open, server })
    }

    /// What a child does then.
    fn live(&mut self, ready: Ready, one: Option<(WaitingStream, Peer)>) -> io::Result<()> {
        let Ready { shared, open, server } = ready;
        let listeners = std::mem::take(&mut self.listeners);
        match one {
            Some((stream, peer)) => {
                drop(listeners);
                let permit = shared.gate.adopt(peer.address.ip());
                match accept::open(&*open, peer, permit) {
                    Some(endpoint) => server.serve_one(stream, endpoint),
                    None => shared.stats().add(&Counters {
                        closed: 1,
                        failed: 1,
                        broken: 1,
                        ..Counters::default()
                    }),
                }
            }
            None => {
                let listener = |socket| Listener { socket, open: Arc::clone(&open) };
                server.listen(listeners.into_iter().map(listener).collect());
                server.accept()?;
            }
        }
        server.wait_for_all();
        Ok(())
    }

    /// In a child: has a thread of its own do what the parent wants.
    fn obey_as(&self, parent: Pid, server: Arc<BlockingServer<WaitingOs>>) -> io::Result<()> {
        // SIGINT, which a terminal sends to all of them, is for the parent alone; but it must not end the child.
        let signals = SignalQueue::watch(&[SIGHUP, SIGINT, SIGTERM])?;
        let (layers, patience) = (self.plan.layers.clone(), self.plan.patience);
        let obey = move || {
            if let Err(error) = obey(signals, &server, layers.as_deref(), parent, patience) {
                tracing::error!(%error, "a child does not hear its parent any more, and finishes");
                server.raise(Order::Drain);
            }
        };
        thread::Builder::new().name("orders".into()).spawn(obey).map(drop)
    }

    /// Serves until SIGINT or SIGTERM, then drains; the second ends all at once.
    pub fn run(mut self, mut strategy: Box<dyn Forking>) -> Result<Snapshot, ForkEnd> {
        let mut until = None;
        loop {
            let mut next = until;
            if until.is_none() {
                next = strategy.tend(&mut self);
                self.host.report();
            } else if until.is_some_and(|until| until <= Instant::now()) {
                self.kill_all();
                break;
            } else {
                self.admit_last();
                if self.children.iter().all(Option::is_none) {
                    break;
                }
            }
            self.wait(strategy.accepts(), next)?;
            while let Some(signal) = self.signals.as_mut().and_then(SignalQueue::take) {
                if Audit::answers(self.plan.audit, signal, || self.host.shared.snapshot()) {
                    continue;
                }
                match signal {
                    SIGCHLD => self.join(&mut *strategy),
                    // Who drains has no use for new files, and they may have gone with whoever ends it.
                    SIGHUP if until.is_some() => {}
                    SIGHUP => self.reload(!strategy.accepts()),
                    _ if until.is_none() => {
                        until = Some(Instant::now() + self.plan.patience.min(FOR_EVER));
                        self.drain();
                    }
                    _ => {
                        self.kill_all();
                        return Err(ForkEnd::Interrupted);
                    }
                }
            }
        }
        self.host.report();
        let (connections, counts) = (self.killed, self.host.shared.snapshot());
        if connections > 0 {
            Err(Undrained { connections, datagrams: false, working: false, counts: Box::new(counts) }.into())
        } else {
            Ok(counts)
        }
    }

    /// Waits for a signal, for connections in the backlog if asked to, or for the next thing that is due.
    fn wait(&self, accepts: bool, next: Option<Instant>) -> io::Result<()> {
        let mut fds: Vec<_> = self.signals.iter().map(|it| PollFd::new(it, PollFlags::IN)).collect();
        if accepts {
            fds.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        }
        wait_for(&mut fds, next)
    }

    /// Takes note of the children that have ended.
    fn join(&mut self, strategy: &mut dyn Forking) {
        while let Some(slot) = self.ended()
            && let Some((child, exit)) = self.bury(slot)
        {
            if exit == Exit::Exited(0) {
                tracing::debug!("{child} has ended");
            } else {
                self.host.count.children_failed += 1;
                tracing::warn!("{child} {exit}");
            }
            strategy.ended(slot, child.begun().elapsed());
        }
    }

    /// The slot of a child that has ended.
    fn ended(&mut self) -> Option<usize> {
        let pid = child::ended()?;
        let it = self.children.iter().position(|child| child.as_ref().is_some_and(|child| child.is(pid)));
        // One that is not the server's is left to whoever has begun it, and may hide others of ours.
        let ended = |child: &mut Option<Child>| child.as_mut().is_some_and(|child| !child.is_alive());
        it.or_else(|| self.children.iter_mut().position(ended))
    }

    /// Waits for the child of a slot, and gives back what it had: which child, and how it ended.
    fn bury(&mut self, slot: usize) -> Option<(Child, Exit)> {
        let mut child = self.children[slot].take()?;
        let exit = child.join();
        self.lost(slot);
        Some((child, exit))
    }

    /// The connections that the child of a slot could not end itself have failed.
    pub(crate) fn lost(&mut self, slot: usize) {
        let lost = self.ledger.clear(slot) as u64;
        self.host.count.lose(lost);
    }

    /// What SIGHUP is for. Children that accept for themselves have what is reloaded as they were forked.
    fn reload(&self, children_accept: bool) {
        if layer::reload(self.plan.layers.as_deref()) && children_accept {
            self.children.iter().flatten().for_each(Child::reload);
        }
    }

    /// Nobody comes any more, and who is there, or waits at a listener, may finish. Children that accept for themselves
    /// close their listeners when they hear of it, and take who has come since.
    fn drain(&mut self) {
        tracing::info!(open = self.ledger.open(), "draining");
        self.draining = true;
        self.files.clear();
        for listener in self.listeners.drain(..) {
            for taken in accept::last(&mut self.net, &listener) {
                match taken {
                    Taken::One(stream, peer) => self.last.push_back((stream, peer)),
                    Taken::Shed => self.host.count.refuse(Refusal::Descriptors),
                    Taken::Lost | Taken::Empty | Taken::Exhausted => {}
                }
            }
        }
        self.children.iter().flatten().for_each(Child::terminate);
    }

    /// Ends all children at once, and waits for their ends.
    fn kill_all(&mut self) {
        self.killed = self.ledger.open();
        while let Some((stream, _)) = self.last.pop_front() {
            self.refuse(stream, Refusal::Stopped);
        }
        self.children.iter().flatten().for_each(Child::kill);
        (0..self.children.len()).for_each(|slot| _ = self.bury(slot));
    }

    /// Where it listens.
    pub fn places(&self) -> io::Result<Vec<Address>> {
        self.listeners.iter().map(sockets::local_address).collect()
    }
}

/// What a child serves with.
struct Ready {
    shared: Arc<Shared>,
    open: Arc<Open>,
    server: Arc<BlockingServer<WaitingOs>>,
}

/// In a child: says whether it can serve, as a number of errno(3).
fn say(mut parent: PipeWriter, error: Option<&io::Error>) {
    let number = error.map_or(0, |error| error.raw_os_error().unwrap_or(Errno::AGAIN.raw_os_error()));
    // A parent that is gone ends the child in another way.
    let _ = parent.write_all(&number.to_ne_bytes());
}

/// What a child has said, or that it cannot any more: its end of the pipe was a copy of the parent's.
fn heard((mut child, parent): (PipeReader, PipeWriter)) -> io::Result<()> {
    drop(parent);
    let mut number = [0; 4];
    match child.read_exact(&mut number).map(|()| i32::from_ne_bytes(number)) {
        Ok(0) => Ok(()),
        Ok(number) => Err(io::Error::from_raw_os_error(number)),
        Err(_) => Err(io::Error::other("it ended at once")),
    }
}

/// In a child: does what its parent wants; and ends it when the parent is gone and the time to drain is over, since
/// nobody else would.
fn obey(
    mut signals: SignalQueue,
    server: &BlockingServer<WaitingOs>,
    layers: Option<&dyn Layers>,
    parent: Pid,
    patience: Duration,
) -> io::Result<()> {
    let mut until = None;
    while until.is_none_or(|until| Instant::now() < until) {
        wait_for(&mut [PollFd::new(&signals, PollFlags::IN)], until)?;
        while let Some(signal) = signals.take() {
            match signal {
                SIGTERM => {
                    server.raise(Order::Drain);
                    if child::is_orphan_of(parent) {
                        until.get_or_insert_with(|| Instant::now() + patience.min(FOR_EVER));
                    }
                }
                // What comes of it the parent has said.
                SIGHUP => _ = layers.map(Layers::reload),
                _ => {}
            }
        }
    }
    server.raise(Order::Stop);
    // Who is not at work resets its connections now, and the child ends by itself.
    thread::sleep(REST);
    child::exit(1)
}

impl Drop for ParentProcess {
    /// However it came to this: no child is left.
    fn drop(&mut self) {
        self.kill_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_child_is_waited_for_until_it_has_spoken_or_ended() {
        let told = |speak: fn(PipeWriter)| {
            let (parent, child) = io::pipe().unwrap();
            speak(child.try_clone().unwrap());
            let (tell, told) = mpsc::channel();
            thread::spawn(move || tell.send(heard((parent, child))));
            told.recv_timeout(Duration::from_secs(10)).expect("its end is not noticed")
        };
        assert!(told(|child| say(child, None)).is_ok() && told(drop).is_err());
        let error = told(|child| say(child, Some(&Errno::NOMEM.into()))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOMEM.raw_os_error()));
    }
}
