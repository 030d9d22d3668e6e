//! The mailbox of a connection: where what was finished for it waits until its loop has heard.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use super::{
    alarm::Alarm,
    reply::{JobId, Reply},
};
use crate::sync::Mutex;

/// Where one connection's replies arrive.
#[derive(Debug)]
pub struct Mailbox<R> {
    replies: Mutex<Vec<(JobId, Reply<R>)>>,
    pub(crate) alarm: Arc<Alarm>,
}

impl<R> Mailbox<R> {
    pub fn new(alarm: Arc<Alarm>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::default(), alarm })
    }

    pub fn put(&self, id: JobId, reply: Reply<R>) {
        if self.alarm.is_closed() {
            return;
        }
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push((id, reply));
        self.alarm.ring();
    }

    /// The loop has heard of the alarm: answers whether somebody called for the session itself, and the replies.
    pub fn hear(&self) -> (bool, Vec<(JobId, Reply<R>)>) {
        // In this order: a reply that comes behind those that are taken rings again.
        let called = self.alarm.hear();
        (called, mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
