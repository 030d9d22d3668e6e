//! Waiting for descriptors until a moment: poll(2).
#![forbid(unsafe_code)]

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, Timespec, poll},
    io::Errno,
};

/// Longer than anybody waits, and a time that clocks can still tell.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// A time to wait as the system takes it; one beyond that is for ever.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

/// Waits until one of them is ready, the moment has come (never, if there is none), or a signal interrupts.
pub(crate) fn wait_for(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    let left = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
    match poll(fds, left.as_ref()) {
        Err(error) if error != Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}
