//! What of an output is lent to operations in flight, which work on it by themselves.
//!
//! It is lent by handing it over, so that nothing is copied, and nothing that is written meanwhile moves it. Until it
//! comes home the output counts it as its own: what was not sent of it as unsent, and all of it as kept from others.
#![forbid(unsafe_code)]

use std::{mem, ops::Deref};

use super::{Output, Piece};
use crate::budget::give_back;

/// Pieces that are lent at most to one operation.
pub(super) const PIECES: usize = 16;

/// What comes next of an output, for one operation.
#[derive(Debug)]
pub struct Lent {
    output: Output,
    /// Which loan of its output's this is.
    number: u32,
    /// What it counts for where a loop limits how much it lends at once.
    pub weight: usize,
}

impl Lent {
    /// Nothing yet.
    pub fn new() -> Box<Self> {
        Box::new(Self { output: Output::new(usize::MAX), number: 0, weight: 0 })
    }

    /// Lets go of what is left of it, but not of the room for so many pieces and a small answer.
    pub fn clear(&mut self) {
        self.output.pieces.clear();
        (self.output.held, self.output.reserved, self.output.files) = (0, 0, 0);
        self.output.release_tail();
    }

    /// What it keeps from others. Room that it only brings along is not its output's.
    fn size(&self) -> usize {
        self.output.reserved + if self.output.tail.is_empty() { 0 } else { self.output.tail_size }
    }

    fn len(&self) -> u64 {
        self.output.pieces.iter().map(Piece::len).sum::<u64>() + self.output.tail.len() as u64
    }
}

impl Deref for Lent {
    type Target = Output;
    fn deref(&self) -> &Output {
        &self.output
    }
}

impl Output {
    /// Whether something is lent that was not sent: what follows it can be lent when that has come home.
    #[doc(hidden)]
    pub fn is_lent(&self) -> bool {
        self.loan.unsent > 0
    }

    /// Lends what comes next, up to the first file range, by means of `lent`, in which there is nothing. For the tail it
    /// takes the room for a small answer that `lent` brings along.
    #[doc(hidden)]
    pub fn lend(&mut self, lent: &mut Lent) {
        debug_assert!(!self.is_lent() && lent.output.is_empty());
        // One that has just come home was not there when it was said how much may go.
        self.cut_file();
        let file = loop {
            if lent.output.pieces.len() == PIECES {
                break false;
            }
            let Some(piece) = self.pieces.pop_front() else { break false };
            let file = matches!(piece, Piece::File(_));
            lent.output.push(piece);
            if file {
                break true;
            }
        };
        if !file && lent.output.pieces.len() < PIECES && !self.tail.is_empty() {
            self.held += self.tail.len();
            self.swap_tails(lent);
            self.reserved += lent.output.tail_size;
        }
        lent.output.allowed = self.allowed;
        self.loan.number = self.loan.number.wrapping_add(1);
        lent.number = self.loan.number;
        (self.loan.unsent, self.loan.held) = (lent.len(), lent.output.buffered());
    }

    /// So many bytes at the front of what is lent were sent. A file is the last of it.
    pub(super) fn advance_lent(&mut self, count: u64) {
        debug_assert!(count <= self.loan.unsent, "no more is sent than was lent");
        let bytes = self.loan.held.min(usize::try_from(count).unwrap_or(usize::MAX));
        let file = self.loan.has_file();
        give_back(&mut self.loan.held, bytes);
        give_back(&mut self.held, bytes);
        self.loan.unsent = self.loan.unsent.saturating_sub(count);
        if file && self.loan.unsent == 0 {
            give_back(&mut self.files, 1);
        }
    }

    /// What was lent comes home; what was not sent of it comes next again.
    #[doc(hidden)]
    pub fn take_back(&mut self, lent: &mut Lent) {
        give_back(&mut self.reserved, lent.size());
        if lent.number != self.loan.number || self.loan.unsent == 0 {
            return;
        }
        lent.output.advance(lent.len().saturating_sub(self.loan.unsent));
        give_back(&mut self.held, self.loan.held);
        give_back(&mut self.files, usize::from(self.loan.has_file()));
        (self.loan.unsent, self.loan.held) = (0, 0);
        if self.pieces.is_empty() && self.tail.is_empty() {
            self.swap_tails(lent);
        } else if !lent.output.tail.is_empty() {
            lent.output.seal_tail();
        }
        while let Some(piece) = lent.output.pieces.pop_back() {
            self.count(&piece);
            self.pieces.push_front(piece);
        }
    }

    fn swap_tails(&mut self, lent: &mut Lent) {
        if !(self.tail.is_empty() && lent.output.tail.is_empty()) {
            mem::swap(&mut self.tail, &mut lent.output.tail);
            mem::swap(&mut self.tail_size, &mut lent.output.tail_size);
        }
    }
}
