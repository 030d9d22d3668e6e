//! What is known of one direction of a socket, and what is asked of it.
#![forbid(unsafe_code)]

use std::{io, mem};

/// One of a socket's two directions.
pub(super) struct Direction<T> {
    /// What is asked for.
    pub(super) asked: Option<T>,
    /// An operation would not block.
    pub(super) ready: bool,
    /// The hands are at it.
    pub(super) busy: bool,
    /// It has become ready since they began.
    again: bool,
    /// Nobody waits for more than its end.
    cancelled: bool,
}

impl<T> Direction<T> {
    pub(super) fn new(ready: bool) -> Self {
        Self { asked: None, ready, busy: false, again: false, cancelled: false }
    }

    /// What the poller says.
    pub(super) fn hear(&mut self, ready: bool) {
        self.ready |= ready;
        self.again |= ready;
    }

    /// What may be begun now, if anything.
    pub(super) fn begin(&mut self) -> Option<&T> {
        let begun = self.asked.as_ref().filter(|_| self.ready && !self.busy);
        self.again &= begun.is_none();
        begun
    }

    /// The hands are done: what was asked for, and what it came to. `None` if it has to be tried again when it is ready,
    /// and nobody has given up on it.
    pub(super) fn end<R>(&mut self, result: io::Result<R>) -> Option<(T, io::Result<R>)> {
        self.busy = false;
        let blocked = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.ready &= !blocked || mem::take(&mut self.again);
        if blocked && !self.cancelled {
            return None;
        }
        Some((self.asked.take()?, result))
    }

    /// What was asked for, if its end can be told at once; else it is when the hands are done.
    pub(super) fn cancel(&mut self) -> Option<T> {
        self.cancelled = true;
        self.asked.take_if(|_| !self.busy)
    }
}
