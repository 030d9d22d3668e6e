//! The inbox of a loop: what was handed to it and lies there, and how many it has. All of it is under one lock.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use crate::{
    accept::Open,
    budget::Permit,
    service::Peer,
    sync::{Mutex, MutexGuard},
};

/// A connection that the budget has admitted, and a loop is to have.
pub struct Handed<T> {
    pub(crate) stream: T,
    pub(crate) peer: Peer,
    pub(crate) permit: Permit,
    /// Of the listener that it came to.
    pub(crate) open: Arc<Open>,
}

/// What is handed to one loop, and how many connections it has.
pub struct Inbox<T>(Mutex<Contents<T>>);

struct Contents<T> {
    handed: Vec<Handed<T>>,
    /// What the loop has said to have.
    open: usize,
    /// Nobody hands anything to it any more.
    sealed: bool,
    /// The loop takes nothing any more.
    closed: bool,
}

/// No more than this lies in an inbox: a loop that is late is not handed what it could not let in within a turn.
const MOST: usize = 64;

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self(Mutex::new(Contents { handed: Vec::new(), open: 0, sealed: false, closed: false }))
    }
}

impl<T> Inbox<T> {
    fn contents(&self) -> MutexGuard<'_, Contents<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many the loop has, with what is on the way to it. `None` if it takes none now.
    pub(crate) fn load(&self) -> Option<usize> {
        let contents = self.contents();
        let takes = !contents.closed && contents.handed.len() < MOST;
        takes.then_some(contents.handed.len() + contents.open)
    }

    /// Puts a connection in. It comes back if the loop takes none any more.
    pub(crate) fn put(&self, handed: Handed<T>) -> Result<(), Handed<T>> {
        let mut contents = self.contents();
        if contents.closed {
            return Err(handed);
        }
        contents.handed.push(handed);
        Ok(())
    }

    /// Takes out what lies there, and counts it as the loop's.
    pub(crate) fn take(&self) -> Vec<Handed<T>> {
        let mut contents = self.contents();
        contents.open += contents.handed.len();
        mem::take(&mut contents.handed)
    }

    /// The loop has so many now.
    pub(crate) fn has(&self, open: usize) {
        self.contents().open = open;
    }

    /// Nobody hands anything to the loop from now on.
    pub(crate) fn seal(&self) {
        self.contents().sealed = true;
    }

    /// Whether nothing lies there, nor will.
    pub(crate) fn is_over(&self) -> bool {
        let contents = self.contents();
        contents.handed.is_empty() && (contents.sealed || contents.closed)
    }

    /// Takes nothing from now on. What lay there is answered.
    pub(crate) fn close(&self) -> Vec<Handed<T>> {
        let mut contents = self.contents();
        contents.closed = true;
        mem::take(&mut contents.handed)
    }
}
