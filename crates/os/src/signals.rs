//! The signals of a server in its foreground, heard whatever its process has inherited; and signals that are read like
//! a file: signalfd(2).
//!
//! What ends or reloads a server comes by handlers, which a program that a session starts does not inherit: execve(2)
//! takes them back. Blocked or ignored signals would stay so in it, and it could not be ended.

use std::{
    io::{self, Error},
    mem::{self, MaybeUninit},
    os::{
        fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
    ptr,
    sync::OnceLock,
};

pub use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{backend::SignalDelivery, exfiltrator::SignalOnly};

/// All that concern a server in its foreground: who ends it, who wants its files read again, and which of its children
/// has ended.
const ALL: [i32; 4] = [SIGHUP, SIGINT, SIGTERM, SIGCHLD];

/// Has SIGINT, SIGTERM and SIGCHLD come to the thread that asks and to those it starts, with the effect that every
/// program begins with where they were ignored.
///
/// For the first line of a program that is to be ended by these signals, and to wait for programs that it starts, by
/// whomever it was started itself: a signal that was blocked or ignored there is so in a new program too (`env
/// --block-signal`, a shell's background job). `Server::run` does the same.
pub fn restore() {
    hear(&[SIGINT, SIGTERM, SIGCHLD]);
}

/// Has the program that `command` starts begin with no signal blocked, whatever is blocked in the thread that starts
/// it.
///
/// For programs that a session, or a job in its loop's thread, starts on the model `signal`. That thread has two
/// signals blocked, because they are how it hears of its connections, and a program inherits that.
///
/// ```
/// # use roadstead_os as roadstead;
/// use std::process::Command;
/// let status = roadstead::signals::unblocked(&mut Command::new("true")).status()?;
/// # assert!(status.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn unblocked(command: &mut Command) -> &mut Command {
    let none = set_of(&[]);
    let unblock = move || {
        // SAFETY: the set is initialised, and the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut()) } {
            0 => Ok(()),
            error => Err(Error::from_raw_os_error(error)),
        }
    };
    // SAFETY: between fork and exec nothing is called but what signal-safety(7) allows, and nothing is allocated.
    unsafe { command.pre_exec(unblock) }
}

/// Neither blocked in this thread nor ignored. Who handles them already still does.
fn hear(signals: &[i32]) {
    heed(signals);
    let set = set_of(signals);
    // SAFETY: the set is initialised, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
}

/// Not ignored.
pub(crate) fn heed(signals: &[i32]) {
    for &signal in signals {
        if action_of(signal).is_some_and(|action| action.sa_sigaction == libc::SIG_IGN) {
            reset(signal);
        }
    }
}

/// In a child that is to be a process of its own: what its parent has watched has the effect that every program begins
/// with. The handlers write to what is the parent's, which would take it for its own. SIGTERM ends it, and it can wait
/// for children.
pub(crate) fn forget(held: Held) {
    for signal in ALL {
        let is_watched = |action: libc::sigaction| {
            WATCHED.get().is_some_and(|watched| watched.sa_sigaction == action.sa_sigaction)
        };
        if action_of(signal).is_some_and(is_watched) {
            reset(signal);
        }
    }
    // What has come meanwhile would be thrown away where it is ignored.
    heed(&[SIGTERM, SIGCHLD]);
    drop(held);
    hear(&[SIGTERM, SIGCHLD]);
}

/// How signals that are watched are handled, all of them alike. A fork copies it.
static WATCHED: OnceLock<libc::sigaction> = OnceLock::new();

/// The handler of a signal that is watched is there: also in a child that has [forgotten](forget) it, where the library
/// that has set it in the parent believes that it still is.
fn handle(signal: i32) {
    let Some(action) = action_of(signal) else { return };
    if action.sa_sigaction != libc::SIG_DFL {
        WATCHED.get_or_init(|| action);
    } else if let Some(watched) = WATCHED.get() {
        // SAFETY: the system has told this action itself, and its function lives as long as the program.
        unsafe { libc::sigaction(signal, watched, ptr::null_mut()) };
    }
}

