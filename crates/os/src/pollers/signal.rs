//! `signal`: the kernel queues a real-time signal for every change, with the descriptor's number in it. fcntl(2),
//! `F_SETSIG`; signalfd(2).
//!
//! The signals are for the loop's own thread, which has them blocked and reads them like a file, many at once. They
//! tell of changes, as an edge-triggered poller does: what was true before a descriptor was registered is not told, so
//! each is tried once at first. Their queue is bounded; when it overflows, plain `SIGIO` says that something was lost,
//! and one `poll` over all descriptors finds out what.
//!
//! Listeners are polled along with the signals. Whom its signals go to belongs to a socket and not to a descriptor: of
//! several processes that have a listener, only the last to ask would hear of anybody.

use std::{
    io::{self, Error},
    mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    thread::gettid,
};

use roadstead_drivers::reactor::{Poller, Readiness};
use roadstead_proto::ticket::{Token, WakeQueue};

use crate::{
    signals::{queue_of, set_of},
    sockets::Os,
    wait::poll,
    wake_fd::WakeFd,
};

/// Signals read at once.
const BATCH: usize = 64;

/// What is watched, and the signals that tell of it.
pub struct Signal {
    interrupt: WakeFd,
    /// Readable when signals wait for the thread that reads it.
    signals: OwnedFd,
    /// Whether this is the loop's thread already: signals are sent to threads by number.
    settled: bool,
    /// By descriptor number.
    watched: Vec<Option<Token>>,
    /// Told once without having been asked: the new ones, or all after an overflow.
    fresh: Vec<RawFd>,
    listeners: Vec<(RawFd, Token)>,
}

impl Signal {
    /// A poller that `wake_queue` can interrupt.
    pub fn new(wake_queue: &WakeQueue) -> io::Result<Self> {
        Ok(Self {
            interrupt: WakeFd::new(wake_queue)?,
            signals: queue_of(&signal_set())?,
            settled: false,
            watched: Vec::new(),
            fresh: Vec::new(),
            listeners: Vec::new(),
        })
    }

    /// Has signals sent to this thread from now on, and those of what was registered before.
    fn settle(&mut self) -> io::Result<()> {
        let set = signal_set();
        // SAFETY: the set is initialised, and the old mask is not asked for. Blocked, the signals end nobody.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
        if error != 0 {
            return Err(Error::from_raw_os_error(error));
        }
        self.settled = true;
        let early = self.watched.iter().enumerate().filter(|(_, watched)| watched.is_some());
        early.map(|(number, _)| number as RawFd).try_for_each(own)
    }

    fn watch(&mut self, fd: &OwnedFd, token: Token) -> io::Result<()> {
        let number = fd.as_raw_fd();
        if self.settled {
            own(number)?;
        }
        if self.watched.len() <= number as usize {
            self.watched.resize(number as usize + 1, None);
        }
        self.watched[number as usize] = Some(token);
        self.fresh.push(number);
        Ok(())
    }

    /// What is watched there now. A signal may be older than the descriptor that has its number.
    fn at(&self, number: RawFd) -> Option<Token> {
        self.watched.get(number as usize).copied().flatten()
    }

    fn tell(&mut self, number: RawFd, flags: PollFlags, ready: &mut Vec<Readiness>) {
        let Some(token) = self.at(number) else { return };
        let broken = flags.intersects(PollFlags::HUP | PollFlags::ERR);
        ready.push(Readiness {
            token,
            readable: broken || flags.contains(PollFlags::IN),
            writable: broken || flags.contains(PollFlags::OUT),
            // Neither the end nor urgent data is told of beforehand.
            more: true,
        });
    }

    /// What is true of these descriptors now.
    fn look_at(&self, numbers: &[RawFd]) -> io::Result<Vec<(RawFd, PollFlags)>> {
        let watched = numbers.iter().filter(|number| self.at(**number).is_some());
        let both = PollFlags::IN | PollFlags::OUT;
        let mut fds: Vec<PollFd<'_>> =
            watched.map(|number| PollFd::from_borrowed_fd(borrowed(*number), both)).collect();
        let looked = match poll(&mut fds, Some(Duration::ZERO)) {
            // Each is tried, since none would be told of again.
            Ok(None) | Err(Errno::INTR) => false,
            looked => looked?.is_some(),
        };
        let flags = |fd: &PollFd<'_>| if looked { fd.revents() } else { both };
        Ok(fds.iter().map(|fd| (fd.as_fd().as_raw_fd(), flags(fd))).collect())
    }

