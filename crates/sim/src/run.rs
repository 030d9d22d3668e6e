//! One run: nodes take turns and time passes until everything is over, then the accounts are checked.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration, time::SystemTime};

use roadstead_drivers::{
    accept::Listener,
    orders::{Order, Orders},
    proactor::Proactor,
    reactor::{Reactor, workers::Dispatcher},
};
use roadstead_proto::{
    budget::Budget,
    guard,
    host::{DAWN, Host, Shared},
    layer::Layers,
    queue::Jobs,
    ticket::WakeQueue,
};

use crate::{
    contrary::Contrary,
    dice::Dice,
    faults::Faults,
    interleaved::{Interleaved, SimWorker},
    jobs::{Backlog, Shuffled},
    others::Others,
    plan::{MakeClient, Plan, Seat, Server, Stop},
    report::{ConnectionReport, Failure, Flow, Report, Why},
    sockets::{ListenSocket, Shared as SharedWorld, Sockets, Watcher},
    tenant::{Resident, Tenant},
    trace::What,
    turns::{Loop, Turns},
    wire::Wire,
    world::{Clock, Event, World},
};

/// Turns without time passing after which something must be going in circles.
const TURNS_AT_ONCE: u32 = 100_000;
/// The longest, in virtual time, that the nodes take to end when they drain and all connections are closed.
const DRAIN: Duration = Duration::from_secs(3600);

/// The sockets and the poller of a node.
fn sockets(world: &SharedWorld, node: usize, others: Others) -> (Sockets, Watcher) {
    let clock = world.borrow().clock.clone();
    let watcher = Watcher { world: Rc::clone(world), node, others: others.clone() };
    (Sockets { world: Rc::clone(world), clock, node, others }, watcher)
}

/// One simulated machine: a real loop over simulated sockets.
struct Node {
    /// Gone once the node has drained or stopped, with all that it held.
    turns: Option<Box<dyn Turns>>,
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    wake_queue: Arc<WakeQueue>,
    backlogs: Vec<Backlog>,
    paused: Duration,
    resident: Option<Box<dyn Resident>>,
}

impl Node {
    /// Whether a job waits that will be run.
    fn has_jobs(&self) -> bool {
        self.turns.is_some() && self.backlogs.iter().any(|backlog| !backlog.is_empty())
    }

    /// Whether it does nothing more on its own account. The connections of a resident stay open until it is drained.
    fn is_done(&self) -> bool {
        match self.resident() {
            Some(resident) => resident.held().iter().all(|(_, left)| *left == 0),
            None => self.shared.gate.open() == 0 && !self.has_jobs(),
        }
    }

    /// Who lives here.
    fn resident(&self) -> Option<&dyn Resident> {
        self.resident.as_deref().filter(|_| self.turns.is_some())
    }
}

/// A run that is under way. The clients share the last node.
pub(crate) struct Run {
    seed: u64,
    world: SharedWorld,
    dice: Dice,
    faults: Faults,
    nodes: Vec<Node>,
    clients: Vec<Option<(SocketAddr, MakeClient)>>,
    layers: Option<(Arc<dyn Layers>, Arc<dyn Layers>)>,
    undialled: usize,
    turns: u32,
}

