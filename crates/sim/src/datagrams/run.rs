//! One run: nodes take turns and time passes until everything is over, then the accounts are checked.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use roadstead_drivers::{
    datagrams::{DatagramLoop, DatagramNet},
    net::Failure,
    orders::Orders,
    reactor::Readiness,
};
use roadstead_proto::{
    datagrams::{Batch, Outbox},
    guard,
    host::{DAWN, Host, Shared},
    queue::{Jobs, Queue},
    ticket::{Token, WakeQueue},
};

use super::{
    faults::DatagramFaults,
    network::Network,
    plan::{Forged, Plan, Seat},
    report::{DatagramFailure, DatagramReport},
};
use crate::{dice::Dice, report::Why};

/// Turns without time passing after which something must be going in circles.
const TURNS_AT_ONCE: u32 = 100_000;
/// The longest, in virtual time, that the nodes take to end when they drain.
const DRAIN: Duration = Duration::from_secs(3600);

/// The sockets of one node: there is one.
struct Sockets {
    network: Rc<RefCell<Network>>,
    number: usize,
}

/// Closed when dropped.
struct Socket {
    network: Rc<RefCell<Network>>,
    number: usize,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.borrow_mut().close(self.number);
    }
}

impl DatagramNet for Sockets {
    type Socket = Socket;

    fn classify(error: &io::Error) -> Failure {
        Failure::inside(error)
    }

    fn now(&self) -> Duration {
        self.network.borrow().clock.now()
    }

    fn watch(&mut self, socket: &Socket, token: Token) -> io::Result<()> {
        self.network.borrow_mut().watch(socket.number, token);
        Ok(())
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, _: Option<Duration>) -> io::Result<()> {
        self.network.borrow_mut().wait(self.number, ready);
        Ok(())
    }

    fn receive(&mut self, socket: &Socket, batch: &mut Batch) -> io::Result<()> {
        self.network.borrow_mut().receive(socket.number, batch)
    }

    fn send(&mut self, socket: &Socket, outbox: &Outbox) -> io::Result<usize> {
        self.network.borrow_mut().send(socket.number, outbox)
    }

    fn unreachable(&mut self, socket: &Socket) -> Option<SocketAddr> {
        self.network.borrow_mut().unreachable(socket.number)
    }

    fn close(&mut self, socket: Socket) {
        drop(socket);
    }
}

struct Node {
    /// None: it has ended.
    turns: Option<DatagramLoop<Sockets>>,
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    wake_queue: Arc<WakeQueue>,
    is_client: bool,
    paused: Duration,
}

/// A run that is under way.
pub(super) struct Run {
    seed: u64,
    dice: Dice,
    faults: DatagramFaults,
    network: Rc<RefCell<Network>>,
    nodes: Vec<Node>,
    drain_at: Option<Duration>,
    turns: u32,
}

impl Run {
    pub(super) fn new(plan: Plan) -> Result<Self, DatagramFailure> {
        let Plan { seed, mut dice, faults, budget, nodes, forged, drain_after } = plan;
        let mut network = Network::new(dice.fork(), faults);
        for Forged { after, from, to, bytes } in forged {
            network.forge(after, from, to, bytes);
        }
        let network = Rc::new(RefCell::new(network));
        let mut run =
            Self { seed, dice, faults, network, nodes: Vec::new(), drain_at: drain_after, turns: 0 };
        for seat in nodes {
            let node = run.make(seat, Shared::new(budget.clone()));
            let node = node.map_err(|error| run.failure(Why::Loop(error)))?;
            run.nodes.push(node);
        }
        Ok(run)
    }

    fn make(&mut self, seat: Seat, shared: Arc<Shared>) -> io::Result<Node> {
        let Seat { address, make, is_client } = seat;
        let number = self.network.borrow_mut().bind(address);
        let network = Rc::clone(&self.network);
        let clock = network.borrow().clock.clone();
        let wall = move || SystemTime::UNIX_EPOCH + DAWN + clock.now();
        let jobs = Jobs::Inline(Queue::default().discipline());
        let host = Host::new(Arc::clone(&shared), self.dice.random(0.0), wall, jobs);
        let (orders, wake_queue) = (Arc::<Orders>::default(), Arc::clone(host.wake_queue()));
        let socket = Socket { network: Rc::clone(&network), number };
        let sockets = vec![(socket, make(&shared))];
        let turns = DatagramLoop::new(Sockets { network, number }, host, Arc::clone(&orders), sockets)?;
        Ok(Node { turns: Some(turns), shared, orders, wake_queue, is_client, paused: Duration::ZERO })
    }

