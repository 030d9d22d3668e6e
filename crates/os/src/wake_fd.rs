//! How another thread ends a wait for descriptors: one of them becomes readable, when a [`WakeQueue`] interrupts the wait
//! of one thread, or when an alarm is rung for many. eventfd(2).
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use roadstead_proto::ticket::WakeQueue;

use crate::sockets;

/// A descriptor that becomes readable when a wait is to end.
#[derive(Clone)]
pub struct WakeFd {
    event: Arc<OwnedFd>,
    /// It stays readable, for all who wait or will: an alarm.
    stays: bool,
}

impl WakeFd {
    /// A descriptor that `wake_queue` makes readable.
    pub fn new(wake_queue: &WakeQueue) -> io::Result<Self> {
        let event = Arc::new(sockets::event()?);
        let written = Arc::clone(&event);
        wake_queue.set_interrupt(move || make_readable(&written));
        Ok(Self { event, stays: false })
    }

    /// A descriptor that is readable once it was rung.
    pub(crate) fn alarm() -> io::Result<Self> {
        Ok(Self { event: Arc::new(sockets::event()?), stays: true })
    }

    /// Rings an alarm.
    pub(crate) fn ring(&self) {
        make_readable(&self.event);
    }

    /// Makes it unreadable until the wake queue interrupts again, unless it is an alarm. Needless where only edges are
    /// told.
    pub(crate) fn heard(&self) {
        if !self.stays {
            // Fails only when it is unreadable already.
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
    }
}

fn make_readable(event: &OwnedFd) {
    // Fails only when the counter is full, and then it is readable already.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
