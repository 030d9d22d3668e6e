//! A job, the task that it waits as, and what decides which task is next.
#![forbid(unsafe_code)]

use std::{fmt, sync::Arc, time::Duration};

use super::counts::{Counted, TaskCounts};
use crate::{
    guard::{self, Guarded},
    ticket::Token,
};

/// Work that is deferred off the I/O path, done in one go or in slices.
pub trait Job: Send + 'static {
    /// What comes back to the session.
    type Reply: Send + 'static;

    /// Works for about `slice` ([`Duration::MAX`]: until done). [`Step::More`] puts it back into the queue.
    fn run(&mut self, slice: Duration) -> Step<Self::Reply>;
}

/// What a slice of a [`Job`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<R> {
    /// Finished, with this reply.
    Done(R),
    /// There is more to do.
    More,
}

/// A job that is done in one go.
pub struct Once<F>(pub Option<F>);

impl<F: FnOnce() -> R + Send + 'static, R: Send + 'static> Job for Once<F> {
    type Reply = R;
    fn run(&mut self, _: Duration) -> Step<R> {
        self.0.take().map_or(Step::More, |work| Step::Done(work()))
    }
}

/// Whose a task is: a connection's, among those of all loops that share a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The loop.
    pub(super) home: u64,
    /// The connection within its loop.
    connection: Token,
}

/// One thing that waits in the queue.
pub struct Task {
    work: Guarded<Box<dyn Work>>,
    pub(crate) owner: Owner,
    /// How long it will take, as its session guessed, in any unit the service likes. Disciplines compare it.
    pub cost: u64,
    /// How many slices it has had.
    pub slices: u32,
    counted: Option<Counted>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("cost", &self.cost).field("slices", &self.slices).finish_non_exhaustive()
    }
}

/// What a task does.
pub trait Work: Send {
    /// True when nothing is left to do.
    fn run(&mut self, slice: Duration) -> bool;
}

struct Detached<J>(J);

impl<J: Job<Reply = ()>> Work for Detached<J> {
    fn run(&mut self, slice: Duration) -> bool {
        self.0.run(slice) == Step::Done(())
    }
}

impl Task {
    /// A job that answers nobody.
    pub(crate) fn detached(connection: Token, cost: u64, job: impl Job<Reply = ()>) -> Self {
        Self::new(connection, cost, Box::new(Detached(job)))
    }

    /// Work of `cost` for a connection.
    pub fn new(connection: Token, cost: u64, work: Box<dyn Work>) -> Self {
        let owner = Owner { home: 0, connection };
        Self { work: Guarded::new(work), owner, cost, slices: 0, counted: None }
    }

    /// The same, seen in `counts` until it is gone, also how long that takes if it is `timed`.
    pub(crate) fn counted(self, counts: &Arc<TaskCounts>, timed: bool) -> Self {
        Self { counted: Some(Counted::new(counts, timed)), ..self }
    }

    /// Runs one slice. `Some` with the task if there is more to do. A job that panics is lost, alone: its ticket is
    /// dropped and the session hears of it.
    pub fn run(mut self, slice: Duration) -> Option<Self> {
        self.slices = self.slices.saturating_add(1);
        self.counted.iter_mut().for_each(Counted::begin);
        match guard::call(|| self.work.run(slice)) {
            Some(true) => None,
            Some(false) => {
                self.counted.iter_mut().for_each(Counted::put_back);
                Some(self)
            }
            None => {
                tracing::error!("a job panicked; its session was told that it is lost");
                None
            }
        }
    }
}

/// Decides which task is next.
pub trait Discipline: Send {
    /// A task has come, or come back for its next slice.
    fn push(&mut self, task: Task);
    /// The task to run now, and for how long at a stretch.
    fn pop(&mut self) -> Option<(Task, Duration)>;
    /// Whether [`Discipline::pop`] would give a task now.
    fn is_ready(&self) -> bool;
    /// Whether there is none, nor will be one unless it is pushed.
    fn is_empty(&self) -> bool {
        !self.is_ready()
    }
}
