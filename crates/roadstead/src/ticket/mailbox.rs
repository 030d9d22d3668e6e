//! The mailbox of a connection, and the alarm that tells its loop of what lies there.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use super::{Bell, Reply, Token};
use crate::{
    service::JobId,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// Where one connection's replies arrive.
#[derive(Debug)]
pub(crate) struct Mailbox<R> {
    replies: Mutex<Vec<(JobId, Reply<R>)>>,
    pub(crate) alarm: Arc<Alarm>,
}

impl<R> Mailbox<R> {
    pub(crate) fn new(alarm: Arc<Alarm>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::default(), alarm })
    }

    pub(super) fn put(&self, id: JobId, reply: Reply<R>) {
        if self.alarm.is_closed() {
            return;
        }
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push((id, reply));
        self.alarm.ring();
    }

    /// The loop has heard of the alarm: answers whether somebody called for the session itself, and the replies.
    pub(crate) fn hear(&self) -> (bool, Vec<(JobId, Reply<R>)>) {
        // In this order: a reply that comes behind those that are taken rings again.
        let called = self.alarm.hear();
        (called, mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Tells a connection's loop that something waits for it.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    // These two are only swapped, never stored to: who swaps sees what whoever swapped before had done.
    rung: AtomicBool,
    called: AtomicBool,
    closed: AtomicBool,
    home: OnceLock<(Arc<Bell>, Token)>,
}

impl Alarm {
    /// Calls for the session itself.
    pub(super) fn call(&self) {
        self.called.swap(true, SeqCst);
        self.ring();
    }

    fn ring(&self) {
        if !self.rung.swap(true, SeqCst)
            && let Some((bell, token)) = self.home.get()
        {
            bell.ring(*token);
        }
    }

    /// The connection now lives in a loop; what rang before is heard now.
    pub(crate) fn settle(&self, bell: &Arc<Bell>, token: Token) {
        // Not a load, which may miss a ring that misses the home.
        if self.home.set((Arc::clone(bell), token)).is_ok() && self.rung.fetch_or(false, SeqCst) {
            bell.ring(token);
        }
    }

    /// The loop has heard: answers whether somebody called for the session itself, apart from replies.
    pub(crate) fn hear(&self) -> bool {
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
