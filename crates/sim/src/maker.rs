//! How simulated machines are made: of one real loop over simulated sockets, of several, or of one with workers.

use std::{cell::RefCell, io, iter, mem, rc::Rc, sync::Arc, time::Duration, time::SystemTime};

use roadstead_drivers::{
    accept::Listener,
    handover::{Handover, Inbox, Other},
    orders::Orders,
    proactor::Proactor,
    reactor::{Reactor, workers::Worker},
};
use roadstead_proto::{
    budget::Budget,
    host::{DAWN, Host, Shared},
    layer::Layers,
    queue::{Jobs, SharedQueue},
};

use crate::{
    contrary::Contrary,
    dice::Dice,
    fate::End,
    faults::Faults,
    interleaved::{Interleaved, SimWorker},
    jobs::{Backlog, Shuffled},
    node::Node,
    others::Others,
    plan::{Plan, Seat, Server},
    several::{One, Several},
    sockets::{ListenSocket, Shared as SharedWorld, Sockets, Watcher},
    tenant::Tenant,
    turns::{Loop, Turns},
    world::{Event, World},
};

/// One in so many times another thread is faster at what they share.
const OVERTAKEN: usize = 3;

/// One loop that is to be made.
struct Part {
    poller: usize,
    host: Host,
    orders: Arc<Orders>,
    listeners: Vec<Listener<ListenSocket>>,
    handover: Handover<End>,
}

/// The world of a plan, and its nodes: those of its servers, and one that all clients share.
pub(crate) fn make(plan: &mut Plan) -> (SharedWorld, io::Result<Vec<Node>>) {
    let (cuts, notes) = (mem::take(&mut plan.cuts), plan.notes.clone());
    let world = Rc::new(RefCell::new(World::new(plan.faults, plan.dice.fork(), cuts, notes)));
    let clients = plan.budget.clone().connections(usize::MAX).jobs(usize::MAX);
    let servers = mem::take(&mut plan.servers).into_iter();
    let each = servers.map(|server| (plan.budget.clone(), Some(server))).chain([(clients, None)]);
    let layers = plan.layers.as_ref().map(|(servers, _)| Arc::clone(servers));
    let nodes = each.enumerate().map(|(number, (budget, server))| {
        let delay = server.as_ref().and_then(|server| plan.slow.get(&server.address).copied());
        let (seed, faults, workers) = (plan.seed, plan.faults, plan.workers);
        let maker = Maker { seed, number, world: &world, dice: &mut plan.dice, faults, workers };
        maker.make(budget, server, delay, layers.clone())
    });
    let nodes = nodes.collect();
    (world, nodes)
}

/// What makes a node.
struct Maker<'a> {
    seed: u64,
    /// The node's.
    number: usize,
    world: &'a SharedWorld,
    dice: &'a mut Dice,
    faults: Faults,
    workers: usize,
}

