//! What one loop lends to the connections it drives: the budget's accounts, the job queue, randomness, the wall clock.
#![forbid(unsafe_code)]

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{
    budget::{Account, Budget, Charge, Gate, Meter, Share},
    queue::{Fcfs, Jobs, TIMED_EVERY, Task, TaskCounts},
    rate,
    reserve::Reserve,
    spare::Spares,
    stats::{Counted, Counters, Snapshot, Stats},
    ticket::WakeQueue,
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
    /// Buffered bytes, and what loops have in reserve for them.
    pub memory: Arc<Meter>,
    /// Outstanding tickets.
    pub jobs: Arc<Meter>,
    /// Jobs without a ticket that are not done. They have no limit but that of the tickets.
    pub detached: Arc<Meter>,
    /// How many jobs are ready and are run.
    pub tasks: Arc<TaskCounts>,
    /// Nobody is let in any more.
    shut: AtomicBool,
    /// What all together may send. None: as much as they like.
    pub(crate) rate: Option<rate::Common>,
    stats: Tally,
    /// Those of the loops that count apart.
    apart: Mutex<Vec<Arc<Stats>>>,
}

/// Where a server's counts are, but for those of loops that count apart.
#[derive(Debug)]
enum Tally {
    Here(Box<Stats>),
    Common(Arc<dyn Counted>),
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
            detached: Meter::new(usize::MAX),
            tasks: Arc::default(),
            shut: AtomicBool::new(false),
            rate: rate::Common::of(&budget),
            budget: Arc::new(budget),
            stats: Tally::Here(Box::default()),
            apart: Mutex::default(),
        })
    }

    /// One process's share of what several have in common, and where they count together.
    pub fn common(
        budget: &Budget,
        tuning: Tuning,
        share: &Share,
        counted: Arc<impl Counted + 'static>,
    ) -> Arc<Self> {
        Arc::new(Self {
            tuning,
            gate: Gate::common(budget, share.clone()),
            memory: Meter::common(budget.buffer_all, share.clone(), Account::Memory),
            jobs: Meter::common(budget.jobs, share.clone(), Account::Jobs),
            detached: Meter::common(usize::MAX, share.clone(), Account::Detached),
            tasks: Arc::default(),
            shut: AtomicBool::new(false),
            rate: rate::Common::shared(budget, share),
            budget: Arc::new(budget.clone()),
            stats: Tally::Common(counted),
            apart: Mutex::default(),
        })
    }

    /// What was counted so far, and what is held now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = match &self.stats {
            Tally::Here(stats) => Snapshot {
                open: self.gate.open(),
                addresses: self.gate.addresses(),
                buffered: self.buffered(),
                ..self.with_jobs(stats.snapshot())
            },
            Tally::Common(counted) => counted.snapshot(),
        };
        self.apart().iter().for_each(|stats| snapshot.add(&stats.snapshot()));
        snapshot
    }

    /// The same with the states of jobs.
    fn with_jobs(&self, snapshot: Snapshot) -> Snapshot {
        let (tickets, detached, tasks) = (self.jobs.used(), self.detached.used(), &self.tasks);
        let (waiting, running) = tasks.now();
        // Tickets that belong to a job.
        let jobs = (waiting + running).saturating_sub(detached);
        let (sliced, awaited, job_times) = (tasks.sliced(), tasks.awaited(), tasks.times());
        let blocked = tickets.saturating_sub(jobs);
        Snapshot { tickets, detached, waiting, running, blocked, sliced, awaited, job_times, ..snapshot }
    }

    /// What each loop that counts apart has counted.
    pub(crate) fn loops(&self) -> Vec<Snapshot> {
        self.apart().iter().map(|stats| stats.snapshot()).collect()
    }

    /// Nobody is let in from now on.
    pub fn shut(&self) {
        self.shut.store(true, Relaxed);
    }

    /// Whether those who come are let in.
    pub fn lets_in(&self) -> bool {
        !self.shut.load(Relaxed)
    }

    /// Bytes that connections hold between turns.
    pub fn buffered(&self) -> usize {
        let used = self.memory.used();
        self.apart().iter().fold(used, |used, stats| used.saturating_sub(stats.reserved.load(Relaxed)))
    }

    fn apart(&self) -> MutexGuard<'_, Vec<Arc<Stats>>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where those count that have nowhere of their own.
    pub fn stats(&self) -> &Stats {
        match &self.stats {
            Tally::Here(stats) => stats,
            Tally::Common(counted) => counted.stats(),
        }
    }
}

/// The time of day, counted from 1970, when something begins that asks no system for it: always the same.
pub const DAWN: Duration = Duration::from_secs(1_700_000_000);

/// Fills bytes with what nobody can guess.
pub(crate) type Random = dyn FnMut(&mut [u8]) -> io::Result<()> + Send;

