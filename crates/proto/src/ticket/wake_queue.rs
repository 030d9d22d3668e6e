//! The wake queue of a loop: how other threads wake it, and how it goes to sleep without missing that they do.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use super::token::Token;
use crate::sync::{
    Mutex, OnceLock,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// Who of a loop's connections was woken, and how the loop's wait is interrupted for it. Its loop writes to it in every
/// turn, so it shares no cache line, or a pair of lines that is fetched together, with another's.
#[derive(Default)]
#[repr(align(128))]
pub struct WakeQueue {
    woken: Mutex<Vec<Token>>,
    // Only swapped, never stored to: who swaps sees what whoever swapped before had done.
    asleep: AtomicBool,
    interrupt: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// What a wake does instead of all that.
    call: Option<Box<dyn Fn() + Send + Sync>>,
}

impl WakeQueue {
    /// A wake queue that interrupts no wait until [`WakeQueue::set_interrupt`] was called.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The wake queue of one connection, that calls `call` at each wake and keeps no list.
    pub fn calling(call: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { call: Some(Box::new(call)), ..Self::default() })
    }

    /// Says how the loop's wait is interrupted. Only the first call counts.
    pub fn set_interrupt(&self, interrupt: impl Fn() + Send + Sync + 'static) {
        let _ = self.interrupt.set(Box::new(interrupt));
    }

    /// Puts `token` on the list and interrupts the loop if it sleeps.
    pub fn wake(&self, token: Token) {
        if let Some(call) = &self.call {
            return call();
        }
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        self.interrupt();
    }

    /// Interrupts the loop if it sleeps.
    pub fn interrupt(&self) {
        if self.asleep.swap(false, SeqCst)
            && let Some(interrupt) = self.interrupt.get()
        {
            interrupt();
        }
    }

    /// The loop is about to wait. False if somebody was woken already: then it must not.
    pub fn begin_sleep(&self) -> bool {
        self.asleep.swap(true, SeqCst);
        if self.woken.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return true;
        }
        self.asleep.swap(false, SeqCst);
        false
    }

    /// The wait is over.
    pub fn end_sleep(&self) {
        self.asleep.swap(false, SeqCst);
    }

    /// Moves all who were woken into `into`.
    pub fn take(&self, into: &mut Vec<Token>) {
        into.append(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for WakeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeQueue").finish_non_exhaustive()
    }
}
