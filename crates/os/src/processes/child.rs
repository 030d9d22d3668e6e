//! A process of its own for a function, or for what a type carries along: begun by fork(2), named, watched, waited for.
//!
//! A fork copies the process with all its memory, and of its threads the one that calls. What another thread had locked
//! at that moment, the heap for one, would stay locked in the copy, and half changed. So the rule is: **a process that
//! forks has one thread**. Each fork looks whether that is so, and is refused otherwise; nobody can begin a thread
//! between the look and the call, as the only one who could is making it. Where the rule holds the child finds all locks
//! and the heap as they should be, and may do whatever a program may: also begin threads, after which it may not fork.
//!
//! The child never returns to where it was begun. It runs what it was given and ends there, so no value that lives in
//! both is seen by a caller twice. Three calls are `unsafe` for that: fork(2), _exit(2), which the standard library has
//! not, and a look at who has ended. All else is plain Rust on the child's own copy of the memory.

use std::{
    ffi::CString,
    fmt,
    io::{self, Write},
    mem,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, getppid,
        kill_process, pidfd_open, set_parent_process_death_signal, waitid, waitpid,
    },
    thread::set_name,
};

use roadstead_drivers::net::REST;
use roadstead_proto::guard;

use crate::{
    signals::{self, Held, SIGCHLD},
    wait::{FOR_EVER, wait_for},
};

/// The longest name of a process that the system keeps, in bytes: prctl(2), `PR_SET_NAME`.
const LONGEST: usize = 15;
/// The status of a child that has panicked, as of any program of Rust.
const PANICKED: u8 = 101;
/// How long a thread that was joined has to be gone, in milliseconds.
const JOINED: u32 = 100;

/// What a child does: a function, or a type that carries its own data.
pub trait Run {
    /// Called in the child. The answer is its exit status: 0 if all went well.
    fn run(self) -> u8;
}

impl<F: FnOnce() -> u8> Run for F {
    fn run(self) -> u8 {
        self()
    }
}

/// A child that has been given something to do, and has not begun.
#[must_use = "there is no process before it is started"]
pub struct Unstarted<T> {
    task: T,
    name: Option<String>,
}

/// A process that this one has begun.
///
/// ```
/// # use roadstead_os::processes::child as process;
/// use process::{Child, Exit, Run};
///
/// // From a function:
/// let seven = Child::of(|| 3 + 4);
///
/// // From a type that carries its own data:
/// struct Sum(Vec<u8>);
///
/// impl Run for Sum {
///     fn run(self) -> u8 { self.0.iter().sum() }
/// }
///
/// let ten = Child::of(Sum(vec![1, 2, 3, 4])).named("adder");
///
/// let (mut seven, mut ten) = (seven.start()?, ten.start()?);
/// // Both run.
/// assert_eq!((seven.join(), ten.join()), (Exit::Exited(7), Exit::Exited(10)));
/// assert!(!ten.is_alive());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Its memory is a copy of its parent's as it was at the start: what either writes then, the other does not see. Its
/// descriptors are open in both. What it answers is a status; more comes back through a pipe, a socket or a file.
///
/// It gets SIGTERM when its parent ends, however that does; and when this value is dropped before it was joined it is
/// killed and waited for, so that neither an orphan nor a zombie stays. Whoever has a copy of the value by having been
/// forked is not its parent, and can do nothing to it.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: Pid,
    parent: Pid,
    begun: Instant,
    /// Once it was waited for. From then on its number may be somebody else's.
    exit: Option<Exit>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status: 101 if it has panicked.
    Exited(u8),
    /// By this signal.
    Killed(i32),
    /// Somebody else has waited for it, by wait(2) for any child, or the one who asks is not its parent.
    Unknown,
}

