//! The queue that several threads take from.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use super::{Discipline, Jobs, Task};
use crate::sync::{
    Condvar, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// One queue for several loops, and for the threads that [work](SharedQueue::work) for them.
pub struct SharedQueue {
    pub(crate) state: Mutex<State>,
    came: Condvar,
    /// Loops that put tasks into the queue, so far.
    loops: AtomicU64,
}

impl fmt::Debug for SharedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQueue").finish_non_exhaustive()
    }
}

pub(crate) struct State {
    pub(crate) queue: Box<dyn Discipline>,
    stopped: bool,
}

impl SharedQueue {
    /// Nothing waits, and nobody works yet.
    pub fn new(queue: Box<dyn Discipline>) -> Arc<Self> {
        let state = Mutex::new(State { queue, stopped: false });
        Arc::new(Self { state, came: Condvar::new(), loops: AtomicU64::new(0) })
    }

    /// What one loop puts tasks into the queue by.
    pub fn attach(self: &Arc<Self>) -> Jobs {
        let queue = Arc::clone(self);
        Jobs::Shared { push: Box::new(move |task| queue.push(task)), home: self.loops.fetch_add(1, Relaxed) }
    }

    pub(crate) fn push(&self, task: Task) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.stopped {
            state.queue.push(task);
            drop(state);
            self.came.notify_one();
        }
    }

    /// Forgets what waits (its tickets are lost) and has those who work end, each with the task it is at.
    pub fn stop(&self) {
        let mut forgotten = Vec::new();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
        while let Some((task, _)) = state.queue.pop() {
            forgotten.push(task);
        }
        drop(state);
        self.came.notify_all();
    }

    /// Runs what comes up, on this thread, until [`SharedQueue::stop`].
    pub fn work(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((task, slice)) = state.queue.pop() {
                drop(state);
                let unfinished = task.run(slice);
                state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.stopped {
                    // Before the task is dropped, which is the service's doing.
                    drop(state);
                    return;
                }
                unfinished.into_iter().for_each(|task| state.queue.push(task));
            } else if state.stopped {
                return;
            } else {
                state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
