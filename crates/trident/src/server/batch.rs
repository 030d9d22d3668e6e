//! Requests that wait to be answered together, and the passes that answer them, range by range.
//!
//! Some jobs see to a batch, one for each worker at most. In each of its turns a job takes a range of the pass that is
//! under way; when there is none left it begins the next pass with what waits, though others may still be at ranges of
//! the one before. So nobody waits for anybody, and whoever finds nothing to do is gone.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roadstead_proto::Step;

use super::cut::Cut;

/// What answers several items at once.
pub(crate) trait Pass {
    type Item;

    /// A pass for these, over such ranges. Called under the lock of the batch, so it does nothing yet.
    fn new(items: Vec<Self::Item>, cut: Cut) -> Self;
}

/// Items that wait for a pass, at most so many at a time.
pub(crate) struct Batch<P: Pass> {
    most: usize,
    state: Mutex<State<P>>,
}

struct State<P: Pass> {
    waiting: Vec<P::Item>,
    /// Jobs that see to it: they wait for their turn, or are at a range.
    jobs: usize,
    /// A pass of which not all ranges are taken.
    open: Option<Open<P>>,
}

struct Open<P> {
    pass: Arc<P>,
    /// The range that is next, of so many.
    next: usize,
    count: usize,
}

impl<P: Pass> State<P> {
    fn has_work(&self) -> bool {
        self.open.is_some() || !self.waiting.is_empty()
    }
}

