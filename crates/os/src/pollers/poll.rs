//! `poll`: the whole list of descriptors goes to the kernel and back in every turn. poll(2).
//!
//! The list is kept between turns, and a connection stands on it only while the loop wants something of it: `poll`
//! repeats what it has said for as long as it is true, and tells of errors whether it was asked or not.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
};

use roadstead_drivers::reactor::{Poller, Readiness};
use roadstead_proto::ticket::{Token, WakeQueue};

use crate::{scheduling::Scheduling, sockets::Os, wait::poll, wake_fd::WakeFd};

/// Stands for a descriptor that is not on the list.
const NOWHERE: usize = usize::MAX;

/// The list that is handed over at every wait.
pub struct Poll {
    interrupt: WakeFd,
    /// The interrupt first, then those of `tokens`, in the same order.
    fds: Vec<PollFd<'static>>,
    tokens: Vec<(RawFd, Token)>,
    /// Where each descriptor stands among the tokens, by its number.
    places: Vec<usize>,
    scheduling: Scheduling,
}

impl Poll {
    /// A poller that `wake_queue` can interrupt.
    pub fn new(wake_queue: &WakeQueue) -> io::Result<Self> {
        let interrupt = WakeFd::new(wake_queue)?;
        // SAFETY: the interrupt stays open as long as the list.
        let fd = unsafe { forget_lifetime(interrupt.as_fd()) };
        let fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let (tokens, places) = (Vec::new(), Vec::new());
        Ok(Self { interrupt, fds, tokens, places, scheduling: Scheduling::new() })
    }

    fn set(&mut self, fd: &OwnedFd, token: Token, flags: PollFlags) {
        let number = fd.as_raw_fd();
        if flags.is_empty() {
            return self.unset(number);
        }
        // SAFETY: the loop removes every descriptor from the list before it closes it.
        let fd = unsafe { forget_lifetime(fd.as_fd()) };
        let entry = PollFd::from_borrowed_fd(fd, flags);
        if self.places.len() <= number as usize {
            self.places.resize(number as usize + 1, NOWHERE);
        }
        match self.places[number as usize] {
            NOWHERE => {
                self.places[number as usize] = self.tokens.len();
                self.tokens.push((number, token));
                self.fds.push(entry);
            }
            place => {
                self.tokens[place] = (number, token);
                self.fds[place + 1] = entry;
            }
        }
    }

    fn unset(&mut self, number: RawFd) {
        let place = self.places.get(number as usize).copied().unwrap_or(NOWHERE);
        if place != NOWHERE {
            self.places[number as usize] = NOWHERE;
            self.tokens.swap_remove(place);
            self.fds.swap_remove(place + 1);
            if let Some((moved, _)) = self.tokens.get(place) {
                self.places[*moved as usize] = place;
            }
        }
    }
}

/// # Safety
/// The descriptor must stay open for as long as the result is used.
unsafe fn forget_lifetime(fd: BorrowedFd<'_>) -> BorrowedFd<'static> {
    // SAFETY: as the caller promises.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

impl Poller<Os> for Poll {
    fn listen(&mut self, listener: &OwnedFd, token: Token) -> io::Result<()> {
        self.set(listener, token, PollFlags::IN);
        Ok(())
    }

    fn ignore(&mut self, listener: &OwnedFd) {
        self.unset(listener.as_raw_fd());
    }

    fn add(&mut self, _: &OwnedFd, _: Token) -> io::Result<()> {
        // It stands on the list when the loop wants something of it.
        Ok(())
    }

    fn interest(&mut self, stream: &OwnedFd, token: Token, receive: bool, send: bool) -> io::Result<()> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, receive);
        flags.set(PollFlags::OUT, send);
        self.set(stream, token, flags);
        Ok(())
    }

    fn remove(&mut self, stream: &OwnedFd) {
        self.unset(stream.as_raw_fd());
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, _: bool) -> io::Result<()> {
        let mut left = match poll(&mut self.fds, timeout) {
            Err(Errno::INTR) => return Ok(()),
            Ok(None) => {
                self.interrupt.heard();
                let all = self.tokens.iter();
                let told = |&(_, token): &_| Readiness { token, readable: true, writable: true, more: false };
                ready.extend(all.map(told));
                return Ok(());
            }
            Ok(Some(found)) => found,
            Err(error) => return Err(error.into()),
        };
        if !self.fds[0].revents().is_empty() {
            left -= 1;
            self.interrupt.heard();
        }
        for (fd, (_, token)) in self.fds[1..].iter().zip(&self.tokens) {
            if left == 0 {
                break;
            }
            let flags = fd.revents();
            if flags.is_empty() {
                continue;
            }
            left -= 1;
            let broken = flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
            ready.push(Readiness {
                token: *token,
                readable: broken || flags.contains(PollFlags::IN),
                writable: broken || flags.contains(PollFlags::OUT),
                more: false,
            });
        }
        self.scheduling.heard(ready.len());
        Ok(())
    }
}
