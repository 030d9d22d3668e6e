//! `select`: two sets of bits, one for each descriptor number, go to the kernel and come back. select(2).
//!
//! A set has room for numbers below 1,024. A descriptor beyond that is refused, and its connection closed with the
//! reason; written into a set it would change memory that is somebody else's.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    thread,
    time::Duration,
};

use rustix::{
    event::{
        FdSetElement, FdSetIter, fd_set_bound, fd_set_insert, fd_set_num_elements, fd_set_remove, select,
    },
    io::Errno,
};

use roadstead_drivers::{
    net::REST,
    reactor::{Poller, Readiness},
};
use roadstead_proto::ticket::{Token, WakeQueue};

use crate::{scheduling::Scheduling, sockets::Os, wait::timespec, wake_fd::WakeFd};

/// Descriptors that a set has room for: `FD_SETSIZE`.
const SIZE: RawFd = 1024;

type Set = Vec<FdSetElement>;

/// The sets that are handed over at every wait.
pub struct Select {
    interrupt: WakeFd,
    /// Whom to receive from and to send to.
    wanted: [Set; 2],
    /// What `select` makes of them.
    told: [Set; 2],
    /// By descriptor number.
    tokens: Vec<Token>,
    scheduling: Scheduling,
}

impl Select {
    /// A poller that `wake_queue` can interrupt.
    pub fn new(wake_queue: &WakeQueue) -> io::Result<Self> {
        let interrupt = WakeFd::new(wake_queue)?;
        let empty = || vec![FdSetElement::default(); fd_set_num_elements(SIZE as usize, SIZE)];
        let mut select = Self {
            interrupt,
            wanted: [empty(), empty()],
            told: [empty(), empty()],
            tokens: vec![Token(0); SIZE as usize],
            scheduling: Scheduling::new(),
        };
        let number = fits(select.interrupt.as_fd().as_raw_fd())?;
        fd_set_insert(&mut select.wanted[0], number);
        Ok(select)
    }

    fn set(&mut self, fd: &OwnedFd, token: Token, wanted: [bool; 2]) -> io::Result<()> {
        let number = fits(fd.as_raw_fd())?;
        self.tokens[number as usize] = token;
        for (set, wanted) in self.wanted.iter_mut().zip(wanted) {
            if wanted { fd_set_insert(set, number) } else { fd_set_remove(set, number) }
        }
        Ok(())
    }

    fn unset(&mut self, fd: &OwnedFd) {
        if let Ok(number) = fits(fd.as_raw_fd()) {
            self.wanted.iter_mut().for_each(|set| fd_set_remove(set, number));
        }
    }
}

fn fits(number: RawFd) -> io::Result<RawFd> {
    if number < SIZE {
        return Ok(number);
    }
    let last = SIZE - 1;
    Err(io::Error::other(format!(
        "descriptor {number} is beyond {last}, the last that select can watch; use poll or epoll"
    )))
}

impl Poller<Os> for Select {
    fn listen(&mut self, listener: &OwnedFd, token: Token) -> io::Result<()> {
        self.set(listener, token, [true, false])
    }

    fn ignore(&mut self, listener: &OwnedFd) {
        self.unset(listener);
    }

    fn add(&mut self, stream: &OwnedFd, token: Token) -> io::Result<()> {
        self.set(stream, token, [false, false])
    }

    fn interest(&mut self, stream: &OwnedFd, token: Token, receive: bool, send: bool) -> io::Result<()> {
        self.set(stream, token, [receive, send])
    }

    fn remove(&mut self, stream: &OwnedFd) {
        self.unset(stream);
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, _: bool) -> io::Result<()> {
        for (told, wanted) in self.told.iter_mut().zip(&self.wanted) {
            told.copy_from_slice(wanted);
        }
        let bound = self.told.iter().map(|set| fd_set_bound(set)).max().unwrap_or(0);
        let [read, write] = &mut self.told;
        // SAFETY: both sets have room for `bound` bits, and hold only descriptors that are open, as the loop removes
        // each before it closes it.
        let found = unsafe { select(bound, Some(read), Some(write), None, timeout.map(timespec).as_ref()) };
        match found {
            Err(Errno::INTR) => return Ok(()),
            // No room for a copy of the list.
            Err(Errno::NOMEM) => {
                thread::sleep(REST);
                return Ok(());
            }
            other => other?,
        };
        let interrupt = self.interrupt.as_fd().as_raw_fd();
        for (set, readable) in self.told.iter().zip([true, false]) {
            for number in FdSetIter::new(set) {
                if number == interrupt {
                    self.interrupt.heard();
                    continue;
                }
                let token = self.tokens[number as usize];
                ready.push(Readiness { token, readable, writable: !readable, more: false });
            }
        }
        self.scheduling.heard(ready.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use rustix::io::fcntl_dupfd_cloexec;

    use super::*;

    #[test]
    fn whoever_is_only_to_be_sent_to_is_looked_at_whatever_its_number() {
        let mut select = Select::new(&WakeQueue::new()).unwrap();
        let (mut stream, _other) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        // Far above all that is received from.
        let watched = fcntl_dupfd_cloexec(&stream, 900).unwrap();
        select.add(&watched, Token(7)).unwrap();
        select.interest(&watched, Token(7), false, true).unwrap();
        let mut look = || {
            let mut ready = Vec::new();
            select.wait(&mut ready, Some(Duration::ZERO), false).unwrap();
            ready
        };
        let told = Readiness { token: Token(7), readable: false, writable: true, more: false };
        assert_eq!(look(), [told]);
        while stream.write(&[0; 4096]).is_ok() {}
        assert_eq!(look(), [], "there is no room");
    }
}
