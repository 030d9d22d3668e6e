//! Requests that wait to be answered together.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use roadstead_proto::Step;

/// Items that wait for one pass, at most so many at a time.
pub(crate) struct Batch<T> {
    most: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    waiting: Vec<T>,
    /// Somebody passes, or is about to.
    attended: bool,
}

impl<T> Batch<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { waiting: Vec::new(), attended: false }) }
    }

    /// Adds an item. True if nobody is about to [`pass`](Batch::pass): then the caller has to see to it.
    #[must_use]
    pub(crate) fn put(&self, item: T) -> bool {
        let mut state = self.state();
        state.waiting.push(item);
        !std::mem::replace(&mut state.attended, true)
    }

    /// Gives what waits, up to the most at a time, to `work`. Says whether more waits: then it is for the caller to
    /// pass again. If `work` panics its items are lost, and the batch goes on with the next `put`.
    pub(crate) fn pass(&self, work: impl FnOnce(Vec<T>)) -> Step<()> {
        let items: Vec<T> = {
            let mut state = self.state();
            let count = state.waiting.len().min(self.most);
            state.waiting.drain(..count).collect()
        };
        let mut attendance = Attendance { batch: self, broken: true };
        work(items);
        attendance.broken = false;
        let mut state = self.state();
        state.attended = !state.waiting.is_empty();
        if state.attended { Step::More } else { Step::Done(()) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Attendance<'a, T> {
    batch: &'a Batch<T>,
    broken: bool,
}

impl<T> Drop for Attendance<'_, T> {
    fn drop(&mut self) {
        if self.broken {
            self.batch.state().attended = false;
        }
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn what_waits_together_is_passed_together_and_in_order() {
        let batch = Batch::new(2);
        assert!(batch.put(1));
        assert!(!batch.put(2));
        assert!(!batch.put(3));
        let first = batch.pass(|items| {
            assert_eq!(items, [1, 2]);
            assert!(!batch.put(4), "whoever passes will see to it");
        });
        assert_eq!(first, Step::More);
        assert!(!batch.put(5), "there is more, so somebody passes again");
        assert_eq!(batch.pass(|items| assert_eq!(items, [3, 4])), Step::More);
        assert_eq!(batch.pass(|items| assert_eq!(items, [5])), Step::Done(()));
        assert!(batch.put(6));
    }

    #[test]
    fn a_pass_that_panics_does_not_leave_the_batch_unattended_for_ever() {
        let batch = Batch::new(1);
        assert!(batch.put(1));
        let broken = || batch.pass(|_| panic!("a pass of the test that is meant to fail"));
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        assert!(batch.put(2));
    }
}
