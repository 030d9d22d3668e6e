//! Readiness by a ring: a poll for each direction that somebody wants to hear of. io_uring(7), `IORING_OP_POLL_ADD`.
//!
//! It is how a loop of datagrams waits on `uring`: what it was told of is received and sent by calls of its own, many
//! datagrams each. A poll completes once and is begun again by the next wait, so what is wanted is told of for as long as
//! it is true, as by poll(2).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use roadstead_drivers::reactor::{Poller, Readiness};
use roadstead_proto::ticket::{Token, WakeQueue};

use super::{
    operation::{Name, Operation, Ring},
    probe,
};
use crate::{scheduling::Scheduling, sockets::Os, wake_fd::WakeFd};

/// A ring, and what is wanted of each descriptor.
pub struct RingPoller {
    ring: Ring,
    wake_fd: WakeFd,
    watched: Vec<Watched>,
    scheduling: Scheduling,
}

struct Watched {
    fd: BorrowedFd<'static>,
    token: Token,
    receive: Direction,
    send: Direction,
}

/// Whether it is wanted, and the poll for it that is under way.
#[derive(Default)]
struct Direction {
    wanted: bool,
    poll: Option<Name>,
}

impl RingPoller {
    /// A poller that `wake_queue` can interrupt, on a ring of the thread that calls.
    pub fn new(wake_queue: &WakeQueue) -> io::Result<Self> {
        let (mut ring, wake_fd) = (Ring::new(probe::ring()?), WakeFd::new(wake_queue)?);
        ring.begin(Operation::Wake, &wake_fd);
        Ok(Self { ring, wake_fd, watched: Vec::new(), scheduling: Scheduling::new() })
    }

    fn set(&mut self, fd: &OwnedFd, token: Token, receive: bool, send: bool) {
        let number = fd.as_raw_fd();
        let known = self.watched.iter_mut().find(|watched| watched.fd.as_raw_fd() == number);
        let watched = match known {
            Some(watched) => watched,
            None => {
                // SAFETY: the loop removes every descriptor before it closes it.
                let fd = unsafe { BorrowedFd::borrow_raw(number) };
                let (receive, send) = (Direction::default(), Direction::default());
                self.watched.push(Watched { fd, token, receive, send });
                let Some(last) = self.watched.last_mut() else { return };
                last
            }
        };
        (watched.token, watched.receive.wanted, watched.send.wanted) = (token, receive, send);
    }

    /// What a completed poll says, if anybody still wants to hear of it.
    fn tell(&mut self, token: Token, receive: bool, ready: &mut Vec<Readiness>) {
        let Some(watched) = self.watched.iter_mut().find(|watched| watched.token == token) else { return };
        let direction = if receive { &mut watched.receive } else { &mut watched.send };
        direction.poll = None;
        if direction.wanted {
            ready.push(Readiness { token, readable: receive, writable: !receive, more: false });
        }
    }
}

impl Poller<Os> for RingPoller {
    fn listen(&mut self, listener: &OwnedFd, token: Token) -> io::Result<()> {
        self.set(listener, token, true, false);
        Ok(())
    }

    fn ignore(&mut self, listener: &OwnedFd) {
        self.remove(listener);
    }

    fn add(&mut self, stream: &OwnedFd, token: Token) -> io::Result<()> {
        self.set(stream, token, false, false);
        Ok(())
    }

    fn interest(&mut self, stream: &OwnedFd, token: Token, receive: bool, send: bool) -> io::Result<()> {
        self.set(stream, token, receive, send);
        Ok(())
    }

    /// A poll that is under way would keep the socket open.
    fn remove(&mut self, stream: &OwnedFd) {
        let Self { ring, watched, .. } = self;
        watched.retain(|watched| {
            let is_it = watched.fd.as_raw_fd() == stream.as_raw_fd();
            let polls = [watched.receive.poll, watched.send.poll].into_iter().flatten();
            polls.filter(|_| is_it).for_each(|name| ring.cancel(name));
            !is_it
        });
        // What goes wrong here goes wrong again in the next wait.
        let _ = ring.enter(Some(Duration::ZERO));
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, _: bool) -> io::Result<()> {
        let Self { ring, watched, .. } = self;
        for Watched { fd, token, receive, send } in watched {
            for (direction, operation) in
                [(receive, Operation::Readable(*token)), (send, Operation::Writable(*token))]
            {
                if direction.wanted && direction.poll.is_none() {
                    direction.poll = Some(ring.begin(operation, fd.as_fd()));
                }
            }
        }
        ring.enter(timeout)?;
        while let Some((operation, _)) = self.ring.next() {
            match operation {
                Operation::Wake => {
                    self.wake_fd.heard();
                    self.ring.begin(Operation::Wake, &self.wake_fd);
                }
                Operation::Readable(token) => self.tell(token, true, ready),
                Operation::Writable(token) => self.tell(token, false, ready),
                // It begins no others.
                _ => {}
            }
        }
        self.scheduling.heard(ready.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use super::*;
    use crate::completions::uring::obstacle;

    #[test]
    fn what_is_wanted_is_told_for_as_long_as_it_is_true_and_nothing_else_is() {
        if obstacle().is_some() {
            return;
        }
        let wake_queue = WakeQueue::new();
        let mut poller = RingPoller::new(&wake_queue).unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        let near = OwnedFd::from(near);
        poller.add(&near, Token(7)).unwrap();
        let mut told = |wanted, time| {
            let (receive, send) = wanted;
            poller.interest(&near, Token(7), receive, send).unwrap();
            let mut ready = Vec::new();
            poller.wait(&mut ready, Some(time), false).unwrap();
            ready.iter().map(|it| (it.readable, it.writable)).collect::<Vec<_>>()
        };
        let long = Duration::from_secs(20);
        assert_eq!(told((true, false), Duration::ZERO), []);
        assert_eq!(told((true, true), long), [(false, true)]);
        assert_eq!(told((false, false), Duration::ZERO), []);
        far.write_all(b"1").unwrap();
        for _ in 0..2 {
            assert_eq!(told((true, false), long), [(true, false)]);
        }
        poller.remove(&near);
        drop(near);
        assert!(far.write_all(b"2").is_err(), "it is closed");
    }
}
