//! Jobs, the request queue they wait in, and the logic units that run them.
//!
//! A [`Discipline`] decides which task is next, and for how long; one file for each, named by [`Queue`]. With worker
//! threads the queue is shared and they take from it; without, the I/O loop runs what waits at the end of each of its
//! turns, so that everything that arrived together is waiting together; or, of a queue that slices, one slice a turn.
#![forbid(unsafe_code)]

mod fcfs;
mod mlfq;
mod rr;
mod sjf;
#[cfg(test)]
mod tests;
mod workers;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use crate::{
    guard::{self, Guarded},
    ticket::{Ticket, Token},
};

pub(crate) use workers::Workers;

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
pub(crate) struct Once<F>(pub(crate) Option<F>);

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
    home: u64,
    /// The connection within its loop.
    connection: Token,
}

/// One thing that waits in the queue.
pub struct Task {
    work: Guarded<Box<dyn Work>>,
    owner: Owner,
    /// How long it will take, as its session guessed, in any unit the service likes. Disciplines compare it.
    pub cost: u64,
    /// How many slices it has had.
    pub slices: u32,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("cost", &self.cost).field("slices", &self.slices).finish_non_exhaustive()
    }
}

trait Work: Send {
    /// True when nothing is left to do.
    fn run(&mut self, slice: Duration) -> bool;
}

struct Deferred<J: Job> {
    job: J,
    ticket: Option<Ticket<J::Reply>>,
}

impl<J: Job> Work for Deferred<J> {
    fn run(&mut self, slice: Duration) -> bool {
        if self.ticket.as_ref().is_none_or(Ticket::is_cancelled) {
            return true;
        }
        match self.job.run(slice) {
            Step::More => false,
            Step::Done(reply) => {
                if let Some(ticket) = self.ticket.take() {
                    ticket.finish(reply);
                }
                true
            }
        }
    }
}

struct Detached<J>(J);

impl<J: Job<Reply = ()>> Work for Detached<J> {
    fn run(&mut self, slice: Duration) -> bool {
        self.0.run(slice) == Step::Done(())
    }
}

impl Task {
    pub(crate) fn deferred<J: Job>(connection: Token, cost: u64, job: J, ticket: Ticket<J::Reply>) -> Self {
        Self::new(connection, cost, Box::new(Deferred { job, ticket: Some(ticket) }))
    }

    pub(crate) fn detached(connection: Token, cost: u64, job: impl Job<Reply = ()>) -> Self {
        Self::new(connection, cost, Box::new(Detached(job)))
    }

    fn new(connection: Token, cost: u64, work: Box<dyn Work>) -> Self {
        Self { work: Guarded::new(work), owner: Owner { home: 0, connection }, cost, slices: 0 }
    }

    /// Runs one slice. `Some` with the task if there is more to do. A job that panics is lost, alone: its ticket is
    /// dropped and the session hears of it.
    fn run(mut self, slice: Duration) -> Option<Self> {
        self.slices = self.slices.saturating_add(1);
        match guard::call(|| self.work.run(slice)) {
            Some(true) => None,
            Some(false) => Some(self),
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
}

/// The disciplines by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is described by `Queue::about`")]
pub enum Queue {
    #[default]
    Fcfs,
    Sjf,
    Rr,
    Mlfq,
}

impl Queue {
    /// Every discipline.
    pub const ALL: [Queue; 4] = [Queue::Fcfs, Queue::Sjf, Queue::Rr, Queue::Mlfq];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Queue::Fcfs => "fcfs",
            Queue::Sjf => "sjf",
            Queue::Rr => "rr",
            Queue::Mlfq => "mlfq",
        }
    }

    /// What it does, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Queue::Fcfs => "first come, first served",
            Queue::Sjf => "shortest job first, by the costs that sessions guess",
            Queue::Rr => "round robin: connections take turns, a slice each",
            Queue::Mlfq => "multi-level feedback: who has had the fewest slices is next",
        }
    }

    /// An empty queue of this discipline.
    pub(crate) fn discipline(self) -> Box<dyn Discipline> {
        match self {
            Queue::Fcfs => Box::<fcfs::Fcfs>::default(),
            Queue::Sjf => Box::<sjf::Sjf>::default(),
            Queue::Rr => Box::<rr::Rr>::default(),
            Queue::Mlfq => Box::<mlfq::Mlfq>::default(),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no queue discipline of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no queue `{0}`; the queues are: {list}", list = Queue::ALL.map(Queue::name).join(", "))]
pub struct UnknownQueue(String);

impl FromStr for Queue {
    type Err = UnknownQueue;

    fn from_str(name: &str) -> Result<Self, UnknownQueue> {
        Queue::ALL.into_iter().find(|queue| queue.name() == name).ok_or_else(|| UnknownQueue(name.into()))
    }
}

/// Tasks that a loop runs before it looks at anything else.
const AT_ONCE: usize = 64;

/// The queue as a session's context sees it. It grows no further than tickets do, which the budget counts: a deferred
/// task holds one, and who submits others has at most one for each ticket.
pub(crate) enum Jobs {
    /// Run by the loop itself at the end of a turn.
    Inline(Box<dyn Discipline>),
    /// Run by worker threads, for several loops.
    Workers {
        /// Whose queue it is.
        workers: Arc<Workers>,
        /// The number of this loop among them.
        home: u64,
    },
}

impl Jobs {
    /// An empty queue for the loop itself.
    pub(crate) fn inline(queue: Queue) -> Self {
        Self::Inline(queue.discipline())
    }

    pub(crate) fn push(&mut self, mut task: Task) {
        match self {
            Jobs::Inline(queue) => queue.push(task),
            Jobs::Workers { workers, home } => {
                task.owner.home = *home;
                workers.push(task);
            }
        }
    }

    /// Whether this loop has a task to run.
    pub(crate) fn are_ready(&self) -> bool {
        matches!(self, Jobs::Inline(queue) if queue.is_ready())
    }

    /// Runs what waits at the end of a turn of the loop, up to a task that is not to hold the loop. True if there was
    /// anything.
    pub(crate) fn run_turn(&mut self) -> bool {
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
    pub(crate) fn run_one(&mut self) -> Option<Run> {
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
pub(crate) enum Run {
    /// All of it.
    Whole,
    /// As much as the queue or the job itself found enough at a stretch: the connections have their turn first.
    Slice,
}
