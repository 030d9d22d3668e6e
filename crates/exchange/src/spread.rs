//! How links are spread over the loops of a member.
//!
//! Each loop has a keeper, and a link stays on the loop on which it was begun, with its TLS and all that is read and
//! written for it. A link that a peer opens goes where the engine puts every connection that comes in: to the loop that
//! has fewest, of equals to the first. One that this side opens is *dealt* by the first keeper, which alone looks at the
//! time: to the loop that has fewest of those, of equals to the last, so that the two rules do not begin on the same
//! loop. Its keeper dials it. What is dealt counts until it is lost or could not be had, so it is bounded by what is
//! dialled and kept, and no loop is given two while another has none.
//!
//! All that links share is the hub, under one lock, which none of them keeps while it reads, writes or seals.
#![forbid(unsafe_code)]

use std::mem;

use roadstead_proto::ticket::Waker;

/// A link that this side opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialled {
    /// To whom, by position among the peers.
    pub(crate) to: usize,
    /// On which loop.
    pub(crate) on: usize,
}

/// The loops of a member.
pub(super) struct Spread(Vec<Share>);

/// What one loop has of the links that this side opens.
#[derive(Default)]
struct Share {
    keeper: Option<Waker>,
    /// Links dealt to it and not lost.
    has: usize,
    /// Whom its keeper has yet to dial.
    to_dial: Vec<usize>,
}

impl Spread {
    pub(super) fn over(loops: usize) -> Self {
        Self((0..loops.max(1)).map(|_| Share::default()).collect())
    }

    /// The keeper of a loop is known now.
    pub(super) fn keep(&mut self, on: usize, keeper: Waker) {
        self.0[on].keeper = Some(keeper);
    }

    /// Has the first keeper look.
    pub(super) fn wake_first(&self) {
        self.0[0].wake();
    }

    /// Has links to a peer dialled. The first keeper, who deals, is not woken for its own.
    pub(super) fn deal(&mut self, to: usize, links: usize) {
        for _ in 0..links {
            let fewest = (0..self.0.len()).rev().min_by_key(|&on| self.0[on].has).unwrap_or(0);
            let share = &mut self.0[fewest];
            share.has += 1;
            share.to_dial.push(to);
            if fewest > 0 {
                share.wake();
            }
        }
    }

    /// What the keeper of a loop has to dial.
    pub(super) fn dealt(&mut self, on: usize) -> Vec<Dialled> {
        mem::take(&mut self.0[on].to_dial).into_iter().map(|to| Dialled { to, on }).collect()
    }

    /// One that was dealt to a loop is lost, or was not to be had.
    pub(super) fn lost(&mut self, on: usize) {
        self.0[on].has = self.0[on].has.saturating_sub(1);
    }

    /// How many links each loop has of those that this side opens.
    #[cfg(test)]
    pub(super) fn each(&self) -> Vec<usize> {
        self.0.iter().map(|share| share.has).collect()
    }
}

impl Share {
    fn wake(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.wake();
        }
    }
}
