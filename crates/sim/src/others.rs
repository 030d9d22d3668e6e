//! How a node's other threads come to take steps while one of them asks the network something.

use std::{
    cell::OnceCell,
    rc::{Rc, Weak},
};

/// Threads of a node that are played.
pub(super) trait GoesOn {
    /// One thread is in the midst of a step: the network and the others may go on.
    fn go_on(&self);
}

/// The threads of a node that may go on while one of them is in the midst of a step. None in a node that is one loop.
#[derive(Clone, Default)]
pub(super) struct Others(Rc<OnceCell<Weak<dyn GoesOn>>>);

impl Others {
    pub(crate) fn are(&self, threads: &Rc<impl GoesOn + 'static>) {
        let threads = Rc::downgrade(threads);
        let _ = self.0.set(threads);
    }

    /// Lets some of them go on, or none.
    pub(crate) fn go_on(&self) {
        if let Some(threads) = self.0.get().and_then(Weak::upgrade) {
            threads.go_on();
        }
    }
}
