//! A network, a poller and a clock made of one seed, under the real loops. Point it at your own service.
//!
//! A [`Sim`] holds servers and clients, which are sessions too. One seed decides how the bytes between them are torn
//! and delayed, which sends are short, what is said to be ready and in which order, when jobs run, and which
//! connections are ended, reset, refused or never answered. Time is virtual: nothing sleeps, and an idle minute costs
//! nothing.
//!
//! A cluster can be simulated too: `exchange::Simulated` puts a member on a node of its own, and your services use its
//! handle.
//!
//! A run fails if anything panics, hangs, or leaves something on the [budget](roadstead_proto::Budget). The same seed
//! gives the same run, event for event, so a failure can be looked at again and again. For that, sessions and jobs must
//! take time and randomness from their [`Context`](roadstead_proto::Context) only.
//!
//! ```
//! # mod roadstead { pub use roadstead_proto::*; pub use roadstead_sim as sim; }
//! use std::{net::SocketAddr, sync::mpsc, time::Duration};
//! use roadstead::{Closed, Context, Done, Input, Peer, Ready, Scope, Service, Session, sim::{self, Sim}};
//!
//! struct Shout;
//! struct Line;
//!
//! impl Service for Shout {
//!     type Session = Line;
//!     const SCOPE: Scope = Scope::Connection;
//!     fn open(&self, _: &Peer) -> Line { Line }
//! }
//!
//! impl Session for Line {
//!     type Reply = ();
//!     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
//!         let upper = input.bytes().to_ascii_uppercase();
//!         input.consume(upper.len());
//!         cx.output().write(&upper);
//!         Ok(())
//!     }
//! }
//!
//! /// Says a word, and tells what it heard when its connection is gone.
//! struct Caller { heard: Vec<u8>, tell: mpsc::Sender<Vec<u8>> }
//!
//! impl Session for Caller {
//!     type Reply = ();
//!     fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
//!         if why == Ready::Opened { cx.output().write(b"ahoy") }
//!         Ok(())
//!     }
//!     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
//!         self.heard.extend_from_slice(input.bytes());
//!         input.consume(input.len());
//!         if self.heard.len() == 4 { cx.finish() }
//!         Ok(())
//!     }
//!     fn closed(self, _: &Closed) { self.tell.send(self.heard).unwrap() }
//! }
//!
//! let server: SocketAddr = "10.0.0.1:7".parse()?;
//! Sim::check(sim::seeds(100), |sim| {
//!     let (tell, told) = mpsc::channel();
//!     let report = sim
//!         .serve(server, Shout)
//!         .client(server, Caller { heard: Vec::new(), tell })
//!         .run(Duration::from_secs(120))?;
//!     let heard = told.recv().unwrap();
//!     assert!(b"AHOY".starts_with(&heard), "nothing is invented");
//!     assert!(heard.len() == 4 || report.connections[0].cut.is_some(), "nothing is lost unless the network lost it");
//!     Ok(())
//! });
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
#![forbid(unsafe_code)]

mod calls;
mod contrary;
mod datagrams;
mod dice;
mod disk;
mod fate;
mod faults;
mod interleaved;
mod jobs;
mod loops;
mod maker;
mod node;
mod others;
mod plan;
mod report;
mod run;
mod seeds;
mod several;
mod sockets;
mod tenant;
mod told;
mod trace;
mod turns;
mod watch;
mod wire;
mod world;

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use roadstead_drivers::{
    accept::{Listener, Open},
    orders::Orders,
};
use roadstead_proto::{
    Address,
    budget::Budget,
    connection::{Connection, Endpoint},
    guard,
    host::Shared,
    layer::{End, Layers, through},
    service::{Service, Session},
    ticket::WakeQueue,
};

pub use datagrams::{
    DatagramFailure, DatagramFaults, DatagramFlow, DatagramReport, DatagramSim, DatagramTrace, Relay,
};
use dice::Dice;
pub use disk::{DiskFaults, SimulatedDisk};
pub use fate::Cut;
pub use faults::Faults;
use plan::{Plan, Seat, Server, Stop};
pub use report::{ConnectionReport, Failure, Flow, Report, Why};
use run::Run;
pub use seeds::{SEED, SEEDS, seeds};
pub use tenant::{Resident, Tenancy, Tenant};
use trace::Notes;
pub use trace::Trace;
use turns::Loop;

/// A simulated world, before it runs. See the [module](self) for an example.
pub struct Sim(Plan);

