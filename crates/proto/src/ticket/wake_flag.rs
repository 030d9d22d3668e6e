//! The wake flag of a connection: tells its loop that something waits for it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{token::Token, wake_queue::WakeQueue};
use crate::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// Tells a connection's loop that something waits for it.
#[derive(Debug, Default)]
pub struct WakeFlag {
    // These two are only swapped, never stored to: who swaps sees what whoever swapped before had done.
    woken: AtomicBool,
    called: AtomicBool,
    closed: AtomicBool,
    home: OnceLock<(Arc<WakeQueue>, Token)>,
}

impl WakeFlag {
    /// Calls for the session itself.
    pub fn call(&self) {
        self.called.swap(true, SeqCst);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, SeqCst)
            && let Some((wake_queue, token)) = self.home.get()
        {
            wake_queue.wake(*token);
        }
    }

    /// The connection now lives in a loop; a wake that came before is passed on now.
    pub fn attach(&self, wake_queue: &Arc<WakeQueue>, token: Token) {
        // Not a load, which may miss a wake that came before `home` was set.
        if self.home.set((Arc::clone(wake_queue), token)).is_ok() && self.woken.fetch_or(false, SeqCst) {
            wake_queue.wake(token);
        }
    }

    /// The loop lowers it: answers whether somebody called for the session itself, apart from replies.
    pub fn take(&self) -> bool {
        self.woken.swap(false, SeqCst);
        self.called.swap(false, SeqCst)
    }

    /// The connection is gone.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }
}