/// How this process handles a signal.
fn action_of(signal: i32) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the old one is written to where there is room for it, and read once it is.
    unsafe {
        let told = libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0;
        told.then(|| action.assume_init())
    }
}

/// The system handles a signal as it does in every program that begins.
fn reset(signal: i32) {
    // SAFETY: the action is one of the system's.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Signals of this process: whichever thread is given one, it is told of here. They have no other effect from then on,
/// also when this is dropped.
pub struct SignalQueue(SignalDelivery<UnixStream, SignalOnly>);

impl SignalQueue {
    /// Hears `signals` from now on.
    pub fn watch(signals: &[i32]) -> io::Result<Self> {
        let (queue, tell) = UnixStream::pair()?;
        let watched = Self(SignalDelivery::with_pipe(queue, tell, SignalOnly, signals)?);
        signals.iter().for_each(|&signal| handle(signal));
        hear(&ALL);
        Ok(watched)
    }

    /// One that has come. Those of a kind that come together are one. Never waits.
    pub fn take(&mut self) -> Option<i32> {
        self.0.pending().next()
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Keeps the signals of a server waiting in this thread, until it is dropped.
pub(crate) struct Held(libc::sigset_t);

impl Held {
    pub(crate) fn all() -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are valid for the call, which writes the second.
        Self(unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &set_of(&ALL), before.as_mut_ptr());
            before.assume_init()
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the system.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
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

#[cfg(test)]
mod tests {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        io::read,
    };

    use super::*;

    /// Which of these are blocked in this thread.
    fn blocked<const N: usize>(signals: [i32; N]) -> [bool; N] {
        let mut set = set_of(&[]);
        // SAFETY: both sets are valid for the calls; no mask is set.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set);
            signals.map(|signal| libc::sigismember(&set, signal) == 1)
        }
    }

    #[test]
    fn what_is_held_waits_until_it_is_let_go_and_nothing_else_does() {
        let before = blocked(ALL);
        let held = Held::all();
        assert_eq!(blocked([SIGHUP, SIGINT, SIGTERM, SIGCHLD]), [true; 4]);
        assert_eq!(blocked([libc::SIGUSR1, libc::SIGPIPE, libc::SIGSEGV]), [false; 3]);
        drop(held);
        assert_eq!(blocked(ALL), before);
    }

    #[test]
    fn signals_that_are_heard_are_blocked_no_more() {
        let _held = Held::all();
        hear(&[SIGINT, SIGCHLD]);
        assert_eq!(blocked([SIGINT, SIGCHLD, SIGTERM, SIGHUP]), [false, false, true, true]);
    }

    #[test]
    fn a_program_begins_with_nothing_blocked_if_that_is_asked_for() {
        let _held = Held::all();
        let begun = |command: &mut Command| {
            let status = command.args(["^SigBlk:", "/proc/self/status"]).output().unwrap().stdout;
            let status = String::from_utf8(status).unwrap();
            u64::from_str_radix(status.trim_start_matches("SigBlk:").trim(), 16).unwrap()
        };
        assert_ne!(begun(&mut Command::new("grep")), 0);
        assert_eq!(begun(unblocked(&mut Command::new("grep"))), 0);
    }

    #[test]
    fn a_queue_tells_of_the_signals_of_its_set_and_never_waits() {
        let set = set_of(&[libc::SIGWINCH]);
        // SAFETY: the set is initialised, and the signal is sent to this thread, where it is blocked.
        let queue = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            let queue = queue_of(&set).unwrap();
            libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH);
            queue
        };
        let mut told = [0; size_of::<libc::signalfd_siginfo>()];
        let mut ready = [PollFd::new(&queue, PollFlags::IN)];
        assert_eq!(poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1));
        assert_eq!(read(&queue, &mut told), Ok(told.len()));
        assert_eq!(told[..4], libc::SIGWINCH.to_ne_bytes());
        assert_eq!(read(&queue, &mut told), Err(rustix::io::Errno::AGAIN));
    }
}
