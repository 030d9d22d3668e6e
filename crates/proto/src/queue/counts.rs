//! In which state the jobs of a server are, for whoever watches it; and how long some of them stay there.
//!
//! ```text
//!            defer, submit           pop                    done
//!  session ───────────────▶ ready ─────────▶ running ───────────────▶ session
//!     │                       ▲                 │
//!     │ ticket                └── slice over ───┘
//!     ▼                                                  finished
//!  blocked ─────────────────────────────────────────────────────────▶ session
//! ```
//! A job is ready while it is in the queue, and running while a logic unit is at it. Blocked is what a session has left
//! to somebody else, another server for one: a ticket that belongs to no job. It costs no logic unit, and is known by
//! subtraction. What blocks cannot come to run but through the queue: when its ticket is finished the session is called,
//! and defers what is left.
//!
//! A task writes here when it is queued, when a slice begins and ends, and when it is gone: once each, to a line that
//! all loops and workers of a server share, and that holds nothing else. A message without a job writes nothing. The
//! clock is asked for one task in sixteen only, since a task may take less time than the clock does.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

/// One task that is ready, and one that is running. Both counts are one number, so that a task that changes from one to
/// the other is never seen in both, or in neither.
const READY: u64 = 1;
const RUNNING: u64 = 1 << 32;

/// One in so many tasks of a loop is timed.
pub(crate) const TIMED_EVERY: u32 = 16;

/// The tasks of a server. Aligned so that it shares no cache line, or a pair of lines that is fetched together, with
/// what else its loops share.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct TaskCounts {
    now: AtomicU64,
    sliced: AtomicU64,
    awaited: AtomicU64,
    clock: Clock,
    timed: AtomicU64,
    waited: AtomicU64,
    ran: AtomicU64,
}

/// What tells the time to whoever runs tasks, if anything does.
#[derive(Default)]
struct Clock(OnceLock<Box<dyn Fn() -> Duration + Send + Sync>>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What the tasks that were timed have come to, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskTimes {
    /// How many there were.
    pub tasks: u64,
    /// How long they waited for a logic unit, between slices too.
    pub waited: Duration,
    /// How long they were run.
    pub ran: Duration,
}

impl TaskCounts {
    /// How many are ready, and wait for a logic unit; and how many are being run.
    pub fn now(&self) -> (usize, usize) {
        let now = self.now.load(Relaxed);
        ((now % RUNNING) as usize, (now / RUNNING) as usize)
    }

    /// How often one has given up its logic unit because its slice was over.
    pub fn sliced(&self) -> u64 {
        self.sliced.load(Relaxed)
    }

    /// How often a session has waited for somebody else instead.
    pub fn awaited(&self) -> u64 {
        self.awaited.load(Relaxed)
    }

    /// A session waits for somebody else.
    pub(crate) fn awaits(&self) {
        self.awaited.fetch_add(1, Relaxed);
    }

    /// Has some of the tasks that come be timed by a clock that `clock` makes, unless there is one.
    pub fn time_by<C: Fn() -> Duration + Send + Sync + 'static>(&self, clock: impl FnOnce() -> C) {
        self.clock.0.get_or_init(|| Box::new(clock()));
    }

    /// How long those took that were timed and are gone.
    pub fn times(&self) -> TaskTimes {
        // First, so that what they took is counted of all that are.
        let tasks = self.timed.load(Acquire);
        let [waited, ran] = [&self.waited, &self.ran].map(|sum| Duration::from_nanos(sum.load(Relaxed)));
        TaskTimes { tasks, waited, ran }
    }

    fn time(&self) -> Option<Duration> {
        self.clock.0.get().map(|clock| clock())
    }
}

/// One task in the counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<TaskCounts>,
    runs: bool,
    times: Option<Box<Times>>,
}

/// How long one has waited and run until a moment.
#[derive(Debug)]
struct Times {
    until: Duration,
    waited: Duration,
    ran: Duration,
}

impl Counted {
    /// It is ready; `timed`: how long is of interest.
    pub(super) fn new(counts: &Arc<TaskCounts>, timed: bool) -> Self {
        counts.now.fetch_add(READY, Relaxed);
        let until = if timed { counts.time() } else { None };
        let times = |until| Box::new(Times { until, waited: Duration::ZERO, ran: Duration::ZERO });
        Self { counts: Arc::clone(counts), runs: false, times: until.map(times) }
    }

