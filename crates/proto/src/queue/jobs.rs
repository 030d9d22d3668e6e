//! Who runs a loop's jobs: the loop itself, or threads that it shares with others.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::task::{Discipline, Task};

/// Tasks that a loop runs before it looks at anything else.
const AT_ONCE: usize = 64;

/// The queue as a session's context sees it. It grows no further than tickets do, which the budget counts: a deferred
/// task holds one, and who submits others has at most one for each ticket, or one for each worker.
pub enum Jobs {
    /// Run by the loop itself at the end of a turn.
    Inline(Box<dyn Discipline>),
    /// Run by threads that work for several loops.
    Shared {
        /// Puts a task into their queue.
        push: Box<dyn Fn(Task) + Send>,
        /// The number of this loop among them.
        home: u64,
    },
}

impl Jobs {
    pub(crate) fn push(&mut self, mut task: Task) {
        match self {
            Jobs::Inline(queue) => queue.push(task),
            Jobs::Shared { push, home } => {
                task.owner.home = *home;
                push(task);
            }
        }
    }

    /// Whether this loop has a task to run.
    pub fn are_ready(&self) -> bool {
        matches!(self, Jobs::Inline(queue) if queue.is_ready())
    }

    /// Whether this loop has a task to run, now or later.
    pub fn are_waiting(&self) -> bool {
        matches!(self, Jobs::Inline(queue) if !queue.is_empty())
    }

    /// Runs what waits at the end of a turn of the loop, up to a task that is not to hold the loop. True if there was
    /// anything.
    pub fn run_turn(&mut self) -> bool {
        let mut ran = false;
        for _ in 0..AT_ONCE {
            let Some(run) = self.run_one() else {
                break;
            };
            ran = true;
            if run == Run::Slice {
                break;
            }
        }
        ran
    }

    /// Runs one waiting task, or a slice of it, if this loop is the logic unit.
    pub fn run_one(&mut self) -> Option<Run> {
        let Jobs::Inline(queue) = self else {
            return None;
        };
        let (task, slice) = queue.pop()?;
        let more = task.run(slice);
        let run = if slice < Duration::MAX || more.is_some() { Run::Slice } else { Run::Whole };
        if let Some(task) = more {
            queue.push(task);
        }
        Some(run)
    }
}

/// What was run of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// All of it.
    Whole,
    /// As much as the queue or the job itself found enough at a stretch: the connections have their turn first.
    Slice,
}
