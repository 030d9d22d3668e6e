//! The real loops that a simulated machine may be, and what a run asks of each.

use std::{io, rc::Rc, time::Duration};

use super::{
    crew::Crew,
    sockets::{Sockets, Watcher},
};
use crate::{
    proactor::{Proactor, emulated::Emulated},
    reactor::Reactor,
};

/// One of the real loops.
pub(super) trait Turns {
    /// How long the next turn would wait; `None`: until something happens.
    fn timeout(&mut self) -> Option<Duration>;
    /// One turn. False when the loop has nothing left to live for.
    fn turn(&mut self) -> io::Result<bool>;
}

/// The loops that a node may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loop {
    Reactor,
    Proactor,
    /// A reactor whose workers receive and send.
    Crew,
}

impl Loop {
    /// Every mixture of loops comes up, whichever node is looked at.
    pub(super) fn of(seed: u64, node: usize) -> Self {
        let digit = seed / [1, 3, 9][node % 3] % 3;
        [Self::Reactor, Self::Proactor, Self::Crew][digit as usize]
    }
}

impl Turns for Reactor<Sockets, Watcher> {
    fn timeout(&mut self) -> Option<Duration> {
        self.timeout()
    }
    fn turn(&mut self) -> io::Result<bool> {
        self.turn()
    }
}

impl Turns for Proactor<Emulated<Sockets, Watcher>> {
    fn timeout(&mut self) -> Option<Duration> {
        self.timeout()
    }
    fn turn(&mut self) -> io::Result<bool> {
        self.turn()
    }
}

impl Turns for Rc<Crew> {
    fn timeout(&mut self) -> Option<Duration> {
        Crew::timeout(self)
    }
    fn turn(&mut self) -> io::Result<bool> {
        Crew::turn(self)
    }
}
