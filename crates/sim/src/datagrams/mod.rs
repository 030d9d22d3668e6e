//! A network of datagrams made of one seed, under the real loop of datagram sockets. Point it at your own service.
//!
//! Nodes are servers and clients; both are [`DatagramService`]s with one socket each. The seed decides which datagrams
//! are lost, come twice, overtake others, are cut or are too long for the way, and what the system has no room for. A
//! run is over when the clients have finished and nothing flies any more. It fails if anything panics, hangs, goes in
//! circles, or leaves something on the [budget](roadstead_proto::Budget). The same seed gives the same run.
//!
//! ```
//! # mod roadstead { pub use roadstead_proto::*; pub use roadstead_sim as sim; }
//! use std::net::SocketAddr;
//! use std::time::Duration;
//! use roadstead::{
//!     DatagramContext, DatagramService, DatagramSession, Ready, Scope,
//!     datagrams::{Arrivals, Path},
//!     sim::{self, DatagramSim},
//! };
//!
//! /// Says what it hears.
//! struct Parrot;
//! /// Asks until it is answered.
//! struct Asker(SocketAddr);
//!
//! impl DatagramService for Parrot {
//!     type Session = Parrot;
//!     const SCOPE: Scope = Scope::Connection;
//!     fn open(&self, _: SocketAddr) -> Parrot { Parrot }
//! }
//!
//! impl DatagramSession for Parrot {
//!     type Reply = ();
//!     type Peer = ();
//!     fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
//!         for mut datagram in batch {
//!             let _ = cx.send(&mut datagram.path, datagram.bytes);
//!         }
//!     }
//! }
//!
//! impl DatagramService for Asker {
//!     type Session = Asker;
//!     const SCOPE: Scope = Scope::Connection;
//!     fn open(&self, _: SocketAddr) -> Asker { Asker(self.0) }
//! }
//!
//! impl DatagramSession for Asker {
//!     type Reply = ();
//!     type Peer = ();
//!     fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
//!         if why == Ready::Draining {
//!             return cx.finish();
//!         }
//!         let _ = cx.send(&mut Path::to(self.0), b"ahoy");
//!         cx.wake_at(Some(cx.now() + Duration::from_secs(1)));
//!     }
//!     fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
//!         for datagram in batch {
//!             assert!(b"ahoy".starts_with(datagram.bytes), "nothing is invented");
//!             cx.finish();
//!         }
//!     }
//! }
//!
//! let server: SocketAddr = "10.0.0.1:7".parse()?;
//! DatagramSim::check(sim::seeds(100), |sim| {
//!     let client = "10.0.0.2:5000".parse().unwrap();
//!     let report = sim.serve(server, Parrot).client(client, Asker(server)).run(Duration::from_secs(3600))?;
//!     let (asked, answered) = (report.flow(client, server), report.flow(server, client));
//!     assert!(answered.sent_bytes <= 3 * asked.received_bytes);
//!     Ok(())
//! });
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod faults;
mod network;
mod plan;
mod report;
mod run;
mod trace;

use std::{
    fmt,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use roadstead_proto::{
    budget::Budget,
    datagrams::{DatagramService, Datagrams},
    guard,
};

use crate::{dice::Dice, seeds::SEED};
pub use faults::{DatagramFaults, Relay};
use plan::{Forged, Make, Plan, Seat};
pub use report::{DatagramFailure, DatagramReport};
use run::Run;
pub use trace::{DatagramFlow, DatagramTrace};

/// A simulated network of datagram sockets, before it runs. See the example above.
pub struct DatagramSim(Plan);

impl DatagramSim {
    /// A network that `seed` decides about, also about how unkind it is (see [`DatagramSim::faults`]).
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let faults = DatagramFaults::draw(&mut dice);
        let (budget, nodes, forged) = (Budget::default(), Vec::new(), Vec::new());
        Self(Plan { seed, dice, faults, budget, nodes, forged, drain_after: None })
    }

    /// The seed it was made from.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// As unkind as this, instead of none, gentle or harsh as the seed decides.
    #[must_use]
    pub fn faults(mut self, faults: DatagramFaults) -> Self {
        self.0.faults = faults;
        self
    }

    /// The limits of every node.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.0.budget = budget;
        self
    }

    /// Another node, with a loop of its own, that serves `service` at `address` (any: nothing real is bound there).
    #[must_use]
    pub fn serve<S: DatagramService>(self, address: SocketAddr, service: S) -> Self {
        self.node(address, service, false)
    }

    /// The same, for one that [finishes](roadstead_proto::DatagramContext::finish) by itself, which the run waits for.
    #[must_use]
    pub fn client<S: DatagramService>(self, address: SocketAddr, service: S) -> Self {
        self.node(address, service, true)
    }

    fn node<S: DatagramService>(mut self, address: SocketAddr, service: S, is_client: bool) -> Self {
        let make: Make = Box::new(move |shared| Box::new(Datagrams::new(Arc::new(service), address, shared)));
        self.0.nodes.push(Seat { address, make, is_client });
        self
    }

    /// A datagram that somebody sends after this time in the name of `from`.
    #[must_use]
    pub fn forge(mut self, after: Duration, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Self {
        self.0.forged.push(Forged { after, from, to, bytes: bytes.to_vec() });
        self
    }

    /// Tells the servers to drain after this time, whatever is going on then.
    #[must_use]
    pub fn drain_after(mut self, time: Duration) -> Self {
        self.0.drain_after = Some(time);
        self
    }

    /// Runs until every client has finished and nothing flies, then lets all nodes drain and checks their accounts.
    ///
    /// # Errors
    /// [`DatagramFailure`] if anything panicked, leaked, or was not over after `limit` of virtual time.
    pub fn run(self, limit: Duration) -> Result<DatagramReport, DatagramFailure> {
        guard::take();
        Run::new(self.0)?.finish(limit)
    }

    /// Runs `test` with a network for each seed.
    ///
    /// # Panics
    /// At the first seed whose run fails or whose `test` panics, with the reason, and how to run that seed again.
    pub fn check(
        seeds: impl IntoIterator<Item = u64>,
        test: impl Fn(DatagramSim) -> Result<(), DatagramFailure>,
    ) {
        for seed in seeds {
            let why = match catch_unwind(AssertUnwindSafe(|| test(DatagramSim::new(seed)))) {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure.to_string(),
                Err(payload) => guard::words(&*payload),
            };
            panic!("seed {seed} fails: {why}\nto run it again: {SEED}={seed}");
        }
    }
}

impl fmt::Debug for DatagramSim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramSim")
            .field("seed", &self.0.seed)
            .field("faults", &self.0.faults)
            .finish_non_exhaustive()
    }
}
