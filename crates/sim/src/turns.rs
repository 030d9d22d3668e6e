//! Which of the real loops a simulated machine is, and what a run asks of each.

use std::{io, time::Duration};

/// One of the real loops.
pub(super) trait Turns {
    /// How long the next turn would wait; `None`: until something happens.
    fn timeout(&mut self) -> Option<Duration>;
    /// One turn. False when the loop has nothing left to live for.
    fn turn(&mut self) -> io::Result<bool>;
}

/// The loops that a node may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    Reactor,
    Proactor,
    /// A reactor whose workers receive and send.
    Workers,
}

impl Loop {
    /// Every mixture of loops comes up, whichever node is looked at.
    pub(crate) fn of(seed: u64, node: usize) -> Self {
        let digit = seed / [1, 3, 9][node % 3] % 3;
        [Self::Reactor, Self::Proactor, Self::Workers][digit as usize]
    }

    /// How many there are of it on that node, from one to three; workers have one before them.
    pub(crate) fn count(self, seed: u64, node: usize) -> usize {
        if self == Self::Workers { 1 } else { 1 + (seed / [3, 9, 1][node % 3] % 3) as usize }
    }
}
