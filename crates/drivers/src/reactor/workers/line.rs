//! The line of connections that are due a turn, and the workers that sleep because there are none.
//!
//! It is bounded by the connections, because their claims put each into it at most once. Who finds nobody there is
//! asleep from that moment on, and whoever comes then calls it: so no call is lost before the sleeper's wait has begun.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, PoisonError},
};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Who is due a turn, and who sleeps until somebody is.
pub struct Line<M> {
    state: Mutex<State<M>>,
    called: Condvar,
}

struct State<M> {
    waiting: VecDeque<Arc<M>>,
    /// Workers that sleep, or are about to, and that nobody has called.
    asleep: usize,
    /// Calls that no worker has heard.
    calls: usize,
    over: bool,
}

impl<M> State<M> {
    /// A worker that is asleep listens. True if it is to go on.
    fn hear(&mut self) -> bool {
        let called = self.calls > 0;
        self.calls -= usize::from(called);
        called || self.over
    }
}

impl<M> Default for Line<M> {
    fn default() -> Self {
        let state = State { waiting: VecDeque::new(), asleep: 0, calls: 0, over: false };
        Self { state: Mutex::new(state), called: Condvar::new() }
    }
}

/// What a worker does next.
pub enum Next<M> {
    /// This connection's turn.
    Turn(Arc<M>),
    /// Whatever else it has to do; it sleeps if it has the patience.
    Nobody,
    /// Nothing ever again.
    Over,
}

impl<M> Line<M> {
    /// Puts a connection at the end, and calls a worker if one sleeps.
    pub(crate) fn push(&self, claimed: Arc<M>) {
        let mut state = self.lock();
        if state.over {
            return;
        }
        state.waiting.push_back(claimed);
        let call = state.asleep > 0;
        state.asleep -= usize::from(call);
        state.calls += usize::from(call);
        drop(state);
        if call {
            self.called.notify_one();
        }
    }

    /// The same by a worker that takes the next one itself at once, so that nobody need be called for it.
    pub(super) fn push_again(&self, claimed: Arc<M>) {
        let mut state = self.lock();
        if !state.over {
            state.waiting.push_back(claimed);
        }
    }

    /// Takes the first connection. A worker that has the patience to wait for one is asleep from here on.
    pub fn next(&self, patient: bool) -> Next<M> {
        let mut state = self.lock();
        if state.over {
            return Next::Over;
        }
        if let Some(claimed) = state.waiting.pop_front() {
            return Next::Turn(claimed);
        }
        state.asleep += usize::from(patient);
        Next::Nobody
    }

    /// Sleeps until it is called.
    pub(crate) fn sleep(&self) {
        let mut state = self.lock();
        while !state.hear() {
            state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same for who sleeps in virtual time only: whether it is called.
    pub fn hear(&self) -> bool {
        self.lock().hear()
    }

    /// Lets every worker end after the turn that it is at. Whoever still waits, of a server that breaks off, may be
    /// busy for ever, and is let go of.
    pub fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.called.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
