//! Who asks a simulated disk: a process, for as long as it lives.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::state::{Fate, State};

/// What one process has of a simulated disk.
#[derive(Clone)]
pub(super) struct Process {
    state: Arc<Mutex<State>>,
    pub(super) generation: u64,
}

impl Process {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        let generation = state.lock().unwrap_or_else(PoisonError::into_inner).generation;
        Self { state, generation }
    }

    /// Begins an operation that fails so often.
    pub(super) fn begin(&self, fails: impl Fn(&State) -> f64) -> io::Result<(MutexGuard<'_, State>, Fate)> {
        let mut state = self.state();
        let fails = fails(&state);
        let fate = state.begin(self.generation, fails)?;
        Ok((state, fate))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
