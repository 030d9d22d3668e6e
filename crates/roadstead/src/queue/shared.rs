//! The queue that several threads take from.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use super::{Discipline, Jobs, Queue, Task};
use crate::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    threads::{STACK, Threads, TooFew},
};

/// Worker threads around one shared queue.
pub(crate) struct Workers {
    pub(super) state: Mutex<State>,
    came: Condvar,
    /// Loops that put tasks into the queue, so far.
    loops: AtomicU64,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

pub(super) struct State {
    pub(super) queue: Box<dyn Discipline>,
    stopped: bool,
}

impl Workers {
    /// Starts `count` threads, which hold `held` until they end: after [`Workers::stop`], each with the task it is at.
    pub(crate) fn start<H: Clone + Send + 'static>(
        count: usize,
        queue: Queue,
        held: &H,
    ) -> Result<(Arc<Self>, Threads), TooFew> {
        let state = Mutex::new(State { queue: queue.discipline(), stopped: false });
        let workers = Arc::new(Self { state, came: Condvar::new(), loops: AtomicU64::new(0) });
        let bodies = (0..count).map(|_| {
            let (workers, held) = (Arc::clone(&workers), H::clone(held));
            move || {
                workers.work();
                drop(held);
            }
        });
        let threads = Threads::start("logic", STACK, bodies, || workers.stop())?;
        Ok((workers, threads))
    }

    /// What one loop puts tasks into the queue by.
    pub(crate) fn attach(self: &Arc<Self>) -> Jobs {
        let workers = Arc::clone(self);
        Jobs::Workers {
            push: Box::new(move |task| workers.push(task)),
            home: self.loops.fetch_add(1, Relaxed),
        }
    }

    pub(super) fn push(&self, task: Task) {
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
