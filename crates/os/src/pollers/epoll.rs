//! `epoll`: the kernel keeps the list of descriptors and hands back those that changed. epoll(7).
//!
//! Connections are registered once, edge-triggered for both directions, and never touched again: the loop remembers
//! what is readable and writable. Listeners are level-triggered, so that a connection left in the backlog is told of
//! again. Connections can be too, to compare: then the kernel is told of every wish, and tells of a state until it
//! ends.
//!
//! A receive that is not filled has emptied the socket, which saves the call that would say so: unless it has stopped
//! before urgent data (`MSG_OOB`), which the kernel keeps apart. `EPOLLPRI` tells of such data along with the bytes,
//! and from then on that connection is received from until it would block. The urgent byte itself is nothing that a
//! session could be told of in order (RFC 6093), and is dropped, as on every model.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{event::epoll, io::Errno};

use roadstead_drivers::reactor::{Poller, Readiness};
use roadstead_proto::ticket::{Token, WakeQueue};

use crate::{scheduling::Scheduling, sockets::Os, wait::timespec, wake_fd::WakeFd};

/// Events taken per wait.
const BATCH: usize = 256;

/// The name of the descriptor by which other threads interrupt the wait.
const INTERRUPT: u64 = u64::MAX;

/// The list that the kernel keeps.
pub struct Epoll {
    epoll: OwnedFd,
    _interrupt: WakeFd,
    events: Vec<epoll::Event>,
    trigger: Trigger,
    scheduling: Scheduling,
}

/// When epoll tells of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trigger {
    /// Once, when it becomes ready.
    #[default]
    Edge,
    /// For as long as it is ready.
    Level,
}

impl Epoll {
    /// A poller that `wake_queue` can interrupt.
    pub fn new(wake_queue: &WakeQueue, trigger: Trigger) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interrupt = WakeFd::new(wake_queue)?;
        // Edge-triggered: every interrupt is a new edge, so the descriptor is never read.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &interrupt, epoll::EventData::new_u64(INTERRUPT), flags)?;
        let (events, scheduling) = (Vec::with_capacity(BATCH), Scheduling::new());
        Ok(Self { epoll, _interrupt: interrupt, events, trigger, scheduling })
    }

    fn register(&self, fd: impl AsFd, token: Token, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.0), flags)?)
    }
}

fn wanted(receive: bool, send: bool) -> epoll::EventFlags {
    use epoll::EventFlags as E;
    let mut wanted = E::empty();
    wanted.set(E::IN | E::RDHUP, receive);
    wanted.set(E::OUT, send);
    wanted
}

fn modify(epoll: &OwnedFd, stream: &OwnedFd, token: Token, flags: epoll::EventFlags) -> io::Result<()> {
    Ok(epoll::modify(epoll, stream, epoll::EventData::new_u64(token.0), flags)?)
}

impl Poller<Os> for Epoll {
    fn listen(&mut self, listener: &OwnedFd, token: Token) -> io::Result<()> {
        self.register(listener, token, epoll::EventFlags::IN)
    }

    fn ignore(&mut self, listener: &OwnedFd) {
        // Another loop may hold the same socket, so closing it would not be enough. Nothing can be done on failure.
        let _ = epoll::delete(&self.epoll, listener);
    }

    fn add(&mut self, stream: &OwnedFd, token: Token) -> io::Result<()> {
        use epoll::EventFlags as E;
        match self.trigger {
            Trigger::Edge => self.register(stream, token, E::IN | E::PRI | E::OUT | E::RDHUP | E::ET),
            Trigger::Level => Ok(()),
        }
    }

    fn interest(&mut self, stream: &OwnedFd, token: Token, receive: bool, send: bool) -> io::Result<()> {
        match self.trigger {
            Trigger::Edge => Ok(()),
            // Of an error or a reset the kernel tells whether it was asked or not, over and over.
            Trigger::Level if !receive && !send => Ok(epoll::delete(&self.epoll, stream)?),
            Trigger::Level => match modify(&self.epoll, stream, token, wanted(receive, send)) {
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                    self.register(stream, token, wanted(receive, send))
                }
                modified => modified,
            },
        }
    }

    fn remove(&mut self, _: &OwnedFd) {
        // The close that follows removes it: nobody else holds the descriptor.
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, _: bool) -> io::Result<()> {
        let timeout = timeout.map(timespec);
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            other => other?,
        };
        self.scheduling.heard(self.events.len());
        for event in &self.events {
            use epoll::EventFlags as E;
            let (token, flags) = (event.data.u64(), event.flags);
            if token != INTERRUPT {
                let broken = flags.intersects(E::HUP | E::ERR);
                ready.push(Readiness {
                    token: Token(token),
                    readable: broken || flags.intersects(E::IN | E::PRI | E::RDHUP),
                    writable: broken || flags.contains(E::OUT),
                    more: broken || flags.intersects(E::RDHUP | E::PRI),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    use rustix::{
        event::{PollFd, PollFlags, poll},
        net::{SendFlags, send, sockopt},
    };

    use super::*;

    #[test]
    fn more_may_follow_where_there_is_urgent_data_and_nowhere_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = OwnedFd::from(listener.accept().unwrap().0);
        let mut epoll = Epoll::new(&WakeQueue::new(), Trigger::Edge).unwrap();
        epoll.add(&stream, Token(7)).unwrap();
        let mut told = |what: &str| {
            let mut ready = Vec::new();
            epoll.wait(&mut ready, Some(Duration::from_secs(30)), false).unwrap();
            let [ready] = ready[..] else { panic!("{what} is not told of") };
            assert!(ready.readable, "{what}");
            ready.more
        };
        peer.write_all(b"plain").unwrap();
        assert!(!told("plain data"));
        send(&peer, b"!", SendFlags::OOB).unwrap();
        assert!(told("urgent data"));
    }

    #[test]
    fn levels_are_told_of_a_reset_when_something_is_wanted_and_not_before() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = OwnedFd::from(listener.accept().unwrap().0);
        let mut epoll = Epoll::new(&WakeQueue::new(), Trigger::Level).unwrap();
        epoll.add(&stream, Token(7)).unwrap();
        epoll.interest(&stream, Token(7), true, false).unwrap();
        epoll.interest(&stream, Token(7), false, false).unwrap();
        sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        let mut fds = [PollFd::new(&stream, PollFlags::empty())];
        assert_eq!(poll(&mut fds, Some(&timespec(Duration::from_secs(30)))).unwrap(), 1, "it is reset");
        for (wanted, told) in [(false, 0), (true, 1)] {
            if wanted {
                epoll.interest(&stream, Token(7), true, false).unwrap();
            }
            let mut ready = Vec::new();
            epoll.wait(&mut ready, Some(Duration::ZERO), false).unwrap();
            assert_eq!(ready.len(), told);
            assert!(ready.iter().all(|it| it.token == Token(7) && it.readable));
        }
    }
}