impl Run {
    pub(crate) fn new(plan: Plan) -> Result<Self, Failure> {
        let Plan { seed, mut dice, faults, budget, servers, clients, layers, .. } = plan;
        let world = Rc::new(RefCell::new(World::new(faults, dice.fork(), plan.cuts, plan.notes)));
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
        guard::take();
        for server in servers {
            let delay = plan.slow.get(&server.address).copied();
            run.add_node(budget.clone(), Some(server), delay)?;
        }
        run.add_node(budget.connections(usize::MAX).jobs(usize::MAX), None, None)?;
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

    fn add_node(
        &mut self,
        budget: Budget,
        server: Option<Server>,
        delay: Option<Duration>,
    ) -> Result<(), Failure> {
        let number = self.nodes.len();
        let kind = Loop::of(self.seed, number);
        self.world.borrow_mut().add_node(delay, kind == Loop::Workers);
        let clock = self.world.borrow().clock.clone();
        let (address, listener, seat) = match server {
            Some(Server { address, listener, seat }) => (Some(address), Some(listener), seat),
            None => (None, None, None),
        };
        let shared =
            seat.as_ref().map_or_else(|| Shared::new(budget), |seat| Arc::clone(&seat.tenant.shared));
        let mut backlogs = vec![Backlog::default()];
        let mut host = self.host(&shared, &clock, &backlogs[0], self.faults.delay);
        let (mut orders, mut paused, mut its) = (Arc::default(), Duration::ZERO, None);
        if let Some(Seat { tenant: Tenant { resident, attended, from, .. }, orders: given, wake_queue }) =
            seat
        {
            (orders, paused, its) = (given, from, Some(resident));
            host.wake_queue = wake_queue;
            orders.attend(attended, &host.wake_queue);
            if from > Duration::ZERO {
                self.world.borrow_mut().schedule(from, Event::Start(number));
            }
        }
        let wake_queue = Arc::clone(&host.wake_queue);
        let layers = self.layers.as_ref().map(|(servers, _)| Arc::clone(servers));
        let listeners = address.zip(listener).map(|(address, make)| {
            let listener = self.world.borrow_mut().listen(number, address, paused.is_zero());
            let socket = ListenSocket { world: Rc::clone(&self.world), number: listener };
            make(socket, Arc::clone(&shared), layers)
        });
        if kind == Loop::Workers {
            backlogs.resize_with(2 + self.dice.below(3), Backlog::default);
        }
        let turns = self.turns(kind, number, host, &orders, listeners.into_iter().collect(), &backlogs[1..]);
        let turns = Some(turns.map_err(|error| self.failure(Why::Loop(error)))?);
        self.nodes.push(Node { turns, shared, orders, wake_queue, backlogs, paused, resident: its });
        Ok(())
    }

    /// The loop of a node. Where it has workers, there is one for each of `backlogs`.
    fn turns(
        &mut self,
        kind: Loop,
        number: usize,
        host: Host,
        orders: &Arc<Orders>,
        listeners: Vec<Listener<ListenSocket>>,
        backlogs: &[Backlog],
    ) -> io::Result<Box<dyn Turns>> {
        let (sockets, watcher) = sockets(&self.world, number, Others::default());
        match kind {
            Loop::Reactor => {
                Ok(Box::new(Reactor::new(sockets, watcher, host, Arc::clone(orders), listeners)?))
            }
            Loop::Proactor => {
                let (listening, openers) =
                    listeners.into_iter().map(|listener| (listener.socket, listener.open)).unzip();
                let dice = Dice::new(self.seed ^ (number as u64) << 32);
                let completions = Contrary::new(sockets, watcher, listening, dice, self.faults.split);
                Ok(Box::new(Proactor::new(completions, host, Arc::clone(orders), openers)))
            }
            Loop::Workers => self.interleaved(number, host, orders, listeners, backlogs),
        }
    }

    /// A dispatcher with a worker for each of `backlogs`. Its jobs come up at once: a worker sleeps when it has none.
    fn interleaved(
        &mut self,
        number: usize,
        host: Host,
        orders: &Arc<Orders>,
        listeners: Vec<Listener<ListenSocket>>,
        backlogs: &[Backlog],
    ) -> io::Result<Box<dyn Turns>> {
        let (shared, others) = (Arc::clone(&host.shared), Others::default());
        // The I/O thread has the connection to itself while it registers it.
        let (_, quietly) = sockets(&self.world, number, Others::default());
        let (net, watcher) = sockets(&self.world, number, others.clone());
        let clock = net.clock.clone();
        let dispatcher = Dispatcher::new(net, quietly.clone(), quietly, host, Arc::clone(orders), listeners)?;
        let workers = backlogs.iter().map(|backlog| {
            let host = self.host(&shared, &clock, backlog, (Duration::ZERO, Duration::ZERO));
            let (net, _) = sockets(&self.world, number, others.clone());
            SimWorker::new(dispatcher.worker(net, watcher.clone(), host))
        });
        let workers = workers.collect();
        let (world, dice) = (Rc::clone(&self.world), self.dice.fork());
        let interleaved = Rc::new(Interleaved::new(world, clock, number, dice, dispatcher, workers));
        others.are(&interleaved);
        Ok(Box::new(interleaved))
    }

    fn host(
        &mut self,
        shared: &Arc<Shared>,
        clock: &Clock,
        backlog: &Backlog,
        delay: (Duration, Duration),
    ) -> Host {
        let jobs = Shuffled {
            clock: clock.clone(),
            dice: self.dice.fork(),
            delay,
            backlog: backlog.clone(),
            tasks: Vec::new(),
        };
        let clock = clock.clone();
        let wall = move || SystemTime::UNIX_EPOCH + DAWN + clock.now();
        Host::new(
            Arc::clone(shared),
            self.dice.random(self.faults.unseeded),
            wall,
            Jobs::Inline(Box::new(jobs)),
        )
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
        let residents = self.nodes.iter().filter(|node| node.orders.order() != Order::Stop);
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
        let at = if self.world.borrow().has_ready(number) {
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
                let node = &self.nodes[number];
                node.orders.stop(&node.wake_queue);
                let now = self.now();
                self.world.borrow().trace.note(now, (number, 0), What::Stop);
            }
            other => self.world.borrow_mut().happen(other),
        }
    }

    fn dial(&mut self, client: usize) {
        self.undialled -= 1;
        let node = &self.nodes[self.nodes.len() - 1];
        if let Some((address, make)) = self.clients[client].take()
            && let Ok(permit) = node.shared.gate.admit(None)
        {
            let layers = self.layers.as_ref().map(|(_, clients)| &**clients);
            let endpoint = make(Arc::clone(&node.shared), permit, layers);
            node.orders.connect(address, endpoint, &node.wake_queue);
        }
    }

    fn drain(&mut self, number: usize) {
        let now = self.now();
        let node = &self.nodes[number];
        node.orders.drain(&node.wake_queue);
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
        address: wire.address,
        opened: wire.opened,
        closed: [wire.sides[0].closed, wire.sides[1].closed],
        up: flow(1),
        down: flow(0),
        cut: wire.cut,
    }
}
