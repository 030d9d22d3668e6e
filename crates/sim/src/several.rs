//! Several loops of one node, of which one listens and hands connections to the others: the seed decides which of them
//! takes its next turn.
//!
//! A turn is never interleaved with another here. What the engine's loops share is accounts and an inbox, all of which is
//! under one lock, and what is put into it is found by a turn that begins later. An actor is found busy when the host says
//! so, and until the job that has it comes up.

use std::{io, time::Duration};

use crate::{dice::Dice, sockets::Shared, turns::Turns};

/// The loops of one node that have not ended.
pub(crate) struct Several {
    world: Shared,
    dice: Dice,
    loops: Vec<One>,
}

/// One of them, and the number of its poller.
pub(crate) struct One {
    pub(crate) turns: Box<dyn Turns>,
    pub(crate) poller: usize,
}

impl Several {
    pub(crate) fn new(world: Shared, dice: Dice, loops: Vec<One>) -> Self {
        Self { world, dice, loops }
    }
}

impl One {
    fn timeout(&mut self, world: &Shared) -> Option<Duration> {
        if world.borrow().has_ready(self.poller) { Some(Duration::ZERO) } else { self.turns.timeout() }
    }
}

impl Turns for Several {
    fn timeout(&mut self) -> Option<Duration> {
        let Self { world, loops, .. } = self;
        loops.iter_mut().filter_map(|one| one.timeout(world)).min()
    }

    fn turn(&mut self) -> io::Result<bool> {
        let Self { world, dice, loops } = self;
        let due = |one: &mut One| one.timeout(world) == Some(Duration::ZERO);
        let due: Vec<_> = (0..loops.len()).filter(|&number| due(&mut loops[number])).collect();
        let Some(&number) = due.get(dice.below(due.len().max(1))) else { return Ok(true) };
        if !loops[number].turns.turn()? {
            loops.remove(number);
        }
        Ok(!loops.is_empty())
    }
}
