//! The alarm of a connection: tells its loop that something waits for it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{bell::Bell, token::Token};
use crate::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// Tells a connection's loop that something waits for it.
#[derive(Debug, Default)]
pub struct Alarm {
    // These two are only swapped, never stored to: who swaps sees what whoever swapped before had done.
    rung: AtomicBool,
    called: AtomicBool,
    closed: AtomicBool,
    home: OnceLock<(Arc<Bell>, Token)>,
}

impl Alarm {
    /// Calls for the session itself.
    pub fn call(&self) {
        self.called.swap(true, SeqCst);
        self.ring();
    }

    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, SeqCst)
            && let Some((bell, token)) = self.home.get()
        {
            bell.ring(*token);
        }
    }

    /// The connection now lives in a loop; what rang before is heard now.
    pub fn settle(&self, bell: &Arc<Bell>, token: Token) {
        // Not a load, which may miss a ring that misses the home.
        if self.home.set((Arc::clone(bell), token)).is_ok() && self.rung.fetch_or(false, SeqCst) {
            bell.ring(token);
        }
    }

    /// The loop has heard: answers whether somebody called for the session itself, apart from replies.
    pub fn hear(&self) -> bool {
        self.rung.swap(false, SeqCst);
        self.called.swap(false, SeqCst)
    }

    /// The connection is gone.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }
}
