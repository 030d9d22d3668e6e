//! What is known of one direction of a socket, and what is asked of it.
#![forbid(unsafe_code)]

use std::{io, mem};

/// One of a socket's two directions.
pub(super) struct Direction<T> {
    /// What is asked for.
    pub(crate) asked: Option<T>,
    /// An operation would not block.
    pub(crate) ready: bool,
    /// An operation is under way.
    pub(crate) busy: bool,
    /// It has become ready since it began.
    again: bool,
    /// Nobody waits for more than its end.
    cancelled: bool,
}

impl<T> Direction<T> {
    pub(crate) fn new(ready: bool) -> Self {
        Self { asked: None, ready, busy: false, again: false, cancelled: false }
    }

    /// What the poller says.
    pub(crate) fn hear(&mut self, ready: bool) {
        self.ready |= ready;
        self.again |= ready;
    }

    /// What may be begun now, if anything.
    pub(crate) fn begin(&mut self) -> Option<&T> {
        let begun = self.asked.as_ref().filter(|_| self.ready && !self.busy);
        self.again &= begun.is_none();
        begun
    }

    /// The operation is done: what was asked for, and what it came to. `None` if it has to be tried again when the
    /// socket is ready, and nobody has given up on it.
    pub(crate) fn end<R>(&mut self, result: io::Result<R>) -> Option<(T, io::Result<R>)> {
        self.busy = false;
        let blocked = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.ready &= !blocked || mem::take(&mut self.again);
        if blocked && !self.cancelled {
            return None;
        }
        Some((self.asked.take()?, result))
    }

    /// What was asked for, if its end can be told at once; else it is when the operation is done.
    pub(super) fn cancel(&mut self) -> Option<T> {
        self.cancelled = true;
        self.asked.take_if(|_| !self.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_ready_while_an_operation_is_under_way_is_tried_again_and_nothing_else_is() {
        for (meanwhile, again) in [(false, false), (true, true)] {
            let mut direction = Direction::new(true);
            direction.asked = Some(());
            direction.hear(true);
            assert!(direction.begin().is_some());
            direction.busy = true;
            assert!(direction.begin().is_none());
            direction.hear(meanwhile);
            assert!(direction.end::<()>(Err(io::ErrorKind::WouldBlock.into())).is_none());
            assert_eq!(direction.begin().is_some(), again);
        }
    }

    #[test]
    fn what_is_cancelled_is_over_at_once_or_with_the_operation_that_is_under_way_whatever_that_came_to() {
        let mut direction = Direction::new(false);
        direction.asked = Some(());
        assert!(direction.cancel().is_some());
        for result in [Ok(1), Err(io::ErrorKind::WouldBlock.into())] {
            let mut direction = Direction::new(true);
            (direction.asked, direction.busy) = (Some(()), true);
            assert!(direction.cancel().is_none());
            assert!(direction.end(result).is_some() && direction.cancel().is_none());
        }
    }
}
