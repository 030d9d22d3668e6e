//! Jobs, the request queue they wait in, and the logic units that run them.
//!
//! A [`Discipline`] decides which task is next; it is the only thing that differs between FCFS and its rivals. With
//! worker threads the queue is shared and they take from it; without, the I/O loop runs what waits at the end of each
//! of its turns, so that everything that arrived together is waiting together.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use crate::{guard, ticket::Ticket};

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

/// One thing that waits in the queue.
pub struct Task {
    work: Box<dyn Work>,
    /// How long it will take, as its session guessed, in any unit the service likes. Disciplines compare it.
    pub cost: u64,
    /// How many slices it has had.
    pub slices: u32,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    pub(crate) fn deferred<J: Job>(cost: u64, job: J, ticket: Ticket<J::Reply>) -> Self {
        Self { work: Box::new(Deferred { job, ticket: Some(ticket) }), cost, slices: 0 }
    }

    pub(crate) fn detached(cost: u64, job: impl Job<Reply = ()>) -> Self {
        Self { work: Box::new(Detached(job)), cost, slices: 0 }
    }

    /// Runs one slice. `Some` with the task if there is more to do. A job that panics is lost, alone: its ticket is
    /// dropped and the session hears of it.
    fn run(mut self, slice: Duration) -> Option<Self> {
        self.slices += 1;
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

/// First come, first served; a task runs until it is done.
#[derive(Debug, Default)]
pub struct Fcfs(VecDeque<Task>);

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

/// The queue as a session's context sees it. It cannot grow without bound: every deferred task holds a ticket, and
/// tickets are counted by the budget.
pub(crate) enum Jobs {
    /// Run by the loop itself at the end of a turn.
    Inline(Box<dyn Discipline>),
    /// Run by worker threads.
    Workers(Arc<Workers>),
}

impl Jobs {
    pub(crate) fn push(&mut self, task: Task) {
        match self {
            Jobs::Inline(queue) => queue.push(task),
            Jobs::Workers(workers) => workers.push(task),
        }
    }

    /// Whether this loop has a task to run.
    pub(crate) fn are_ready(&self) -> bool {
        matches!(self, Jobs::Inline(queue) if queue.is_ready())
    }

    /// Runs one waiting task, if this loop is the logic unit. False if there was none.
    pub(crate) fn run_one(&mut self) -> bool {
        let Jobs::Inline(queue) = self else {
            return false;
        };
        let Some((task, slice)) = queue.pop() else {
            return false;
        };
        if let Some(task) = task.run(slice) {
            queue.push(task);
        }
        true
    }
}

/// Worker threads around one shared queue.
pub(crate) struct Workers {
    state: Mutex<State>,
    came: Condvar,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

struct State {
    queue: Box<dyn Discipline>,
    stopped: bool,
}

impl Workers {
    /// Starts `count` threads. They end after [`Workers::stop`], each with the task it is at.
    pub(crate) fn start(
        count: usize,
        queue: Box<dyn Discipline>,
    ) -> std::io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let workers =
            Arc::new(Self { state: Mutex::new(State { queue, stopped: false }), came: Condvar::new() });
        let threads = (0..count)
            .map(|number| {
                let workers = Arc::clone(&workers);
                std::thread::Builder::new().name(format!("logic-{number}")).spawn(move || workers.work())
            })
            .collect::<Result<Vec<_>, _>>();
        match threads {
            Ok(threads) => Ok((workers, threads)),
            Err(error) => {
                workers.stop();
                Err(error)
            }
        }
    }

    fn push(&self, task: Task) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.stopped {
            state.queue.push(task);
            drop(state);
            self.came.notify_one();
        }
    }

    /// Forgets what waits (its tickets are lost) and lets the threads end.
    pub(crate) fn stop(&self) {
        let mut forgotten = Vec::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
        while let Some((task, _)) = state.queue.pop() {
            forgotten.push(task);
        }
        drop(state);
        self.came.notify_all();
    }

    fn work(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((task, slice)) = state.queue.pop() {
                drop(state);
                let unfinished = task.run(slice);
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(task) = unfinished
                    && !state.stopped
                {
                    state.queue.push(task);
                }
            } else if state.stopped {
                return;
            } else {
                state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn fcfs_runs_in_order_of_arrival() {
        let (sender, order) = mpsc::channel();
        let mut jobs = Jobs::Inline(Box::<Fcfs>::default());
        for number in 0..4 {
            let sender = sender.clone();
            jobs.push(Task::detached(4 - number, Once(Some(move || sender.send(number).unwrap()))));
        }
        while jobs.run_one() {}
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_takes_its_own_job_only() {
        let (sender, done) = mpsc::channel();
        let (workers, threads) = Workers::start(1, Box::<Fcfs>::default()).unwrap();
        let broken = || panic!("a job of the test that is meant to fail");
        workers.push(Task::detached(0, Once(Some(broken))));
        workers.push(Task::detached(0, Once(Some(move || sender.send(()).unwrap()))));
        done.recv().unwrap();
        workers.stop();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
