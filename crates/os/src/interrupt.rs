//! How another thread ends a wait for descriptors: one of them becomes readable when the bell rings. eventfd(2).
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use roadstead_proto::ticket::Bell;

use crate::sockets;

/// A descriptor that becomes readable when a bell rings.
#[derive(Clone)]
pub struct Interrupt(Arc<OwnedFd>);

impl Interrupt {
    /// A descriptor that `bell` makes readable.
    pub fn new(bell: &Bell) -> io::Result<Self> {
        let event = Arc::new(sockets::event()?);
        let rung = Arc::clone(&event);
        bell.interrupt_with(move || {
            // Fails only when the counter is full, and then the wait is interrupted already.
            let _ = rustix::io::write(&rung, &1u64.to_ne_bytes());
        });
        Ok(Self(event))
    }

    /// Makes it unreadable until the bell rings again. Needless where only edges are told.
    pub(crate) fn heard(&self) {
        // Fails only when it is unreadable already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
