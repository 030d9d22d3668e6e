//! The request queue of a simulated node: tasks finish in any order, after any time, in any number of slices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{dice::Dice, world::Clock};
use crate::queue::{Discipline, Task};

/// When the first of a node's tasks is due, in nanoseconds; `u64::MAX` when none waits.
#[derive(Debug, Clone)]
pub(super) struct Due(Arc<AtomicU64>);

impl Due {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    pub(super) fn get(&self) -> Option<Duration> {
        let due = self.0.load(Relaxed);
        (due != u64::MAX).then(|| Duration::from_nanos(due))
    }
}

/// A queue in which the seed decides how long each task takes to come up.
pub(super) struct Shuffled {
    pub(super) clock: Clock,
    pub(super) dice: Dice,
    pub(super) delay: (Duration, Duration),
    pub(super) due: Due,
    pub(super) tasks: Vec<(Duration, Task)>,
}

impl Shuffled {
    fn note(&self) {
        let due = self.tasks.iter().map(|(due, _)| due.as_nanos() as u64).min();
        self.due.0.store(due.unwrap_or(u64::MAX), Relaxed);
    }
}

impl Discipline for Shuffled {
    fn push(&mut self, task: Task) {
        let wait = if self.dice.below(2) == 0 { Duration::ZERO } else { self.dice.time(self.delay) };
        self.tasks.push((self.clock.now() + wait, task));
        self.note();
    }

    fn pop(&mut self) -> Option<(Task, Duration)> {
        let now = self.clock.now();
        let ready = self.tasks.iter().filter(|(due, _)| *due <= now).count();
        if ready == 0 {
            return None;
        }
        let chosen = self.dice.below(ready);
        let (index, _) = self.tasks.iter().enumerate().filter(|(_, (due, _))| *due <= now).nth(chosen)?;
        let (_, task) = self.tasks.swap_remove(index);
        self.note();
        let slice = if self.dice.below(2) == 0 { Duration::MAX } else { Duration::from_micros(1) };
        Some((task, slice))
    }
}