    /// Lets everything happen, drains what is left, and checks the accounts.
    pub(super) fn finish(mut self, limit: Duration) -> Result<DatagramReport, DatagramFailure> {
        while !self.is_over() {
            if !self.advance(limit)? {
                let open = self.nodes.iter().filter(|node| node.is_client && node.turns.is_some()).count();
                if open == 0 && self.network.borrow().next_time().is_none() {
                    break;
                }
                let now = self.now();
                return Err(self.failure(Why::Hung { open, now }));
            }
        }
        self.drain();
        let until = self.now().saturating_add(DRAIN);
        while self.nodes.iter().any(|node| node.turns.is_some()) {
            if !self.advance(until)? {
                return Err(self.failure(Why::Undrained));
            }
        }
        self.expect_none("remembered peers", |shared| shared.gate.open())?;
        self.expect_none("buffered bytes", |shared| shared.memory.used())?;
        self.expect_none("outstanding tickets", |shared| shared.jobs.used())?;
        self.expect_none("detached jobs", |shared| shared.detached.used())?;
        let trace = self.network.borrow().trace.clone();
        let stats = self.nodes.iter().map(|node| node.shared.snapshot()).collect();
        Ok(DatagramReport { seed: self.seed, faults: self.faults, took: self.now(), stats, trace })
    }

    fn expect_none(
        &self,
        what: &'static str,
        count: impl Fn(&Shared) -> usize,
    ) -> Result<(), DatagramFailure> {
        match self.nodes.iter().map(|node| count(&node.shared)).sum() {
            0 => Ok(()),
            left => Err(self.failure(Why::Leaked { what, left })),
        }
    }

    fn now(&self) -> Duration {
        self.network.borrow().clock.now()
    }

    /// Whether the clients have finished and nothing flies; nodes that still wait do so for their deadlines only.
    fn is_over(&mut self) -> bool {
        let now = self.now();
        self.network.borrow().next_time().is_none()
            && self.nodes.iter().all(|node| !node.is_client || node.turns.is_none())
            && (0..self.nodes.len()).all(|number| self.wakes(number, now).is_none_or(|at| at > now))
    }

    /// Lets one thing happen. False when nothing would, or not before `limit`.
    fn advance(&mut self, limit: Duration) -> Result<bool, DatagramFailure> {
        if self.network.borrow_mut().advance() {
            return Ok(true);
        }
        let now = self.now();
        if self.drain_at.is_some_and(|at| at <= now) {
            self.drain_at = None;
            self.drain();
            return Ok(true);
        }
        let (mut ready, mut next) = (Vec::new(), self.network.borrow().next_time());
        next = [next, self.drain_at].into_iter().flatten().min();
        for number in 0..self.nodes.len() {
            match self.wakes(number, now) {
                Some(at) if at <= now => ready.push(number),
                at => next = [next, at].into_iter().flatten().min(),
            }
        }
        if let Some(&number) = ready.get(self.dice.below(ready.len().max(1))) {
            self.turns += 1;
            if self.turns > TURNS_AT_ONCE {
                return Err(self.failure(Why::Livelock));
            }
            return self.turn(number, now).map(|()| true);
        }
        let Some(next) = next.filter(|next| *next <= limit) else { return Ok(false) };
        self.turns = 0;
        self.network.borrow().clock.set(next);
        Ok(true)
    }

    /// When a node's wait would be over, as far as is known.
    fn wakes(&mut self, number: usize, now: Duration) -> Option<Duration> {
        let node = &mut self.nodes[number];
        let turns = node.turns.as_mut()?;
        let ready = self.network.borrow().is_ready(number);
        let at = if ready { Some(now) } else { turns.timeout().map(|wait| now.saturating_add(wait)) };
        at.map(|at| at.max(node.paused))
    }

    fn turn(&mut self, number: usize, now: Duration) -> Result<(), DatagramFailure> {
        if self.dice.chance(self.faults.pause) {
            self.nodes[number].paused = now + self.dice.time(self.faults.delay);
            return Ok(());
        }
        let Some(turns) = self.nodes[number].turns.as_mut() else { return Ok(()) };
        let turned = turns.turn();
        if let Some(words) = guard::take() {
            return Err(self.failure(Why::Panicked(words)));
        }
        match turned {
            Ok(true) => {}
            Ok(false) => self.nodes[number].turns = None,
            Err(error) => return Err(self.failure(Why::Loop(error))),
        }
        Ok(())
    }

    fn drain(&mut self) {
        for node in &self.nodes {
            node.orders.drain(&node.wake_queue);
        }
    }

    fn failure(&self, why: Why) -> DatagramFailure {
        DatagramFailure { seed: self.seed, why, trace: self.network.borrow().trace.clone() }
    }
}