    /// It has waited, or run, until now.
    fn pass(&mut self) {
        if let Some(times) = &mut self.times
            && let Some(now) = self.counts.time()
        {
            let time = if self.runs { &mut times.ran } else { &mut times.waited };
            *time = time.saturating_add(now.saturating_sub(times.until));
            times.until = now;
        }
    }

    /// It runs from now on.
    pub(super) fn begin(&mut self) {
        self.pass();
        self.counts.now.fetch_add(RUNNING - READY, Relaxed);
        self.runs = true;
    }

    /// It is ready again: its slice is over.
    pub(super) fn put_back(&mut self) {
        self.pass();
        self.counts.now.fetch_sub(RUNNING - READY, Relaxed);
        self.counts.sliced.fetch_add(1, Relaxed);
        self.runs = false;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.now.fetch_sub(if self.runs { RUNNING } else { READY }, Relaxed);
        self.pass();
        if let Some(times) = &self.times {
            let TaskCounts { timed, waited, ran, .. } = &*self.counts;
            for (sum, time) in [(waited, times.waited), (ran, times.ran)] {
                sum.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
            }
            timed.fetch_add(1, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queue::{Task, Work},
        ticket::Token,
    };

    /// Two slices long; says how many wait and run meanwhile. Panics in its third, which is meant.
    struct Slices(Arc<TaskCounts>, Vec<(usize, usize)>);

    impl Work for Slices {
        fn run(&mut self, _: Duration) -> bool {
            self.1.push(self.0.now());
            assert!(self.1.len() < 3, "a panic of the test, which is meant");
            assert_eq!(self.1.last(), Some(&(1, 1)), "the other one waits");
            self.1.len() == 2
        }
    }

    #[test]
    fn the_counts_of_a_server_have_cache_lines_of_their_own() {
        assert_eq!((align_of::<TaskCounts>(), size_of::<TaskCounts>()), (128, 128));
    }

    #[test]
    fn a_task_waits_until_it_is_run_and_between_its_slices_and_is_gone_with_its_end_or_its_panic() {
        let counts = Arc::<TaskCounts>::default();
        let task = |slices| {
            let work = Slices(Arc::clone(&counts), vec![(0, 0); slices]);
            Task::new(Token(1), 0, Box::new(work)).counted(&counts, false)
        };
        let held = || counts.now();
        let (first, second) = (task(0), task(2));
        assert_eq!(held(), (2, 0));
        let first = first.run(Duration::MAX).unwrap();
        assert_eq!(held(), (2, 0));
        assert!(first.run(Duration::MAX).is_none());
        assert_eq!((held(), counts.sliced()), ((1, 0), 1), "the end of the last slice is the job's");
        assert!(second.run(Duration::MAX).is_none());
        assert_eq!(held(), (0, 0));
        drop(task(0));
        assert_eq!(held(), (0, 0));
    }

    /// Takes so long in each of its slices.
    struct Takes(Arc<AtomicU64>, Vec<u64>);

    impl Work for Takes {
        fn run(&mut self, _: Duration) -> bool {
            self.0.fetch_add(self.1.remove(0), Relaxed);
            self.1.is_empty()
        }
    }

    #[test]
    fn a_task_that_is_timed_has_waited_or_run_all_its_time_and_others_none() {
        let (counts, clock) = (Arc::<TaskCounts>::default(), Arc::new(AtomicU64::new(5)));
        let task = |takes: &[u64], timed| {
            let work = Takes(Arc::clone(&clock), takes.to_vec());
            Task::new(Token(1), 0, Box::new(work)).counted(&counts, timed)
        };
        let wait = |time| clock.fetch_add(time, Relaxed);
        drop(task(&[1], true));
        assert_eq!(counts.times(), TaskTimes::default(), "there is no clock");
        let tells = Arc::clone(&clock);
        counts.time_by(|| move || Duration::from_nanos(tells.load(Relaxed)));
        counts.time_by(|| || Duration::MAX);
        let (timed, other) = (task(&[30, 40], true), task(&[500], false));
        wait(7);
        assert!(other.run(Duration::MAX).is_none());
        let timed = timed.run(Duration::MAX).unwrap();
        wait(2);
        assert_eq!(counts.times(), TaskTimes::default(), "it is not gone");
        assert!(timed.run(Duration::MAX).is_none());
        let dropped = task(&[9], true);
        wait(1_000);
        drop(dropped);
        let [waited, ran] = [509 + 1_000, 70].map(Duration::from_nanos);
        assert_eq!(counts.times(), TaskTimes { tasks: 2, waited, ran });
    }
}
