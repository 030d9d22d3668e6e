//! The mailbox of a connection: where what was finished for it waits until its loop takes it.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use super::{
    reply::{JobId, Reply},
    wake_flag::WakeFlag,
};
use crate::sync::Mutex;

/// Where one connection's replies arrive.
#[derive(Debug)]
pub struct Mailbox<R> {
    replies: Mutex<Vec<(JobId, Reply<R>)>>,
    pub(crate) wake_flag: Arc<WakeFlag>,
}

impl<R> Mailbox<R> {
    pub fn new(wake_flag: Arc<WakeFlag>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::default(), wake_flag })
    }

    pub fn put(&self, id: JobId, reply: Reply<R>) {
        if self.wake_flag.is_closed() {
            return;
        }
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push((id, reply));
        self.wake_flag.wake();
    }

    /// The loop lowers the wake flag: answers whether somebody called for the session itself, and the replies.
    pub fn take(&self) -> (bool, Vec<(JobId, Reply<R>)>) {
        // In this order: a reply that comes behind those that are taken wakes again.
        let called = self.wake_flag.take();
        (called, mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
