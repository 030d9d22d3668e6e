//! First come, first served: a task runs until it is done.
//!
//! Nothing is fairer to equals and nothing costs less, but a short task waits for every long one before it (the convoy
//! effect). A task that stops of its own accord goes behind what else waits. As `SCHED_FIFO` in sched(7).
#![forbid(unsafe_code)]

use std::{collections::VecDeque, time::Duration};

use super::task::{Discipline, Task};

#[derive(Debug, Default)]
pub(crate) struct Fcfs(VecDeque<Task>);

impl Discipline for Fcfs {
    fn push(&mut self, task: Task) {
        self.0.push_back(task);
    }

    fn pop(&mut self) -> Option<(Task, Duration)> {
        self.0.pop_front().map(|task| (task, Duration::MAX))
    }

    fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tests::{order, task};

    #[test]
    fn tasks_come_out_as_they_came_in_whatever_they_cost() {
        let mut queue = Fcfs::default();
        for (number, cost) in [3, 1, 2, 1].into_iter().enumerate() {
            queue.push(task(number, 0, cost));
        }
        assert_eq!(order(&mut queue), [0, 1, 2, 3]);
    }
}
