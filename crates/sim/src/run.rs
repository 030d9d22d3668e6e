//! One run: nodes take turns and time passes until everything is over, then the accounts are checked.

use std::{io, sync::Arc, time::Duration};

use roadstead_drivers::orders::Order;
use roadstead_proto::{guard, host::Shared, layer::Layers};

use crate::{
    dice::Dice,
    faults::Faults,
    jobs::Backlog,
    node::Node,
    plan::{MakeClient, Plan, Stop},
    report::{ConnectionReport, Failure, Flow, Report, Why},
    sockets::Shared as SharedWorld,
    trace::What,
    wire::Wire,
    world::Event,
};

/// Turns without time passing after which something must be going in circles.
const TURNS_AT_ONCE: u32 = 100_000;
/// The longest, in virtual time, that the nodes take to end when they drain and all connections are closed.
const DRAIN: Duration = Duration::from_secs(3600);

/// A run that is under way. The clients share the last node.
pub(crate) struct Run {
    seed: u64,
    world: SharedWorld,
    dice: Dice,
    faults: Faults,
    nodes: Vec<Node>,
    clients: Vec<Option<MakeClient>>,
    layers: Option<(Arc<dyn Layers>, Arc<dyn Layers>)>,
    undialled: usize,
    turns: u32,
}

impl Run {
    /// Of what was made of a plan.
    pub(crate) fn new(plan: Plan, world: SharedWorld, nodes: io::Result<Vec<Node>>) -> Result<Self, Failure> {
        let Plan { seed, dice, faults, clients, layers, .. } = plan;
        let mut run = Self {
            seed,
            world,
            dice,
            faults,
            nodes: Vec::new(),
            layers,
            undialled: clients.len(),
            clients: clients.into_iter().map(Some).collect(),
            turns: 0,
        };
        run.nodes = nodes.map_err(|error| run.failure(Why::Loop(error)))?;
        let mut world = run.world.borrow_mut();
        for client in 0..run.clients.len() {
            let at = run.dice.time((Duration::ZERO, faults.delay.1));
            world.schedule(at, Event::Dial(client));
        }
        if let Some(at) = plan.drain_after {
            world.schedule(at, Event::Drain);
        }
        for Stop { node, at } in plan.stops {
            world.schedule(at, Event::Stop(node));
        }
        drop(world);
        Ok(run)
    }

