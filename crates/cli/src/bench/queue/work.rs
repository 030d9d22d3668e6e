//! Work that is equal for every discipline and says of itself whether it was done: a chain of hashes.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use blake3::Hash;

use roadstead::{Job, Step};
use roadstead_load::process::thread_cpu_time;

use super::schedule::Size;
use crate::threads;

/// How fast chains grow here, and what they end in.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) links_per_ms: f64,
    short: Hash,
    long: Hash,
}

/// One measurement of the pace, and how many each thread makes.
const SAMPLE: Duration = Duration::from_millis(10);
const SAMPLES: usize = 20;

impl Pace {
    /// Measures the pace of `workers` threads that work at the same time, as two may share a core.
    ///
    /// # Errors
    /// If the system has no room for so many.
    pub(super) fn measure(workers: u16) -> io::Result<Self> {
        let mut samples: Vec<f64> = thread::scope(|scope| {
            let begin = |_| threads::begin(scope, samples);
            let threads = (0..workers).map(begin).collect::<io::Result<Vec<_>>>()?;
            io::Result::Ok(threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect())
        })?;
        samples.sort_by(f64::total_cmp);
        let mut pace = Self { links_per_ms: samples[samples.len() / 2], short: SEED, long: SEED };
        pace.short = grow(SEED, pace.links(Size::Short.time()));
        pace.long = grow(SEED, pace.links(Size::Long.time()));
        Ok(pace)
    }

    /// How many links take so long.
    fn links(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * 1e3 * self.links_per_ms) as u64
    }
}

/// Where every chain begins.
const SEED: Hash = Hash::from_bytes([0; 32]);

fn grow(mut hash: Hash, links: u64) -> Hash {
    for _ in 0..links {
        hash = blake3::hash(hash.as_bytes());
    }
    hash
}

/// Links per millisecond of processor time.
fn samples() -> Vec<f64> {
    const AT_ONCE: u64 = 100;
    let mut hash = SEED;
    let mut sample = || {
        let (start, mut links) = (thread_cpu_time(), 0);
        loop {
            hash = grow(hash, AT_ONCE);
            links += AT_ONCE;
            let took = thread_cpu_time().saturating_sub(start);
            if took >= SAMPLE {
                return links as f64 / (took.as_secs_f64() * 1e3);
            }
        }
    };
    (0..SAMPLES).map(|_| sample()).collect()
}

/// A job of one size.
pub(super) struct Work {
    pace: Arc<Pace>,
    size: Size,
    due: Instant,
    hash: Hash,
    left: u64,
    cpu: Duration,
    ran: Duration,
}

/// What became of a job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) size: Size,
    pub(super) right: bool,
    /// From the moment it should have come to its end, in the thread that did it.
    pub(super) took: Duration,
    pub(super) at: Instant,
    /// Processor time spent on it.
    pub(super) cpu: Duration,
    /// How long its slices took together, with what the processors did in between.
    pub(super) ran: Duration,
}

impl Work {
    pub(super) fn new(pace: Arc<Pace>, size: Size, due: Instant) -> Self {
        let left = pace.links(size.time());
        Self { pace, size, due, hash: SEED, left, cpu: Duration::ZERO, ran: Duration::ZERO }
    }
}

impl Job for Work {
    type Reply = Finished;

    fn run(&mut self, slice: Duration) -> Step<Finished> {
        let (begun, start) = (Instant::now(), thread_cpu_time());
        let links = self.pace.links(slice.min(self.size.time())).clamp(1, self.left.max(1));
        self.hash = grow(self.hash, links);
        self.left = self.left.saturating_sub(links);
        self.cpu += thread_cpu_time().saturating_sub(start);
        let at = Instant::now();
        self.ran += at.saturating_duration_since(begun);
        if self.left > 0 {
            return Step::More;
        }
        let whole = match self.size {
            Size::Short => self.pace.short,
            Size::Long => self.pace.long,
        };
        Step::Done(Finished {
            size: self.size,
            right: self.hash == whole,
            took: at.saturating_duration_since(self.due),
            at,
            cpu: self.cpu,
            ran: self.ran,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pace {
        /// One that expects what no chain ends in.
        pub(in super::super) fn broken() -> Self {
            Self { links_per_ms: 1e3, short: SEED, long: SEED }
        }
    }

    #[test]
    fn work_in_slices_is_the_same_work_and_less_of_it_is_noticed() {
        let pace = Arc::new(Pace::measure(1).unwrap());
        assert!(pace.links_per_ms > 10.0, "{pace:?}");
        for slice in [Duration::MAX, Duration::from_micros(30), Duration::ZERO] {
            let mut work = Work::new(Arc::clone(&pace), Size::Short, Instant::now());
            let mut slices = 1;
            let finished = loop {
                match work.run(slice) {
                    Step::More => slices += 1,
                    Step::Done(finished) => break finished,
                }
            };
            assert!(finished.right && (slices > 1) == (slice < Size::Short.time()), "{slices} of {slice:?}");
        }
        let mut work = Work::new(Arc::clone(&pace), Size::Short, Instant::now());
        work.left -= 1;
        assert!(matches!(work.run(Duration::MAX), Step::Done(Finished { right: false, .. })));
    }
}
