//! A child process: begun by a fork, watched, and waited for.

use std::{fmt, io, time::Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, set_parent_process_death_signal,
    wait,
};

use roadstead_proto::guard;

use crate::signals::Held;

/// A child that has not been waited for yet, so that its number is nobody else's.
pub(crate) struct Child {
    name: String,
    pid: Pid,
    parent: Pid,
    begun: Instant,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Child {
    /// Begins a child that runs `body`, told who its parent is, and exits with its answer. It gets SIGTERM when its
    /// parent ends. Signals wait until it listens for some itself.
    ///
    /// # Errors
    /// If the system allows no more processes, or this one has other threads: what they had locked would stay locked.
    pub(crate) fn fork(name: String, body: impl FnOnce(Pid) -> i32) -> io::Result<Self> {
        if !is_alone()? {
            return Err(io::Error::other("a process with other threads must not be forked"));
        }
        let parent = getpid();
        let _held = Held::all();
        // SAFETY: this process has one thread, so that the child finds every lock and the heap as they should be.
        match unsafe { libc::fork() } {
            0 => {
                // Fails for no signal that exists. A parent that has ended meanwhile will not say so.
                let _ = set_parent_process_death_signal(Some(Signal::TERM));
                exit(if is_orphan_of(parent) { 0 } else { guard::call(|| body(parent)).unwrap_or(101) })
            }
            answer => number_of(answer).map(|pid| Self { name, pid, parent, begun: Instant::now() }),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Asks it to finish what it is at and end.
    pub(crate) fn terminate(&self) {
        // It may have ended already.
        let _ = kill_process(self.pid, Signal::TERM);
    }

    /// Has it read its files again.
    pub(crate) fn reload(&self) {
        // It may have ended already.
        let _ = kill_process(self.pid, Signal::HUP);
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        // It may have ended already.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pid, parent, .. } = self;
        write!(f, "{name} (process {}, child of {})", pid.as_raw_nonzero(), parent.as_raw_nonzero())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Exited(status) => write!(f, "exited with status {status}"),
            Exit::Killed(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// The child that fork(2) tells its parent of; or why there is none, if it has just failed.
fn number_of(answer: i32) -> io::Result<Pid> {
    // A negative number is none that may be asked about: kill(2) takes it for a group of processes, or all.
    let pid = if answer > 0 { Pid::from_raw(answer) } else { None };
    pid.ok_or_else(io::Error::last_os_error)
}

/// In a child: whether its parent is gone.
pub(crate) fn is_orphan_of(parent: Pid) -> bool {
    getppid() != Some(parent)
}

/// In a child: ends it, without running what its parent has registered for its own end.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: it takes a number, and does not return.
    unsafe { libc::_exit(status) }
}

/// Whether the thread that asks is this process's only one.
pub fn is_alone() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}

/// Takes note of one child that has ended, and with that frees its number; `None` if none has. With `patient` it waits
/// for one.
pub(crate) fn join_one(patient: bool) -> Option<(Pid, Exit)> {
    let options = if patient { WaitOptions::empty() } else { WaitOptions::NOHANG };
    loop {
        return match wait(options) {
            Ok(ended) => ended.map(|(pid, status)| (pid, ending(status))),
            Err(rustix::io::Errno::INTR) => continue,
            // There are no children.
            Err(_) => None,
        };
    }
}

fn ending(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Exit::Exited(status),
        (None, signal) => Exit::Killed(signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use roadstead_proto::{
        budget::Budget,
        host::Shared,
        queue::{Jobs, Queue},
    };

    use super::*;
    use crate::host::on_system;

    #[test]
    fn a_fork_that_fails_is_an_error_and_no_child() {
        assert!(number_of(-1).is_err());
        assert_eq!(number_of(7).unwrap().as_raw_nonzero().get(), 7);
    }

    /// A fork copies all memory, as a snapshot of a virtual machine does that is resumed twice.
    #[test]
    fn two_copies_of_a_loop_do_not_draw_the_same_numbers() {
        let mut host = on_system(Shared::new(Budget::default()), Jobs::Inline(Queue::default().discipline()));
        let mut draw = || {
            let mut nonce = [0; 16];
            (host.random)(&mut nonce).map(|()| nonce)
        };
        draw().unwrap();
        let (mut read, mut write) = io::pipe().unwrap();
        // SAFETY: the child allocates nothing and takes no lock: it asks the system for bytes, writes them and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let sent = draw().and_then(|nonce| write.write_all(&nonce));
            // SAFETY: ends the process without running what its parent has registered for its own end.
            unsafe { libc::_exit(sent.is_err().into()) }
        }
        drop(write);
        let mut theirs = Vec::new();
        read.read_to_end(&mut theirs).unwrap();
        let mut status = 0;
        // SAFETY: `status` outlives the call, and the child is this test's own.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!((theirs.len(), status), (16, 0));
        assert_ne!(theirs, draw().unwrap());
    }
}