impl<T: Run> Unstarted<T> {
    /// Calls it `name`: in `/proc/PID/comm`, so also in ps(1) and top(1), which keep the first 15 bytes.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Has the system begin the process, and does not wait for it to do anything.
    ///
    /// Signals that this process handles the child handles as well, as it has the same functions; what is blocked or
    /// ignored here is so there. Two things differ: the handlers of a server that runs here or has run are this
    /// process's alone, and SIGTERM is neither blocked nor ignored. Where this process ignores SIGCHLD it does so no
    /// more: nobody could wait for a child.
    ///
    /// What the task holds is in both processes, and is dropped in this one as soon as the child has begun. A `Child` is
    /// killed by that, and a directory that goes with its value goes: lend it such things.
    ///
    /// # Errors
    /// If this process has other threads: see [the rule](self). If the system allows no more processes.
    pub fn start(self) -> io::Result<Child> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = self.name.unwrap_or_else(|| format!("child-{}", NUMBER.fetch_add(1, Relaxed)));
        let task = self.task;
        // A thread that was joined has a moment to be gone; who has others is told below.
        is_alone_soon()?;
        // Where it is ignored children leave nothing to wait for, and their numbers are free at once.
        signals::heed(&[SIGCHLD]);
        // What lies in the buffer would be in the child's as well, and be written by both.
        let _ = io::stdout().flush();
        Child::fork(name, |_, held| {
            signals::forget(held);
            let status = guard::catch(|| task.run());
            let _ = io::stdout().flush();
            status.unwrap_or(PANICKED)
        })
    }
}

impl Child {
    /// A child that is to run `task`. It is called `child-N` unless it is [given a name](Unstarted::named).
    pub fn of<T: Run>(task: T) -> Unstarted<T> {
        Unstarted { task, name: None }
    }