impl Sim {
    /// A world that `seed` decides about, also about how unkind it is (see [`Sim::faults`]).
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let faults = Faults::draw(&mut dice);
        Self(Plan {
            seed,
            dice,
            faults,
            budget: Budget::default(),
            workers: 1,
            servers: Vec::new(),
            clients: Vec::new(),
            drain_after: None,
            stops: Vec::new(),
            slow: BTreeMap::new(),
            cuts: BTreeMap::new(),
            notes: Notes::default(),
            layers: None,
        })
    }

    /// The seed it was made from.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// As unkind as this, instead of none, gentle or harsh as the seed decides.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.0.faults = faults;
        self
    }

    /// The limits of every node. That of the clients may hold any number of connections and tickets.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.0.budget = budget;
        self
    }

    /// As how many workers the queue of a server passes itself off: each job still runs alone, but a service that has as
    /// many jobs as there are workers has so many, and they take their turns in any order.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.0.workers = workers;
        self
    }

    /// Another node, with a loop of its own, that serves `service` at `address` (any: nothing real listens there).
    #[must_use]
    pub fn serve<S: Service>(mut self, address: impl Into<Address>, service: S) -> Self {
        let listener =
            Box::new(|socket, shared, layers| Listener::new(socket, Arc::new(service), shared, layers));
        self.0.servers.push(Server { address: address.into(), listener, seat: None });
        self
    }

    /// Another connection to `address`, with `session` at our end, begun when the seed says. All clients live in one
    /// node.
    #[must_use]
    pub fn client<S: Session>(mut self, address: impl Into<Address>, session: S) -> Self {
        let to = address.into();
        let make = Box::new(move |shared: Arc<Shared>, permit, layers: Option<&dyn Layers>| {
            let (connection, _) = Connection::outgoing(session, to.clone(), Arc::clone(&shared), permit);
            let connection: Box<dyn Endpoint> = Box::new(connection);
            match layers {
                Some(layers) => through(layers, connection, End::Dialled(to), shared),
                None => connection,
            }
        });
        self.0.clients.push(make);
        self
    }

    /// Puts layers between the wire and every session: one kind at the servers' end, one at the clients'.
    #[must_use]
    pub fn layers(mut self, servers: impl Layers + 'static, clients: impl Layers + 'static) -> Self {
        self.0.layers = Some((Arc::new(servers), Arc::new(clients)));
        self
    }

    /// Tells the servers to drain after this time, whatever is going on then.
    #[must_use]
    pub fn drain_after(mut self, time: Duration) -> Self {
        self.0.drain_after = Some(time);
        self
    }

    /// Gives every connection from and to the node at `address` this one-way delay, whatever the faults say.
    #[must_use]
    pub fn slow(mut self, address: impl Into<Address>, delay: Duration) -> Self {
        self.0.slow.insert(address.into(), delay);
        self
    }

    /// Resets connection number `wire`, counted from zero in the order in which they are begun, when exactly `after`
    /// bytes have arrived at the side that accepted it (`to_server`), or at the one that began it. Those behind are
    /// lost. It replaces what the seed had in store for that connection.
    #[must_use]
    pub fn cut(mut self, wire: usize, to_server: bool, after: u64) -> Self {
        self.0.cuts.insert(wire, (to_server.into(), after));
        self
    }

    /// How many loops the next node may have, as the seed says.
    pub fn loops(&self) -> usize {
        let node = self.0.servers.len();
        Loop::of(self.0.seed, node).count(self.0.seed, node)
    }

    /// Another node, on which `tenant` lives, and `open` says what becomes of those who come to `address`. It stops
    /// when what this answers is dropped. The run goes on until the tenant holds nothing.
    pub fn settle(&mut self, address: impl Into<Address>, open: Arc<Open>, tenant: Tenant) -> Tenancy {
        let loops = tenant.attended.iter().map(|_| (Arc::<Orders>::default(), WakeQueue::new()));
        let loops: Vec<_> = loops.collect();
        let tenancy = Tenancy { loops: loops.clone() };
        let listener = Box::new(|listener, _, _| Listener { socket: listener, open });
        self.0.servers.push(Server { address: address.into(), listener, seat: Some(Seat { tenant, loops }) });
        tenancy
    }

    /// Stops, at a time, the node of the tenant that has these accounts. It keeps what it holds, as a process does that
    /// ends.
    pub fn stop(&mut self, shared: &Arc<Shared>, at: Duration) {
        let is_its = |seat: &Seat| Arc::ptr_eq(&seat.tenant.shared, shared);
        let node = self.0.servers.iter().position(|server| server.seat.as_ref().is_some_and(is_its));
        self.0.stops.extend(node.map(|node| Stop { node, at }));
    }

    /// Runs until every connection is closed, then lets all nodes drain and checks their accounts.
    ///
    /// # Errors
    /// [`Failure`] if anything panicked, leaked, or was still open after `limit` of virtual time.
    pub fn run(self, limit: Duration) -> Result<Report, Failure> {
        let mut plan = self.0;
        guard::take();
        let (world, nodes) = maker::make(&mut plan);
        Run::new(plan, world, nodes)?.finish(limit)
    }

    /// Runs `test` with a world for each seed.
    ///
    /// # Panics
    /// At the first seed whose run fails or whose `test` panics, with the reason, the last events, and how to run that
    /// seed again.
    pub fn check(seeds: impl IntoIterator<Item = u64>, test: impl Fn(Sim) -> Result<(), Failure>) {
        for seed in seeds {
            let sim = Sim::new(seed);
            let notes = sim.0.notes.clone();
            let why = match catch_unwind(AssertUnwindSafe(|| test(sim))) {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure.to_string(),
                Err(payload) => notes.so_far().told(guard::words(&*payload)),
            };
            panic!("seed {seed} fails: {why}\nto run it again: {SEED}={seed}");
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("seed", &self.0.seed)
            .field("faults", &self.0.faults)
            .finish_non_exhaustive()
    }
}
