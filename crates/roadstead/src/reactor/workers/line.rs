//! The line of connections that are due a turn, and the workers that sleep because there are none.
//!
//! It is bounded by the connections, because their claims put each into it at most once.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::member::Member;
use crate::stats::Counters;

#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Member>>,
    /// Workers that sleep and that nobody has woken.
    asleep: usize,
    over: bool,
}

/// What a worker does next.
pub(super) enum Next {
    /// This connection's turn.
    Turn(Arc<Member>),
    /// Whatever else it has to do.
    Nobody,
    /// Nothing ever again.
    Over,
}

impl Line {
    /// Puts a connection at the end, and wakes a worker if one sleeps.
    pub(super) fn push(&self, member: Arc<Member>) {
        let mut state = self.lock();
        if state.over {
            return;
        }
        state.waiting.push_back(member);
        let wake = state.asleep > 0;
        state.asleep -= usize::from(wake);
        drop(state);
        if wake {
            self.came.notify_one();
        }
    }

    /// The same by a worker that takes the next one itself at once, so that nobody need be woken for it.
    pub(super) fn push_again(&self, member: Arc<Member>) {
        let mut state = self.lock();
        if !state.over {
            state.waiting.push_back(member);
        }
    }

    /// Takes the first connection. Waits for one if the worker has the patience.
    pub(super) fn next(&self, patient: bool, count: &mut Counters) -> Next {
        let mut state = self.lock();
        loop {
            if state.over {
                return Next::Over;
            }
            if let Some(member) = state.waiting.pop_front() {
                return Next::Turn(member);
            }
            if !patient {
                return Next::Nobody;
            }
            state.asleep += 1;
            count.sleeps += 1;
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets every worker end after the turn that it is at. Whoever still waits, of a server that breaks off, may be
    /// busy for ever, and is let go of.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