    /// Reads the signals that wait, a batch at most.
    fn read(&mut self, ready: &mut Vec<Readiness>) -> io::Result<()> {
        // SAFETY: it is made of numbers, and all of them may be zero.
        let mut batch: [libc::signalfd_siginfo; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes whole records into the batch, and no more than it has room for.
        let count = unsafe {
            libc::read(self.signals.as_raw_fd(), batch.as_mut_ptr().cast(), mem::size_of_val(&batch))
        };
        if count < 0 {
            let error = Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
        }
        let count = count as usize / mem::size_of::<libc::signalfd_siginfo>();
        for signal in &batch[..count] {
            if signal.ssi_signo == libc::SIGIO as u32 {
                tracing::debug!("the queue of signals has overflowed: all connections are looked at");
                let all = self.watched.iter().enumerate().filter(|(_, watched)| watched.is_some());
                self.fresh = all.map(|(number, _)| number as RawFd).collect();
            } else {
                self.tell(signal.ssi_fd, PollFlags::from_bits_truncate(signal.ssi_band as u16), ready);
            }
        }
        Ok(())
    }
}

/// A descriptor that is watched.
fn borrowed<'a>(number: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the loop has a descriptor forgotten before it closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// The signal that tells of changes. The others are left to whoever else wants one.
fn number() -> i32 {
    libc::SIGRTMIN()
}

/// That, and the one that says that some were lost.
fn signal_set() -> libc::sigset_t {
    set_of(&[number(), libc::SIGIO])
}

/// Whom a descriptor's signals are sent to: fcntl(2).
#[repr(C)]
struct Owner {
    kind: i32,
    id: i32,
}

const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;
const F_OWNER_TID: i32 = 0;

/// Has changes at a descriptor told to this thread.
fn own(fd: RawFd) -> io::Result<()> {
    let owner = Owner { kind: F_OWNER_TID, id: gettid().as_raw_nonzero().get() };
    // SAFETY: the structure is the one that this command reads; the others take and give numbers. A descriptor that is
    // not open is an error.
    let done = unsafe {
        libc::fcntl(fd, F_SETOWN_EX, &raw const owner) != -1
            && libc::fcntl(fd, F_SETSIG, number()) != -1
            && match libc::fcntl(fd, libc::F_GETFL) {
                -1 => false,
                flags => libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) != -1,
            }
    };
    if done { Ok(()) } else { Err(Error::last_os_error()) }
}

impl Poller<Os> for Signal {
    fn listen(&mut self, listener: &OwnedFd, token: Token) -> io::Result<()> {
        self.listeners.push((listener.as_raw_fd(), token));
        Ok(())
    }

    fn ignore(&mut self, listener: &OwnedFd) {
        self.listeners.retain(|(number, _)| *number != listener.as_raw_fd());
    }

    fn add(&mut self, stream: &OwnedFd, token: Token) -> io::Result<()> {
        self.watch(stream, token)
    }

    fn interest(&mut self, _: &OwnedFd, _: Token, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, stream: &OwnedFd) {
        let number = stream.as_raw_fd();
        if let Some(watched) = self.watched.get_mut(number as usize) {
            *watched = None;
        }
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, _: bool) -> io::Result<()> {
        if !self.settled {
            self.settle()?;
        }
        let fresh = mem::take(&mut self.fresh);
        for (number, flags) in self.look_at(&fresh)? {
            self.tell(number, flags, ready);
        }
        let timeout = if ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        let listeners = self.listeners.iter().map(|(number, _)| borrowed(*number));
        let fds = [self.signals.as_fd(), self.interrupt.as_fd()].into_iter().chain(listeners);
        let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let looked = match poll(&mut fds, timeout) {
            Err(Errno::INTR) => return Ok(()),
            looked => looked?.is_some(),
        };
        let came = |at: usize| !looked || !fds[at].revents().is_empty();
        for (_, (_, token)) in (2..).zip(&self.listeners).filter(|(at, _)| came(*at)) {
            ready.push(Readiness { token: *token, readable: true, writable: false, more: false });
        }
        let (signals, interrupt) = (came(0), came(1));
        if interrupt {
            self.interrupt.heard();
        }
        if signals { self.read(ready) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::fs::{Mode, OFlags, open};

    use roadstead_proto::tuning::Tuning;

    use super::*;
    use crate::sockets;

    #[test]
    fn what_cannot_be_watched_is_not_taken_for_watched() {
        let mut signal = Signal::new(&WakeQueue::new()).unwrap();
        signal.settled = true;
        // Such a descriptor sends nobody signals.
        let path = open("/", OFlags::PATH, Mode::empty()).unwrap();
        assert!(signal.add(&path, Token(7)).is_err());
        assert!(signal.at(path.as_raw_fd()).is_none() && signal.fresh.is_empty());
    }

    #[test]
    fn when_signals_were_lost_all_connections_are_looked_at() {
        let mut signal = Signal::new(&WakeQueue::new()).unwrap();
        let stream = crate::sockets::event().unwrap();
        signal.add(&stream, Token(7)).unwrap();
        let mut ready = Vec::new();
        signal.wait(&mut ready, Some(Duration::ZERO), false).unwrap();
        assert!(signal.fresh.is_empty());
        // SAFETY: it is for this thread alone, which has it blocked.
        assert_eq!(unsafe { libc::raise(libc::SIGIO) }, 0);
        signal.wait(&mut ready, Some(Duration::ZERO), false).unwrap();
        assert_eq!(signal.fresh, [stream.as_raw_fd()]);
    }

    #[test]
    fn of_a_listener_that_several_have_each_hears_who_waits_there_until_it_is_taken() {
        let listener = sockets::listen(([127, 0, 0, 1], 0).into(), 1, Tuning::default()).unwrap();
        let (other, at) = (listener.try_clone().unwrap(), Token::of_listener(3));
        let mut signals = [(); 2].map(|()| Signal::new(&WakeQueue::new()).unwrap());
        signals[0].listen(&listener, at).unwrap();
        signals[1].listen(&other, at).unwrap();
        let told = |signal: &mut Signal| {
            let mut ready = Vec::new();
            signal.wait(&mut ready, Some(Duration::ZERO), false).unwrap();
            ready.iter().map(|ready| (ready.token, ready.readable)).collect::<Vec<_>>()
        };
        signals.iter_mut().for_each(|signal| assert_eq!(told(signal), []));
        let _peer = TcpStream::connect(sockets::local_address(&listener).unwrap()).unwrap();
        for _ in 0..2 {
            signals.iter_mut().for_each(|signal| assert_eq!(told(signal), [(at, true)]));
        }
        signals[0].ignore(&listener);
        assert_eq!((told(&mut signals[0]), told(&mut signals[1])), (vec![], vec![(at, true)]));
    }
}
