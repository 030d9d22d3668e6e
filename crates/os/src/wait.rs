//! Waiting for descriptors: poll(2), also where the system refuses it.
//!
//! A server that runs outlives a system that has no room for its list, and a limit of descriptors (`RLIMIT_NOFILE`)
//! that somebody lowered below the length of that list, which `poll` refuses however many are open.
#![forbid(unsafe_code)]

use std::{
    io, thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{self, PollFd, Timespec},
    io::Errno,
    process::{Resource, getrlimit},
};

use roadstead_drivers::net::REST;

/// Longer than anybody waits, and a time that clocks can still tell.
pub const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// A time to wait as the system takes it; one beyond that is for ever.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec::try_from(time).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

/// Waits until some are ready, and answers how many; `None`, after a rest, if the system would not look: any may be.
pub(crate) fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<Option<usize>, Errno> {
    let mut found = event::poll(fds, timeout.map(timespec).as_ref());
    if found == Err(Errno::INVAL) {
        found = poll_parts(fds, timeout.map_or(REST, |timeout| timeout.min(REST)));
    }
    match found {
        // With no descriptor allowed, not even one is looked at.
        Err(Errno::NOMEM | Errno::INVAL) => {
            thread::sleep(REST);
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// Looks at a list that is longer than the limit of descriptors in parts that are not. Only the first is waited for,
/// with what interrupts the wait.
fn poll_parts(fds: &mut [PollFd<'_>], wait: Duration) -> Result<usize, Errno> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let size = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    let mut found = 0;
    for (number, part) in fds.chunks_mut(size).enumerate().rev() {
        let wait = if number == 0 && found == 0 { wait } else { Duration::ZERO };
        found += event::poll(part, Some(&timespec(wait)))?;
    }
    Ok(found)
}

/// Waits until one of them is ready, the moment has come (never, if there is none), a signal interrupts, or the system
/// has refused to look.
pub fn wait_for(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    match poll(fds, until.map(|until| until.saturating_duration_since(Instant::now()))) {
        Err(error) if error != Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}