    /// Lets everything happen, drains what is left, and checks the accounts.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Report, Failure> {
        while !self.is_over() {
            if !self.advance(limit)? {
                self.expect_none_stranded()?;
                let open = self.world.borrow().open();
                return Err(self.failure(Why::Hung { open, now: self.now() }));
            }
        }
        // A ticket that outlives its connection is nobody's, even if the service would drop it with itself.
        self.expect_none("outstanding tickets", |shared| shared.jobs.used())?;
        self.expect_none("detached jobs", |shared| shared.detached.used())?;
        for number in 0..self.nodes.len() {
            self.drain(number);
        }
        let until = self.now().saturating_add(DRAIN);
        while self.nodes.iter().any(|node| node.turns.is_some()) {
            if !self.advance(until)? {
                return Err(self.failure(Why::Undrained));
            }
        }
        self.expect_none("open connections", |shared| shared.gate.open())?;
        self.expect_none("addresses", |shared| shared.gate.addresses())?;
        self.expect_none("buffered bytes", |shared| shared.memory.used())?;
        self.expect_none("outstanding tickets", |shared| shared.jobs.used())?;
        self.expect_none("detached jobs", |shared| shared.detached.used())?;
        self.expect_none_held()?;
        Ok(self.report())
    }

    /// What residents hold although everything is over. One that was stopped has kept what it had, as a process does
    /// that ends.
    fn expect_none_held(&self) -> Result<(), Failure> {
        let residents = self.nodes.iter().filter(|node| node.order() != Order::Stop);
        self.expect_none_of(residents.filter_map(|node| Some(node.resident.as_ref()?.held())).flatten())
    }

    /// What residents would hold for ever.
    fn expect_none_stranded(&self) -> Result<(), Failure> {
        self.expect_none_of(self.nodes.iter().filter_map(|node| node.resident()?.stranded()))
    }

    /// Sums up by name what is left, and fails with the first name of which anything is.
    fn expect_none_of(&self, left: impl Iterator<Item = (&'static str, usize)>) -> Result<(), Failure> {
        let left: Vec<_> = left.filter(|(_, left)| *left > 0).collect();
        match left.first() {
            None => Ok(()),
            Some(&(what, _)) => {
                let left = left.iter().filter(|(other, _)| *other == what).map(|(_, left)| left).sum();
                Err(self.failure(Why::Leaked { what, left }))
            }
        }
    }

    fn expect_none(&self, what: &'static str, count: impl Fn(&Shared) -> usize) -> Result<(), Failure> {
        match self.nodes.iter().map(|node| count(&node.shared)).sum() {
            0 => Ok(()),
            left => Err(self.failure(Why::Leaked { what, left })),
        }
    }

    fn now(&self) -> Duration {
        self.world.borrow().clock.now()
    }

    /// Whether nothing can happen any more except for deadlines of what is gone.
    fn is_over(&self) -> bool {
        self.undialled == 0
            && self.nodes.iter().all(Node::is_done)
            && self.world.borrow().is_quiet_but_for(|node| self.nodes[node].resident().is_some())
    }

    /// Lets one thing happen. False when nothing would, or not before `limit`.
    fn advance(&mut self, limit: Duration) -> Result<bool, Failure> {
        let event = self.world.borrow_mut().due();
        if let Some(event) = event {
            self.happen(event);
            return Ok(true);
        }
        let now = self.now();
        let (mut ready, mut next) = (Vec::new(), self.world.borrow().next_time());
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
        let Some(next) = next.filter(|next| *next <= limit) else {
            return Ok(false);
        };
        self.turns = 0;
        self.world.borrow().clock.set(next);
        Ok(true)
    }

    /// When a node's wait would be over, as far as is known.
    fn wakes(&mut self, number: usize, now: Duration) -> Option<Duration> {
        let node = &mut self.nodes[number];
        let turns = node.turns.as_mut()?;
        let at = if node.pollers.iter().any(|&poller| self.world.borrow().has_ready(poller)) {
            Some(now)
        } else {
            let deadline = turns.timeout().map(|timeout| now.saturating_add(timeout));
            node.backlogs.iter().filter_map(Backlog::next).chain(deadline).min()
        };
        at.map(|at| at.max(node.paused))
    }

    fn turn(&mut self, number: usize, now: Duration) -> Result<(), Failure> {
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

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial(client) => self.dial(client),
            Event::Drain => {
                for number in 0..self.nodes.len() - 1 {
                    // What a server that drains still waits for may come by way of a resident, such as an exchange.
                    if self.nodes[number].resident.is_none() {
                        self.drain(number);
                    }
                }
            }
            Event::Stop(number) => {
                self.nodes[number].stop();
                let now = self.now();
                self.world.borrow().trace.note(now, (number, 0), What::Stop);
            }
            other => self.world.borrow_mut().happen(other),
        }
    }

    fn dial(&mut self, client: usize) {
        self.undialled -= 1;
        let node = &self.nodes[self.nodes.len() - 1];
        if let Some(make) = self.clients[client].take()
            && let Ok(permit) = node.shared.gate.admit(None)
        {
            let layers = self.layers.as_ref().map(|(_, clients)| &**clients);
            let endpoint = make(Arc::clone(&node.shared), permit, layers);
            let (orders, wake_queue) = &node.loops[client % node.loops.len()];
            orders.connect(endpoint, wake_queue);
        }
    }

    fn drain(&mut self, number: usize) {
        let now = self.now();
        self.nodes[number].drain();
        self.world.borrow().trace.note(now, (number, 0), What::Drain);
    }

    fn failure(&self, why: Why) -> Failure {
        Failure { seed: self.seed, why, trace: self.world.borrow().trace.so_far() }
    }

    fn report(self) -> Report {
        let world = self.world.borrow();
        let connections = world.wires.iter().map(report_of).collect();
        Report {
            seed: self.seed,
            faults: self.faults,
            took: world.clock.now(),
            connections,
            stats: self.nodes.iter().map(|node| node.shared.snapshot()).collect(),
            trace: world.trace.so_far(),
        }
    }
}

/// A connection's fate.
fn report_of(wire: &Wire) -> ConnectionReport {
    let flow = |side: usize| {
        let pipe = &wire.pipes[side];
        Flow { sent: pipe.sent, arrived: pipe.arrived, received: pipe.received }
    };
    ConnectionReport {
        address: wire.address.clone(),
        opened: wire.opened,
        closed: [wire.sides[0].closed, wire.sides[1].closed],
        up: flow(1),
        down: flow(0),
        cut: wire.cut,
    }
}
