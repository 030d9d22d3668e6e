//! Requests that wait to be answered together.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Items that wait for one pass, at most so many at a time.
pub(crate) struct Batch<T> {
    most: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    waiting: Vec<T>,
    /// Somebody empties the batch, or is about to.
    attended: bool,
}

impl<T> Batch<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { waiting: Vec::new(), attended: false }) }
    }

    /// Adds an item. True if nobody is about to [`empty`](Batch::empty) the batch: then the caller has to see to it.
    #[must_use]
    pub(crate) fn put(&self, item: T) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push(item);
        !std::mem::replace(&mut state.attended, true)
    }

    /// Gives what waits to `pass`, until nothing waits. If `pass` panics, its items are lost and the batch goes on
    /// with the next `put`.
    pub(crate) fn empty(&self, mut pass: impl FnMut(Vec<T>)) {
        let mut guard = Attendance { batch: self, over: false };
        loop {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                state.attended = false;
                guard.over = true;
                return;
            }
            let count = state.waiting.len().min(self.most);
            let items = state.waiting.drain(..count).collect();
            drop(state);
            pass(items);
        }
    }
}

struct Attendance<'a, T> {
    batch: &'a Batch<T>,
    over: bool,
}

impl<T> Drop for Attendance<'_, T> {
    fn drop(&mut self) {
        if !self.over {
            self.batch.state.lock().unwrap_or_else(PoisonError::into_inner).attended = false;
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
        let mut passes = Vec::new();
        batch.empty(|items| {
            if items == [1, 2] {
                assert!(!batch.put(4), "the pass that runs will see to it");
            }
            passes.push(items);
        });
        assert_eq!(passes, [vec![1, 2], vec![3, 4]]);
        assert!(batch.put(5));
    }

    #[test]
    fn a_pass_that_panics_does_not_leave_the_batch_unattended_for_ever() {
        let batch = Batch::new(1);
        assert!(batch.put(1));
        let panicked = catch_unwind(AssertUnwindSafe(|| batch.empty(|_| panic!("a pass of the test that is meant to fail"))));
        assert!(panicked.is_err());
        assert!(batch.put(2));
    }
}
