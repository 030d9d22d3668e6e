//! How many tasks wait, and how many are at work, for whoever watches a server.
//!
//! A task writes here when it is queued, begun, put back and gone: where its ticket writes to the account of tickets
//! anyway. A message without a job writes nothing.
#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The tasks of a server.
#[derive(Debug, Default)]
pub struct TaskCounts {
    waiting: AtomicUsize,
    running: AtomicUsize,
}

impl TaskCounts {
    /// How many wait for a logic unit.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// How many are being run.
    pub fn running(&self) -> usize {
        self.running.load(Relaxed)
    }
}

/// One task in the counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<TaskCounts>,
    runs: bool,
}

impl Counted {
    /// It waits.
    pub(super) fn new(counts: &Arc<TaskCounts>) -> Self {
        counts.waiting.fetch_add(1, Relaxed);
        Self { counts: Arc::clone(counts), runs: false }
    }

    fn place(&self) -> &AtomicUsize {
        if self.runs { &self.counts.running } else { &self.counts.waiting }
    }

    /// It runs from now on, or waits.
    pub(super) fn runs(&mut self, runs: bool) {
        self.place().fetch_sub(1, Relaxed);
        self.runs = runs;
        self.place().fetch_add(1, Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.place().fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        queue::{Task, Work},
        ticket::Token,
    };

    /// Two slices long; says how many wait and run meanwhile. Panics in its third, which is meant.
    struct Slices(Arc<TaskCounts>, Vec<(usize, usize)>);

    impl Work for Slices {
        fn run(&mut self, _: Duration) -> bool {
            self.1.push((self.0.waiting(), self.0.running()));
            assert!(self.1.len() < 3, "a panic of the test, which is meant");
            assert_eq!(self.1.last(), Some(&(1, 1)), "the other one waits");
            self.1.len() == 2
        }
    }

    #[test]
    fn a_task_waits_until_it_is_run_and_between_its_slices_and_is_gone_with_its_end_or_its_panic() {
        let counts = Arc::<TaskCounts>::default();
        let task = |slices| {
            let work = Slices(Arc::clone(&counts), vec![(0, 0); slices]);
            Task::new(Token(1), 0, Box::new(work)).counted(&counts)
        };
        let held = || (counts.waiting(), counts.running());
        let (first, second) = (task(0), task(2));
        assert_eq!(held(), (2, 0));
        let first = first.run(Duration::MAX).unwrap();
        assert_eq!(held(), (2, 0));
        assert!(first.run(Duration::MAX).is_none());
        assert_eq!(held(), (1, 0));
        assert!(second.run(Duration::MAX).is_none());
        assert_eq!(held(), (0, 0));
        drop(task(0));
        assert_eq!(held(), (0, 0));
    }
}
