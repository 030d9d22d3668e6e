//! Shortest job first: the least cost is next, and it runs until it is done.
//!
//! No order of whole tasks makes them wait less on average (W. E. Smith, "Various optimizers for single-stage
//! production", 1956), if the costs that their sessions guess are in the right order. Among equals first come, first
//! served. A stream of short ones would keep a long one waiting for ever; so every so many times it is the turn of the
//! one that has waited longest (aging: Silberschatz, "Operating System Concepts", on CPU scheduling).
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, time::Duration};

use super::task::{Discipline, Task};

/// One task in so many is the one that has waited longest. A share instead of an age at which a task comes first: in
/// overload all would be old, and the order that of their arrival again.
const OLDEST_EVERY: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct Sjf {
    /// By cost, and among equals by the number of their arrival.
    shortest: BTreeMap<(u64, u64), Task>,
    /// The same by the number of their arrival, with their cost.
    oldest: BTreeMap<u64, u64>,
    arrivals: u64,
    taken: u64,
}

impl Discipline for Sjf {
    fn push(&mut self, task: Task) {
        let number = self.arrivals;
        self.arrivals += 1;
        self.oldest.insert(number, task.cost);
        self.shortest.insert((task.cost, number), task);
    }

    fn pop(&mut self) -> Option<(Task, Duration)> {
        let (&number, &cost) = self.oldest.first_key_value()?;
        self.taken += 1;
        let ((_, number), task) = if self.taken.is_multiple_of(OLDEST_EVERY) {
            self.shortest.remove_entry(&(cost, number))
        } else {
            self.shortest.pop_first()
        }?;
        self.oldest.remove(&number);
        Some((task, Duration::MAX))
    }

    fn is_ready(&self) -> bool {
        !self.shortest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::queue::tests::{order, pops_until, run, task};

    #[test]
    fn the_shortest_is_next_and_among_equals_the_first() {
        let mut queue = Sjf::default();
        for (number, cost) in [9, 1, 5, 1, u64::MAX, 0].into_iter().enumerate() {
            queue.push(task(number, 0, cost));
        }
        assert_eq!(order(&mut queue), [5, 1, 3, 2, 0, 4]);
    }

    #[test]
    fn a_stream_of_short_tasks_starves_no_long_one() {
        let mut queue = Sjf::default();
        let longest = (0..3).map(|number| task(number, 0, u64::MAX));
        longest.for_each(|task| queue.push(task));
        for found in 0..3 {
            let taken = pops_until(&mut queue, found, |number| task(number, 0, 0));
            assert!(taken <= OLDEST_EVERY, "task {found} after {taken}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_the_shortest_or_in_its_turn_the_oldest(costs in vec(0_u64..9, 1..200), burst in 1_usize..9) {
            let mut queue = Sjf::default();
            let mut waiting = Vec::new();
            let mut arrivals = costs.into_iter().enumerate();
            let mut taken = 0;
            loop {
                for (number, cost) in arrivals.by_ref().take(burst) {
                    queue.push(task(number, 0, cost));
                    waiting.push((cost, number));
                }
                let Some((task, slice)) = queue.pop() else { break };
                taken += 1;
                let oldest = taken % OLDEST_EVERY == 0;
                let best = waiting.iter().min_by_key(|(cost, number)| if oldest { (0, *number) } else { (*cost, *number) });
                let best = *best.unwrap();
                prop_assert_eq!((task.cost, run(task).0), best);
                prop_assert_eq!(slice, Duration::MAX);
                waiting.retain(|it| *it != best);
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