/// What one loop lends to its connections.
pub struct Host {
    /// The limits, and the accounts of all loops.
    pub shared: Arc<Shared>,
    /// What wakes the loop.
    pub wake_queue: Arc<WakeQueue>,
    /// Where jobs go.
    pub jobs: Jobs,
    /// How many there were.
    queued: u32,
    /// How many of them may be run at once.
    pub(crate) workers: usize,
    /// Fills bytes with what nobody can guess.
    pub random: Box<Random>,
    /// The time of day.
    pub(crate) wall: Box<dyn Fn() -> SystemTime + Send>,
    /// What was counted since it was last reported.
    pub count: Counters,
    /// Where that is added to, if not to what all have in common.
    stats: Option<Arc<Stats>>,
    /// Memory that was charged and is held by nobody; none if the loop is to leave that to the account.
    reserve: Option<Reserve>,
    /// Buffers for whoever is served.
    pub(crate) spares: Spares,
    /// Whether another thread was faster, where all that happens is chosen.
    overtaken: Option<Box<dyn FnMut() -> bool + Send>>,
}

impl Host {
    /// A host that draws its randomness from `random` and asks `wall` for the time of day.
    pub fn new(
        shared: Arc<Shared>,
        random: impl FnMut(&mut [u8]) -> io::Result<()> + Send + 'static,
        wall: impl Fn() -> SystemTime + Send + 'static,
        jobs: Jobs,
    ) -> Self {
        // A plain function has no size, so its box allocates nothing.
        let (random, wall) = (Box::new(random), Box::new(wall));
        Self {
            shared,
            wake_queue: WakeQueue::new(),
            jobs,
            queued: 0,
            workers: 1,
            random,
            wall,
            count: Counters::default(),
            stats: None,
            reserve: None,
            spares: Spares::default(),
            overtaken: None,
        }
    }

    /// A host for connections that no loop drives, to test or to measure a session without I/O: see
    /// [`connection`](crate::connection). Its randomness follows from `seed`, and its wall clock stands still; deferred
    /// jobs wait for [`Host::run_job`].
    pub fn alone(shared: Arc<Shared>, seed: u64) -> Self {
        let jobs = Jobs::Inline(Box::<Fcfs>::default());
        Self::new(shared, seeded(seed), || SystemTime::UNIX_EPOCH + DAWN, jobs)
    }

    /// Through which tickets and wakers of its connections wake the loop.
    pub fn wake_queue(&self) -> &Arc<WakeQueue> {
        &self.wake_queue
    }

    /// Runs one deferred job, or one slice of it, on this thread. False if none waits here.
    pub fn run_job(&mut self) -> bool {
        self.jobs.run_one().is_some()
    }

    /// The same, with so many logic units for its jobs; without any the loop is the one.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// The same, for one of several loops that do not want to write where others do. What it counts is kept for as
    /// long as the server is, and what its connections give back of the memory account it keeps for the next ones, up
    /// to a 256th of the limit.
    #[must_use]
    pub fn counting_apart(mut self) -> Self {
        let stats = Arc::<Stats>::default();
        self.shared.apart().push(Arc::clone(&stats));
        self.reserve = Some(Reserve::of(&self.shared.memory, Arc::clone(&stats)));
        self.stats = Some(stats);
        self
    }

    /// Queues a job.
    pub(crate) fn queue(&mut self, task: Task) {
        self.count.jobs += 1;
        let timed = self.queued.is_multiple_of(TIMED_EVERY);
        self.queued = self.queued.wrapping_add(1);
        self.jobs.push(task.counted(&self.shared.tasks, timed));
    }

    /// The same, where no two threads run at once, and `chosen` says when another has been faster at what they share:
    /// for the simulator.
    #[must_use]
    pub fn overtaken(mut self, chosen: impl FnMut() -> bool + Send + 'static) -> Self {
        self.overtaken = Some(Box::new(chosen));
        self
    }

    /// Whether another thread is to have been faster. Where there are others, that shows by itself.
    pub(crate) fn is_overtaken(&mut self) -> bool {
        self.overtaken.as_mut().is_some_and(|chosen| chosen())
    }

    /// Lets go of the buffers that it keeps for whoever is served: nobody will be for a while.
    pub fn rest(&mut self) {
        self.spares = Spares::default();
    }

    /// Has `charge` count so many bytes that are buffered. False, with nothing changed, if that would be more than all
    /// may buffer.
    pub(crate) fn charge(&mut self, charge: &mut Option<Charge>, bytes: usize) -> bool {
        let Self { shared, reserve, .. } = self;
        if charge.is_none() && bytes == 0 {
            return true;
        }
        let charge = charge.get_or_insert_with(|| Charge::nothing(&shared.memory));
        match reserve {
            Some(reserve) => reserve.change(charge, bytes),
            None => charge.change(bytes),
        }
    }

    /// The loop is about to wait, and gives back what it has in reserve and does not need: all, if it is `empty`.
    pub fn trim(&mut self, empty: bool) {
        match &mut self.reserve {
            Some(reserve) if empty => reserve.keep(0),
            Some(reserve) => reserve.trim(),
            None => {}
        }
    }

    /// Adds what this loop has counted to the server's statistics.
    pub fn report(&mut self) {
        self.reserve.iter().for_each(Reserve::tell);
        match &self.stats {
            Some(own) => own.add_alone(&self.count),
            None => self.shared.stats().add(&self.count),
        }
        self.count = Counters::default();
    }
}

/// Randomness that follows from `seed`.
pub fn seeded(seed: u64) -> impl FnMut(&mut [u8]) -> io::Result<()> + Send {
    let mut random = ChaCha20Rng::seed_from_u64(seed);
    move |bytes| {
        random.fill_bytes(bytes);
        Ok(())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("shared", &self.shared).finish_non_exhaustive()
    }
}
