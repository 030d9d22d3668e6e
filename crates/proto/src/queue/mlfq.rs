//! Multi-level feedback queue: who has had the fewest slices is next, so that short tasks overtake long ones without
//! anybody knowing which they are.
//!
//! A task enters at the top. One that is not done after its slice goes a level down, where slices are longer and come
//! when nobody waits above; within a level it is first come, first served. Every so often all that waits is put at the
//! top again, so that nobody starves. F. J. Corbató and others, "An experimental time-sharing system", 1962; in these
//! rules: R. and A. Arpaci-Dusseau, "Operating Systems: Three Easy Pieces", chapter 8.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, time::Duration};

use super::task::{Discipline, Task};

/// The slice of each level. As nobody is interrupted, a new task may have to wait for the longest.
const SLICES: [Duration; 3] =
    [Duration::from_micros(125), Duration::from_micros(250), Duration::from_micros(500)];
/// So many slices after another all that waits is put at the top: half a second of a worker that is at long tasks.
const BOOST_EVERY: u64 = 1024;

#[derive(Debug, Default)]
pub(super) struct Mlfq {
    levels: [VecDeque<Task>; SLICES.len()],
    taken: u64,
}

impl Mlfq {
    fn boost(&mut self) {
        let [top, below @ ..] = &mut self.levels;
        below.iter_mut().for_each(|level| top.append(level));
    }
}

impl Discipline for Mlfq {
    fn push(&mut self, task: Task) {
        let lowest = SLICES.len() - 1;
        self.levels[(task.slices as usize).min(lowest)].push_back(task);
    }

    fn pop(&mut self) -> Option<(Task, Duration)> {
        self.taken += 1;
        if self.taken.is_multiple_of(BOOST_EVERY) {
            self.boost();
        }
        let mut levels = self.levels.iter_mut().zip(SLICES);
        levels.find_map(|(level, slice)| Some((level.pop_front()?, slice)))
    }

    fn is_ready(&self) -> bool {
        self.levels.iter().any(|level| !level.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::queue::tests::{order, pops_until, run, sliced, task};

    #[test]
    fn a_new_task_overtakes_those_that_have_had_slices() {
        let mut queue = Mlfq::default();
        queue.push(sliced(0, 0, 4));
        queue.push(sliced(1, 0, 2));
        let first = queue.pop().unwrap().0;
        queue.push(first.run(Duration::ZERO).unwrap());
        queue.push(task(2, 0, 0));
        assert_eq!(order(&mut queue), [1, 2, 0, 1, 0, 0]);
    }

    #[test]
    fn slices_grow_to_the_lowest_level_and_stay() {
        let mut queue = Mlfq::default();
        queue.push(sliced(0, 0, 5));
        let mut slices = Vec::new();
        while let Some((task, slice)) = queue.pop() {
            slices.push(slice);
            task.run(slice).into_iter().for_each(|task| queue.push(task));
        }
        assert_eq!(slices, [SLICES[0], SLICES[1], SLICES[2], SLICES[2], SLICES[2]]);
    }

    #[test]
    fn a_stream_of_new_tasks_starves_no_long_one() {
        let mut queue = Mlfq::default();
        for number in 0..3 {
            let task = sliced(number, 0, 9).run(Duration::ZERO).unwrap();
            queue.push(task.run(Duration::ZERO).unwrap());
        }
        for found in 0..3 {
            let taken = pops_until(&mut queue, found, |number| task(number, 0, 0));
            assert!(taken <= BOOST_EVERY + 1, "task {found} after {taken}");
        }
    }

    proptest! {
        /// Between two boosts nobody runs while another waits who has had fewer slices, or as many and has waited
        /// longer.
        #[test]
        fn who_has_had_the_fewest_slices_is_next(slices in vec(1_usize..6, 1..60), burst in 1_usize..4) {
            let mut queue = Mlfq::default();
            let mut waiting: Vec<(u32, u64, usize)> = Vec::new();
            let mut arrivals = slices.into_iter().enumerate();
            for clock in 0.. {
                for (number, slices) in arrivals.by_ref().take(burst) {
                    queue.push(sliced(number, 0, slices));
                    waiting.push((0, clock, number));
                }
                let Some((task, slice)) = queue.pop() else { break };
                let next = *waiting.iter().min().unwrap();
                prop_assert_eq!((task.slices.min(2), slice), (next.0, SLICES[next.0 as usize]));
                waiting.retain(|it| *it != next);
                let (found, unfinished) = run(task);
                prop_assert_eq!(found, next.2);
                if let Some(task) = unfinished {
                    waiting.push((task.slices.min(2), clock + 1, found));
                    queue.push(task);
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