impl Maker<'_> {
    fn make(
        mut self,
        budget: Budget,
        server: Option<Server>,
        delay: Option<Duration>,
        layers: Option<Arc<dyn Layers>>,
    ) -> io::Result<Node> {
        self.world.borrow_mut().add_node(delay);
        let (address, listener, seat) = match server {
            Some(Server { address, listener, seat }) => (Some(address), Some(listener), seat),
            None => (None, None, None),
        };
        let shared =
            seat.as_ref().map_or_else(|| Shared::new(budget), |seat| Arc::clone(&seat.tenant.shared));
        let kind = Loop::of(self.seed, self.number);
        // Whoever lives on a node has chosen how many of the loops that it may have.
        let count = seat.as_ref().map_or_else(|| kind.count(self.seed, self.number), |seat| seat.loops.len());
        let backlogs: Vec<_> = (0..count).map(|_| Backlog::default()).collect();
        let mut hosts = self.hosts(&shared, &backlogs);
        let (mut given, mut paused, mut resident) = (Vec::new(), Duration::ZERO, None);
        if let Some(Seat { tenant: Tenant { resident: its, attended, from, .. }, loops }) = seat {
            (paused, resident) = (from, Some(its));
            for ((host, attended), (orders, wake_queue)) in hosts.iter_mut().zip(attended).zip(loops) {
                orders.attend(attended, &wake_queue);
                host.wake_queue = wake_queue;
                given.push(orders);
            }
            if from > Duration::ZERO {
                self.world.borrow_mut().schedule(from, Event::Start(self.number));
            }
        }
        let listeners = address.zip(listener).map(|(address, make)| {
            let listener = self.world.borrow_mut().listen(self.number, address, paused.is_zero());
            let socket = ListenSocket { world: Rc::clone(self.world), number: listener };
            make(socket, Arc::clone(&shared), layers)
        });
        let parts = self.parts(kind, hosts, given, listeners.into_iter().collect());
        let loops = parts.iter().map(|part| (Arc::clone(&part.orders), Arc::clone(&part.host.wake_queue)));
        let (loops, pollers) = (loops.collect(), parts.iter().map(|part| part.poller).collect());
        let mut node = Node { turns: None, shared, loops, pollers, backlogs, paused, resident };
        node.turns = Some(self.turns(kind, parts, &mut node.backlogs)?);
        Ok(node)
    }

    /// The parts of its loops: the first listens, and hands connections to the others.
    fn parts(
        &mut self,
        kind: Loop,
        hosts: Vec<Host>,
        orders: Vec<Arc<Orders>>,
        listeners: Vec<Listener<ListenSocket>>,
    ) -> Vec<Part> {
        let mut orders = orders.into_iter();
        let orders = iter::from_fn(|| Some(orders.next().unwrap_or_default()));
        let all = hosts.into_iter().zip(orders);
        let all: Vec<_> = all.map(|(host, orders)| (host, orders, Arc::<Inbox<End>>::default())).collect();
        let others = all.iter().skip(1).map(|(host, _, inbox)| Other {
            inbox: Arc::clone(inbox),
            wake_queue: Arc::clone(&host.wake_queue),
        });
        let (mut others, mut listeners) = (Some(others.collect()), Some(listeners));
        let parts = all.into_iter().map(|(host, orders, inbox)| Part {
            poller: self.world.borrow_mut().add_poller(kind == Loop::Workers),
            host,
            orders,
            listeners: listeners.take().unwrap_or_default(),
            handover: match others.take() {
                Some(others) => Handover::of_listener(others),
                None => Handover::new(inbox, Vec::new()),
            },
        });
        parts.collect()
    }

    /// What takes the node's turns.
    fn turns(
        &mut self,
        kind: Loop,
        mut parts: Vec<Part>,
        backlogs: &mut Vec<Backlog>,
    ) -> io::Result<Box<dyn Turns>> {
        if kind == Loop::Workers {
            backlogs.push(Backlog::default());
            return self.interleaved(parts.remove(0), &backlogs[1]);
        }
        let mut loops = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            let poller = part.poller;
            loops.push(One { turns: self.one(kind, number, part)?, poller });
        }
        if loops.len() == 1 {
            return Ok(loops.remove(0).turns);
        }
        Ok(Box::new(Several::new(Rc::clone(self.world), self.dice.fork(), loops)))
    }

    /// One loop of one thread.
    fn one(&mut self, kind: Loop, number: usize, part: Part) -> io::Result<Box<dyn Turns>> {
        let Part { poller, host, orders, listeners, handover } = part;
        let (sockets, watcher) = self.sockets(poller, Others::default());
        if kind == Loop::Reactor {
            let reactor = Reactor::new(sockets, watcher, host, orders, listeners)?;
            return Ok(Box::new(reactor.one_of(handover)));
        }
        let (listening, openers) =
            listeners.into_iter().map(|listener| (listener.socket, listener.open)).unzip();
        let dice = Dice::new(self.seed ^ (self.number as u64) << 32 ^ (number as u64) << 48);
        let completions = Contrary::new(sockets, watcher, listening, dice, self.faults.split);
        Ok(Box::new(Proactor::new(completions, host, orders, openers).one_of(handover)))
    }

    /// A loop with workers, whose jobs are in `backlog`.
    fn interleaved(&mut self, part: Part, backlog: &Backlog) -> io::Result<Box<dyn Turns>> {
        let Part { poller, host, orders, listeners, .. } = part;
        let (shared, others) = (Arc::clone(&host.shared), Others::default());
        let line = SharedQueue::new(self.queue(backlog));
        let (net, watcher) = self.sockets(poller, others.clone());
        let clock = net.clock.clone();
        let reactor = Reactor::with_workers(net, watcher, host, orders, listeners, Arc::clone(&line))?;
        let workers = (0..1 + self.dice.below(3)).map(|_| {
            let host = self.host(&shared, line.jobs(0));
            let (net, _) = self.sockets(poller, others.clone());
            SimWorker::new(Worker::new(net, host, &line))
        });
        let workers = (Arc::clone(&line), workers.collect());
        let (world, dice) = (Rc::clone(self.world), self.dice.fork());
        let interleaved = Rc::new(Interleaved::new(world, clock, poller, dice, reactor, workers));
        others.are(&interleaved);
        Ok(Box::new(interleaved))
    }

    /// The sockets of the node and one of its pollers.
    fn sockets(&self, poller: usize, others: Others) -> (Sockets, Watcher) {
        let (world, clock) = (Rc::clone(self.world), self.world.borrow().clock.clone());
        let watcher = Watcher { world: Rc::clone(&world), poller };
        (Sockets { world, clock, node: self.number, others }, watcher)
    }

    /// Of each loop of a node one; of several each counts apart, as outside.
    fn hosts(&mut self, shared: &Arc<Shared>, backlogs: &[Backlog]) -> Vec<Host> {
        let jobs: Vec<_> = backlogs.iter().map(|backlog| Jobs::Inline(self.queue(backlog))).collect();
        let hosts = jobs.into_iter().map(|jobs| self.host(shared, jobs));
        if backlogs.len() > 1 { hosts.map(Host::counting_apart).collect() } else { hosts.collect() }
    }

    fn host(&mut self, shared: &Arc<Shared>, jobs: Jobs) -> Host {
        let clock = self.world.borrow().clock.clone();
        let wall = move || SystemTime::UNIX_EPOCH + DAWN + clock.now();
        let random = self.dice.random(self.faults.unseeded);
        // Of its own, so that a seed plays what it has played before.
        let mut fate = Dice::new(self.seed ^ (self.number as u64) << 40 ^ 0xac708);
        let overtaken = move || fate.below(OVERTAKEN) == 0;
        Host::new(Arc::clone(shared), random, wall, jobs).with_workers(self.workers).overtaken(overtaken)
    }

    /// Where jobs wait.
    fn queue(&mut self, backlog: &Backlog) -> Box<Shuffled> {
        Box::new(Shuffled {
            clock: self.world.borrow().clock.clone(),
            dice: self.dice.fork(),
            delay: self.faults.delay,
            backlog: backlog.clone(),
            tasks: Vec::new(),
        })
    }
}