impl<P: Pass> Batch<P> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { waiting: Vec::new(), jobs: 0, open: None }) }
    }

    /// Adds an item, which is worth so many jobs, at least one. Returns how many the caller has to see to: each of them
    /// takes [turns](Batch::turn), or is [lost](Batch::lose_job).
    #[must_use]
    pub(crate) fn put(&self, item: P::Item, jobs: usize) -> usize {
        let mut state = self.state();
        state.waiting.push(item);
        let missing = jobs.max(1).saturating_sub(state.jobs);
        state.jobs += missing;
        missing
    }

    /// The turn of a job: `work` computes a range of a pass; one that begins here is cut like this. Says whether there
    /// is more: then it is for the caller to come again, else the job is gone. If `work` panics it is lost.
    pub(crate) fn turn(&self, cut: Cut, work: impl FnOnce(&P, usize)) -> Step<()> {
        let taken = self.take(cut);
        if let Some((pass, number)) = taken {
            work(&pass, number);
        }
        let mut state = self.state();
        if state.has_work() {
            return Step::More;
        }
        state.jobs -= 1;
        Step::Done(())
    }

    /// The range that is next, if there is one, with its pass.
    fn take(&self, cut: Cut) -> Option<(Arc<P>, usize)> {
        let mut state = self.state();
        let open = match state.open.take() {
            Some(open) => open,
            None if state.waiting.is_empty() => return None,
            None => {
                let count = state.waiting.len().min(self.most);
                let pass = Arc::new(P::new(state.waiting.drain(..count).collect(), cut));
                Open { pass, next: 0, count: cut.count() }
            }
        };
        let taken = (Arc::clone(&open.pass), open.next);
        let next = open.next + 1;
        state.open = (next < open.count).then_some(Open { next, ..open });
        Some(taken)
    }

    /// A job has ended before its time. If it was the only one, nobody comes any more for what waits: that is lost too,
    /// and those who asked hear of it.
    pub(crate) fn lose_job(&self) {
        let mut state = self.state();
        state.jobs -= 1;
        if state.jobs == 0 {
            let lost = (std::mem::take(&mut state.waiting), state.open.take());
            drop(state);
            drop(lost);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Pass> fmt::Debug for Batch<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        rc::Rc,
    };

    use super::*;

    impl<T> Pass for Vec<T> {
        type Item = T;

        fn new(items: Self, _: Cut) -> Self {
            items
        }
    }

    /// So many of them.
    fn ranges(count: usize) -> Cut {
        let cut = Cut::new(count * 1_024, count, 1, count);
        assert_eq!(cut.count(), count);
        cut
    }

    #[test]
    fn what_waits_together_is_passed_together_and_in_order() {
        let batch = Batch::<Vec<_>>::new(2);
        assert_eq!([batch.put(1, 1), batch.put(2, 1), batch.put(3, 1)], [1, 0, 0]);
        let first = batch.turn(ranges(1), |items, number| {
            assert_eq!((&items[..], number), (&[1, 2][..], 0));
            assert_eq!(batch.put(4, 1), 0, "whoever passes will see to it");
        });
        assert_eq!(first, Step::More);
        assert_eq!(batch.put(5, 1), 0, "there is more, so somebody passes again");
        assert_eq!(batch.turn(ranges(1), |items, _| assert_eq!(items[..], [3, 4])), Step::More);
        assert_eq!(batch.turn(ranges(1), |items, _| assert_eq!(items[..], [5])), Step::Done(()));
        assert_eq!(batch.put(6, 1), 1);
    }

    #[test]
    fn several_jobs_take_the_ranges_of_one_pass_and_the_next_begins_when_all_are_taken() {
        let batch = Batch::<Vec<_>>::new(2);
        assert_eq!([batch.put('a', 2), batch.put('b', 2), batch.put('c', 2)], [2, 0, 0]);
        let seen = Mutex::new(Vec::new());
        let note = |items: &Vec<char>, number| seen.lock().unwrap().push((items.clone(), number));
        let first = batch.turn(ranges(3), |items, number| {
            note(items, number);
            // Another is at the same pass, and has begun the next before this one is done.
            (0..3).for_each(|_| assert_eq!(batch.turn(ranges(3), note), Step::More));
        });
        assert_eq!((first, batch.put('d', 2)), (Step::More, 0));
        assert_eq!(batch.turn(ranges(3), note), Step::More);
        let last = batch.turn(ranges(3), |items, number| {
            note(items, number);
            assert_eq!(batch.turn(ranges(1), note), Step::Done(()), "of two");
            assert_eq!(batch.put('e', 2), 1, "one of two is gone");
        });
        assert_eq!(last, Step::More);
        assert_eq!(batch.turn(ranges(1), note), Step::Done(()));
        assert_eq!(batch.turn(ranges(1), |_, _| panic!("nothing is left")), Step::Done(()));
        assert_eq!(batch.put('f', 2), 2);
        let seen = seen.into_inner().unwrap();
        let seen: Vec<(String, usize)> =
            seen.into_iter().map(|(items, number)| (items.iter().collect(), number)).collect();
        let all = [("ab", 0), ("ab", 1), ("ab", 2), ("c", 0), ("c", 1), ("c", 2), ("d", 0), ("e", 0)];
        assert_eq!(seen, all.map(|(items, number)| (items.to_owned(), number)));
    }

    #[test]
    fn a_job_that_panics_does_not_leave_the_batch_unattended_for_ever() {
        let batch = Batch::<Vec<_>>::new(1);
        let waits = Rc::new(());
        assert_eq!([batch.put(Rc::clone(&waits), 1), batch.put(Rc::clone(&waits), 1)], [1, 0]);
        let broken = || batch.turn(ranges(2), |_, _| panic!("a pass of the test that is meant to fail"));
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        assert_eq!(Rc::strong_count(&waits), 3, "somebody may still come");
        batch.lose_job();
        assert_eq!(Rc::strong_count(&waits), 1, "nobody comes for the rest of the pass, and for who waits");
        assert_eq!(batch.put(waits, 1), 1);
    }

    #[test]
    fn what_one_job_leaves_another_takes() {
        let batch = Batch::<Vec<_>>::new(1);
        assert_eq!([batch.put(1, 2), batch.put(2, 2)], [2, 0]);
        batch.lose_job();
        assert_eq!(batch.put(3, 2), 1, "there are to be two");
        for expected in [1, 2] {
            assert_eq!(batch.turn(ranges(1), |items, _| assert_eq!(items[..], [expected])), Step::More);
        }
        assert_eq!(batch.turn(ranges(1), |items, _| assert_eq!(items[..], [3])), Step::Done(()));
    }
}