    /// Begins a child that runs `body`, told who its parent is. The signals of a server wait until it lets go of them.
    ///
    /// # Errors
    /// As [`Unstarted::start`].
    pub(crate) fn fork(name: String, body: impl FnOnce(Pid, Held) -> u8) -> io::Result<Self> {
        if !is_alone()? {
            return Err(io::Error::other("a process with other threads must not be forked"));
        }
        let parent = getpid();
        let held = Held::all();
        // SAFETY: this process has one thread, so that the child finds every lock and the heap as they should be.
        match unsafe { libc::fork() } {
            0 => {
                // Fails for no signal that exists. A parent that has ended meanwhile will not say so.
                let _ = set_parent_process_death_signal(Some(Signal::TERM));
                let _ = set_name(&comm(&name));
                exit(if is_orphan_of(parent) {
                    0
                } else {
                    guard::catch(|| body(parent, held)).unwrap_or(PANICKED)
                })
            }
            answer => {
                let begun = Instant::now();
                number_of(answer).map(|pid| Self { name, pid, parent, begun, exit: None })
            }
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number. Once it was joined another process may have it.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The number of the process that has begun it.
    pub fn parent(&self) -> u32 {
        self.parent.as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn is(&self, pid: Pid) -> bool {
        self.pid == pid
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Waits until it has ended, and answers how: at once, if it was joined before.
    pub fn join(&mut self) -> Exit {
        self.look(WaitOptions::empty()).unwrap_or(Exit::Unknown)
    }

    /// The same for so long at most; `None` if it lives on.
    pub fn join_within(&mut self, limit: Duration) -> Option<Exit> {
        let until = Instant::now() + limit.min(FOR_EVER);
        loop {
            let exit = self.look(WaitOptions::NOHANG);
            let left = until.saturating_duration_since(Instant::now());
            if exit.is_some() || left.is_zero() {
                return exit;
            }
            // Readable when it has ended. The number is still its own.
            let waited = pidfd_open(self.pid, PidfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(|end| wait_for(&mut [PollFd::new(&end, PollFlags::IN)], Some(until)));
            if waited.is_err() {
                // No descriptor is left.
                thread::sleep(REST.min(left));
            }
        }
    }

    /// Whether it lives: the system is asked, and one that has ended is joined by that.
    ///
    /// Never true after [`Child::join`]. After [`Child::terminate`] and [`Child::kill`] it is false soon, and not at
    /// once: a signal is only noted for the process, which ends when it is next given a processor, and has its memory
    /// and its descriptors taken from it before it counts as ended.
    pub fn is_alive(&mut self) -> bool {
        self.look(WaitOptions::NOHANG).is_none()
    }

    /// How it has ended; `None` as long as nobody has looked since it did.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Asks it to end: SIGTERM, whose effect is that nothing more is run, unless the child handles it. Does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it, whatever it does: SIGKILL. Does not wait.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Has it read its files again.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        // Once it was waited for, by whomever, the number may be a stranger's; and to a copy of its parent it is.
        if self.exit.is_none() && is_to_be_waited_for(self.pid) {
            // It may have ended already.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Whether this process has begun it, and is not a copy of the one that has.
    fn is_ours(&self) -> bool {
        getpid() == self.parent
    }

    /// How it has ended, if that is known or the system tells it now.
    fn look(&mut self, options: WaitOptions) -> Option<Exit> {
        while self.exit.is_none() {
            self.exit = match waitpid(Some(self.pid), options) {
                Ok(ended) => Some(exit_of(ended?.1)),
                Err(Errno::INTR) => None,
                Err(_) => Some(Exit::Unknown),
            };
        }
        self.exit
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_ours() {
            self.kill();
            self.join();
        }
    }
}

impl<T> fmt::Debug for Unstarted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unstarted").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}, child of {})", self.name, self.pid(), self.parent())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Exited(status) => write!(f, "exited with status {status}"),
            Exit::Killed(signal) => write!(f, "was killed by signal {signal}"),
            Exit::Unknown => f.write_str("has ended, and was waited for by somebody else"),
        }
    }
}

/// As much of a name as the system keeps.
fn comm(name: &str) -> CString {
    let mut kept: Vec<u8> = name.bytes().filter(|&byte| byte != 0).collect();
    while kept.len() > LONGEST || str::from_utf8(&kept).is_err() {
        kept.pop();
    }
    CString::new(kept).unwrap_or_default()
}

/// The child that fork(2) tells its parent of; or why there is none, if it has just failed.
fn number_of(answer: i32) -> io::Result<Pid> {
    // A negative number is none that may be asked about: kill(2) takes it for a group of processes, or all.
    let pid = if answer > 0 { Pid::from_raw(answer) } else { None };
    pid.ok_or_else(io::Error::last_os_error)
}

/// In a child: whether its parent is gone.
pub(crate) fn is_orphan_of(parent: Pid) -> bool {
    // Of a parent outside its namespace the system does not tell.
    getppid().is_some_and(|now| now != parent)
}

/// In a child: ends it, without running what its parent has registered for its own end.
pub(crate) fn exit(status: u8) -> ! {
    // SAFETY: it takes a number, and does not return.
    unsafe { libc::_exit(status.into()) }
}

/// Whether the thread that asks is this process's only one.
pub fn is_alone() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}

/// The same, but a thread that was joined has a moment to be gone: the system tells of its end before it counts it out.
pub fn is_alone_soon() -> io::Result<bool> {
    for _ in 0..JOINED {
        if is_alone()? {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(1));
    }
    is_alone()
}

/// Whether it is a child of this process that nobody has waited for.
fn is_to_be_waited_for(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).err() != Some(Errno::CHILD)
}

/// A child of this process that has ended and that nobody has waited for, whoever has begun it. It is left as it is:
/// the one who waits for it need not be the one who asks.
pub(crate) fn ended() -> Option<Pid> {
    // SAFETY: the record is plain integers, and outlives the call that fills it; if no child has ended its number is 0.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let found = libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
        if found == 0 { Pid::from_raw(info.si_pid()) } else { None }
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        // Eight bits are all that a status has.
        (Some(status), _) => Exit::Exited(status.to_le_bytes()[0]),
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
    fn a_name_is_kept_as_far_as_the_system_does_and_never_ends_within_a_letter() {
        for (name, kept) in [
            ("", ""),
            ("keeper", "keeper"),
            ("exactly-fifteen", "exactly-fifteen"),
            ("more-than-fifteen", "more-than-fifte"),
            ("fourteen-long-\u{e4}", "fourteen-long-"),
            ("with\0in", "within"),
        ] {
            assert_eq!(comm(name).to_str().unwrap(), kept);
        }
    }

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
