//! Listening sockets that a process begins with: sd_listen_fds(3), by which systemd and others start a server.

use std::{
    env,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::{
    processes::child,
    sockets::given::{self, NotAListener},
};

/// The first descriptor.
const FIRST: RawFd = 3;
/// What says that there are some, for which process, how many, and what they are called.
const PID: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// They have been handed out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why what a process begins with cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// It is not said how many there are.
    #[error("{COUNT} is to say with how many sockets this process begins, and is `{0}`")]
    Count(String),
    /// One is of another kind.
    #[error("descriptor {fd}, one of the {count} of {COUNT}, cannot be listened on: {why}")]
    Socket {
        /// Which.
        fd: RawFd,
        /// Of how many.
        count: RawFd,
        /// Why.
        why: NotAListener,
    },
}

/// The listening sockets that this process was started with: none, if nobody has started it with some. They are handed
/// out once. Programs that it starts inherit neither them nor, unless it has other threads by now, what the environment
/// says of them.
///
/// # Errors
/// If any of them cannot be listened on.
pub fn sockets() -> Result<Vec<OwnedFd>, ActivationError> {
    let said = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let for_us = said(PID).is_some_and(|pid| pid.parse() == Ok(process::id()));
    let Some(count) = said(COUNT).filter(|_| for_us && !TAKEN.swap(true, SeqCst)) else {
        return Ok(Vec::new());
    };
    if child::is_alone().unwrap_or(false) {
        for name in [PID, COUNT, NAMES] {
            // SAFETY: there is no other thread that could read the environment meanwhile.
            unsafe { env::remove_var(name) };
        }
    }
    let count = count.parse::<u16>().map_err(|_| ActivationError::Count(count))?.into();
    let fds = FIRST..FIRST + count;
    fds.map(|fd| take(fd).map_err(|why| ActivationError::Socket { fd, count, why })).collect()
}

fn take(fd: RawFd) -> Result<OwnedFd, NotAListener> {
    // SAFETY: only asked about, by calls that refuse a number which is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    given::check(borrowed)?;
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it listens, and whoever started this process has put it there for us: nothing else here knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
