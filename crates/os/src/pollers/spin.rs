//! `spin`: nobody is asked who is ready; everybody is tried, over and over. fcntl(2), `O_NONBLOCK`.
//!
//! It answers sooner than any other poller and never lets its core rest under load. When nothing has moved it yields
//! the core for some turns, and then sleeps for longer and longer, at most a millisecond: so long does it take at
//! worst to notice somebody when all were quiet.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::Duration,
};

use roadstead_drivers::reactor::{Poller, Readiness};
use roadstead_proto::ticket::Token;

use crate::sockets::Os;

/// Turns in which nothing moved before it sleeps.
const YIELDS: u32 = 64;
/// The first sleep; it doubles.
const FIRST: Duration = Duration::from_micros(8);
/// The longest.
const LONGEST: Duration = Duration::from_millis(1);

/// What is tried on a descriptor.
#[derive(Clone, Copy)]
struct Try {
    token: Token,
    receive: bool,
    send: bool,
}

/// What is asked in turn.
#[derive(Default)]
pub struct Spin {
    /// By descriptor number.
    tries: Vec<Option<Try>>,
    idle_turns: u32,
}

impl Spin {
    fn set(&mut self, fd: &OwnedFd, to: Option<Try>) {
        let number = fd.as_raw_fd() as usize;
        if self.tries.len() <= number {
            self.tries.resize(number + 1, None);
        }
        self.tries[number] = to;
    }

    /// How long to leave the core to others.
    fn pause(&mut self, idle: bool, timeout: Option<Duration>) {
        if !idle {
            self.idle_turns = 0;
            return;
        }
        self.idle_turns = self.idle_turns.saturating_add(1);
        match self.idle_turns.checked_sub(YIELDS) {
            None => thread::yield_now(),
            Some(turns) => {
                let sleep = FIRST * (1 << turns.min(7));
                thread::sleep(sleep.min(LONGEST).min(timeout.unwrap_or(LONGEST)));
            }
        }
    }
}

impl Poller<Os> for Spin {
    fn listen(&mut self, listener: &OwnedFd, token: Token) -> io::Result<()> {
        self.set(listener, Some(Try { token, receive: true, send: false }));
        Ok(())
    }

    fn ignore(&mut self, listener: &OwnedFd) {
        self.set(listener, None);
    }

    fn add(&mut self, _: &OwnedFd, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn interest(&mut self, stream: &OwnedFd, token: Token, receive: bool, send: bool) -> io::Result<()> {
        self.set(stream, (receive || send).then_some(Try { token, receive, send }));
        Ok(())
    }

    fn remove(&mut self, stream: &OwnedFd) {
        self.set(stream, None);
    }

    fn wait(&mut self, ready: &mut Vec<Readiness>, timeout: Option<Duration>, idle: bool) -> io::Result<()> {
        self.pause(idle && timeout != Some(Duration::ZERO), timeout);
        let all = self.tries.iter().flatten();
        ready.extend(all.map(|it| Readiness {
            token: it.token,
            readable: it.receive,
            writable: it.send,
            more: false,
        }));
        Ok(())
    }
}
