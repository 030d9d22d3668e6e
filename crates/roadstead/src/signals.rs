//! Signals that are read like a file: signalfd(2), and a socket where other threads may be given them; and those of a
//! server in its foreground.

use std::{
    io::{self, Error, Read},
    mem::{self, MaybeUninit},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    ptr,
};

use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    low_level,
};

/// What a server in its foreground listens to: who ends it, and who of its children has ended.
const WATCHED: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD];

/// A signal that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// SIGINT or SIGTERM.
    End,
    /// SIGCHLD.
    Child,
}

/// Keeps the signals from their usual effect, and tells of them instead, until it is dropped.
pub(crate) struct Signals {
    queue: OwnedFd,
    before: libc::sigset_t,
}

impl Signals {
    /// For the thread that asks, and for those it starts.
    pub(crate) fn watch() -> io::Result<Self> {
        let set = set_of(&WATCHED);
        let mut before = MaybeUninit::uninit();
        // SAFETY: SIGCHLD gets the action that every process begins with: with another one, children would leave no
        // status. Both sets are valid for the calls, and `before` is written by the second.
        let before = unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr());
            before.assume_init()
        };
        Ok(Self { queue: queue_of(&set)?, before })
    }

    /// The next that has come; `None` if none has. Never waits.
    pub(crate) fn next(&self) -> Option<Came> {
        let mut told = [0; size_of::<libc::signalfd_siginfo>()];
        if rustix::io::read(&self.queue, &mut told).ok()? < told.len() {
            return None;
        }
        // SAFETY: the system has written one such structure, of plain integers.
        let told: libc::signalfd_siginfo = unsafe { ptr::read_unaligned(told.as_ptr().cast()) };
        Some(if told.ssi_signo == libc::SIGCHLD as u32 { Came::Child } else { Came::End })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the system.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// SIGINT and SIGTERM of a process that may have any threads: whichever is given one, it arrives here as a byte. They
/// have no other effect from then on, also when this is dropped.
pub(crate) struct Interrupts {
    queue: UnixStream,
    registered: Vec<SigId>,
}

impl Interrupts {
    pub(crate) fn watch() -> io::Result<Self> {
        let (queue, tell) = UnixStream::pair()?;
        queue.set_nonblocking(true)?;
        let mut interrupts = Self { queue, registered: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            interrupts.registered.push(low_level::pipe::register(signal, tell.try_clone()?)?);
        }
        Ok(interrupts)
    }

    /// Whether one more has come. Never waits.
    pub(crate) fn next(&self) -> bool {
        matches!((&self.queue).read(&mut [0]), Ok(1))
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for signal in self.registered.drain(..) {
            low_level::unregister(signal);
        }
    }
}

/// In a child, where SIGTERM is kept from its usual effect as in its parent: waits until it comes.
pub(crate) fn wait_for_term() {
    let set = set_of(&[libc::SIGTERM]);
    let mut came = 0;
    // SAFETY: the set is initialised and the number is ours.
    while unsafe { libc::sigwait(&set, &mut came) } != 0 {}
}

/// A descriptor that is readable when signals of the set wait for the thread that reads it.
pub(crate) fn queue_of(set: &libc::sigset_t) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised; a new descriptor is asked for.
    let queue = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if queue < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(queue) })
}

/// These signals and no others.
pub(crate) fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a signal set is plain integers, and is emptied before anything is put into it.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}
