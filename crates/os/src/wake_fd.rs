//! How another thread ends a wait for descriptors: one of them becomes readable when a [`WakeQueue`] interrupts the
//! wait. eventfd(2).
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use roadstead_proto::ticket::WakeQueue;

use crate::sockets;

/// A descriptor that becomes readable when a [`WakeQueue`] interrupts the wait.
#[derive(Clone)]
pub struct WakeFd(Arc<OwnedFd>);

impl WakeFd {
    /// A descriptor that `wake_queue` makes readable.
    pub fn new(wake_queue: &WakeQueue) -> io::Result<Self> {
        let event = Arc::new(sockets::event()?);
        let written = Arc::clone(&event);
        wake_queue.set_interrupt(move || {
            // Fails only when the counter is full, and then the wait is interrupted already.
            let _ = rustix::io::write(&written, &1u64.to_ne_bytes());
        });
        Ok(Self(event))
    }

    /// Makes it unreadable until the wake queue interrupts again. Needless where only edges are told.
    pub(crate) fn heard(&self) {
        // Fails only when it is unreadable already.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
