//! The request queue of a simulated node: tasks finish in any order, after any time, in any number of slices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use roadstead_proto::queue::{Discipline, Task};

use crate::{dice::Dice, world::Clock};

/// What a node's queue holds, as the run sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    tasks: AtomicUsize,
    /// When the next task comes up, in nanoseconds; zero when none will.
    next: AtomicU64,
}

impl Backlog {
    /// When another task comes up. Those that have come up already are for the loop to remember.
    pub(crate) fn next(&self) -> Option<Duration> {
        let next = self.0.next.load(Relaxed);
        (next != 0).then(|| Duration::from_nanos(next))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.tasks.load(Relaxed) == 0
    }
}

/// A queue in which the seed decides how long each task takes to come up.
pub(super) struct Shuffled {
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
    pub(super) delay: (Duration, Duration),
    pub(crate) backlog: Backlog,
    pub(crate) tasks: Vec<(Duration, Task)>,
}

impl Shuffled {
    fn note(&self) {
        let now = self.clock.now();
        let next = self.tasks.iter().map(|(due, _)| *due).filter(|due| *due > now).min().unwrap_or_default();
        self.backlog.0.next.store(next.as_nanos() as u64, Relaxed);
        self.backlog.0.tasks.store(self.tasks.len(), Relaxed);
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
            self.note();
            return None;
        }
        let chosen = self.dice.below(ready);
        let (index, _) = self.tasks.iter().enumerate().filter(|(_, (due, _))| *due <= now).nth(chosen)?;
        let (_, task) = self.tasks.swap_remove(index);
        self.note();
        let slice = if self.dice.below(2) == 0 { Duration::MAX } else { Duration::from_micros(1) };
        Some((task, slice))
    }

    fn is_ready(&self) -> bool {
        let now = self.clock.now();
        self.tasks.iter().any(|(due, _)| *due <= now)
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}
