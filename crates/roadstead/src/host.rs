//! What one loop lends to the connections it drives: the budget's accounts, the job queue, randomness, the wall clock.
#![forbid(unsafe_code)]

use std::{fmt, sync::Arc, time::SystemTime};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use crate::{
    budget::{Budget, Gate, Meter},
    queue::{Fcfs, Jobs},
    stats::{Counters, Stats},
    ticket::Bell,
    tuning::Tuning,
};

/// What all loops of one server share.
#[derive(Debug)]
pub struct Shared {
    /// The limits.
    pub budget: Arc<Budget>,
    /// How sockets are set up.
    pub tuning: Tuning,
    /// Open connections.
    pub gate: Arc<Gate>,
    /// Buffered bytes.
    pub memory: Arc<Meter>,
    /// Outstanding tickets.
    pub jobs: Arc<Meter>,
    /// What was counted so far.
    pub stats: Stats,
}

impl Shared {
    /// Accounts at zero under `budget`.
    pub fn new(budget: Budget) -> Arc<Self> {
        Self::tuned(budget, Tuning::default())
    }

    /// The same, with sockets set up like this.
    pub fn tuned(budget: Budget, tuning: Tuning) -> Arc<Self> {
        Arc::new(Self {
            tuning,
            gate: Gate::new(&budget),
            memory: Meter::new(budget.buffer_all),
            jobs: Meter::new(budget.jobs),
            budget: Arc::new(budget),
            stats: Stats::default(),
        })
    }
}

/// What one loop lends to its connections.
pub struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) jobs: Jobs,
    pub(crate) random: ChaCha20Rng,
    pub(crate) wall: Box<dyn Fn() -> SystemTime + Send>,
    pub(crate) count: Counters,
}

impl Host {
    /// A host that draws its randomness from `random` and asks `wall` for the time of day.
    pub(crate) fn new(
        shared: Arc<Shared>,
        random: ChaCha20Rng,
        wall: impl Fn() -> SystemTime + Send + 'static,
        jobs: Jobs,
    ) -> Self {
        // A plain function has no size, so its box allocates nothing.
        let wall = Box::new(wall);
        Self { shared, bell: Bell::new(), jobs, random, wall, count: Counters::default() }
    }

    /// A host for connections that no loop drives, to test or to measure a session without I/O: see
    /// [`connection`](crate::connection). Its randomness follows from `seed`; deferred jobs wait for
    /// [`Host::run_job`].
    pub fn alone(shared: Arc<Shared>, seed: u64) -> Self {
        let jobs = Jobs::Inline(Box::<Fcfs>::default());
        Self::new(shared, ChaCha20Rng::seed_from_u64(seed), SystemTime::now, jobs)
    }

    /// On which tickets and wakers of its connections ring.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Runs one deferred job, or one slice of it, on this thread. False if none waits here.
    pub fn run_job(&mut self) -> bool {
        self.jobs.run_one()
    }

    /// Adds what this loop has counted to the server's statistics.
    pub(crate) fn report(&mut self) {
        self.shared.stats.add(&std::mem::take(&mut self.count));
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("shared", &self.shared).finish_non_exhaustive()
    }
}
