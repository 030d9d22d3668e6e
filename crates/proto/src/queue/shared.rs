//! The queue that several threads take from: tasks, and where these threads do the I/O the turns of connections.
//!
//! A turn goes before all tasks, so no job is begun while a connection waits that was heard of; but for one in so many,
//! which keeps jobs from starving.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt, mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{Discipline, Jobs, Task};
use crate::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// While turns wait, one in so many things that are taken is a task.
const TASK_EVERY: u32 = 16;

/// One queue for several loops, and for the threads that [work](SharedQueue::work) for them. A `T` is a connection that
/// is due a turn.
pub struct SharedQueue<T = Infallible> {
    pub(crate) state: Mutex<State<T>>,
    came: Condvar,
    /// Loops that put tasks into the queue, so far.
    loops: AtomicU64,
}

impl<T> fmt::Debug for SharedQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQueue").finish_non_exhaustive()
    }
}

pub(crate) struct State<T> {
    due: VecDeque<T>,
    pub(crate) queue: Box<dyn Discipline>,
    /// How much was taken so far.
    taken: u32,
    /// Threads that wait.
    asleep: usize,
    stopped: bool,
}

enum Next<T> {
    Turn(T),
    Slice(Task, Duration),
}

impl<T> State<T> {
    fn has_next(&self) -> bool {
        !self.due.is_empty() || self.queue.is_ready()
    }

    fn next(&mut self) -> Option<Next<T>> {
        self.taken = self.taken.wrapping_add(1);
        let mut slice = None;
        if self.due.is_empty() || self.taken.is_multiple_of(TASK_EVERY) {
            slice = self.queue.pop().map(|(task, slice)| Next::Slice(task, slice));
        }
        slice.or_else(|| self.due.pop_front().map(Next::Turn))
    }
}

impl<T: Send + 'static> SharedQueue<T> {
    /// Nothing waits, and nobody works yet.
    pub fn new(queue: Box<dyn Discipline>) -> Arc<Self> {
        let state = State { due: VecDeque::new(), queue, taken: 0, asleep: 0, stopped: false };
        Arc::new(Self { state: Mutex::new(state), came: Condvar::new(), loops: AtomicU64::new(0) })
    }

    /// What one loop puts tasks into the queue by.
    pub fn attach(self: &Arc<Self>) -> Jobs {
        self.jobs(self.loops.fetch_add(1, Relaxed))
    }

    /// The same for another thread of the loop that has this number.
    pub fn jobs(self: &Arc<Self>, home: u64) -> Jobs {
        let queue = Arc::clone(self);
        Jobs::Shared { push: Box::new(move |task| queue.push(task)), home }
    }

    pub(crate) fn push(&self, task: Task) {
        let mut state = self.lock();
        if !state.stopped {
            state.queue.push(task);
            self.call(state);
        }
    }

    /// A connection is due a turn.
    pub fn push_turn(&self, connection: T) {
        let mut state = self.lock();
        if !state.stopped {
            state.due.push_back(connection);
            self.call(state);
        }
    }

    /// Forgets what waits (its tickets are lost) and has those who work end, each with what it is at.
    pub fn stop(&self) {
        let mut forgotten = Vec::new();
        let mut state = self.lock();
        state.stopped = true;
        let due = mem::take(&mut state.due);
        while let Some((task, _)) = state.queue.pop() {
            forgotten.push(task);
        }
        drop(state);
        drop(due);
        self.came.notify_all();
    }

    /// Does what comes up, on this thread, until [`SharedQueue::stop`]: runs tasks, and has `give` give turns, which
    /// answers with a connection that is due another.
    pub fn work(&self, mut give: impl FnMut(T) -> Option<T>) {
        loop {
            while self.work_once(&mut give) {}
            let mut state = self.lock();
            state.asleep += 1;
            while !state.stopped && !state.has_next() {
                state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.asleep -= 1;
            if state.stopped {
                return;
            }
        }
    }

    /// Does what is next. False if nothing waits.
    pub fn work_once(&self, give: impl FnOnce(T) -> Option<T>) -> bool {
        let next = self.lock().next();
        match next {
            None => return false,
            Some(Next::Slice(task, slice)) => {
                task.run(slice).into_iter().for_each(|unfinished| self.push(unfinished));
            }
            Some(Next::Turn(connection)) => {
                let again = give(connection);
                // Nobody need be called: this thread is awake, and looks next.
                let mut state = self.lock();
                if !state.stopped {
                    state.due.extend(again);
                }
            }
        }
        true
    }

    /// Whether something waits.
    pub fn has_next(&self) -> bool {
        self.lock().has_next()
    }

    /// Lets go of the lock after something was added, and calls one more of the threads that wait. Each that is awake
    /// looks before it waits, so what comes with its own call keeps no other from being noticed.
    fn call(&self, state: MutexGuard<'_, State<T>>) {
        let calls = state.asleep > 0;
        drop(state);
        if calls {
            self.came.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
