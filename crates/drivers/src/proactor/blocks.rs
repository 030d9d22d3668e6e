//! The blocks that a completion queue receives into. There are few of them, so that a burst of bytes takes no more
//! memory than this, whoever they are for; each is lent, and goes home when it is dropped.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    mem,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use bytes::BytesMut;

use roadstead_proto::budget::give_back;

use crate::free::FreeList;

/// The most blocks of one completion queue that are lent at once.
pub const BLOCKS: usize = 32;

/// The blocks of one completion queue.
pub struct Blocks {
    free: RefCell<FreeList<BytesMut>>,
    lent: Cell<usize>,
}

impl Blocks {
    /// None is lent yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { free: RefCell::new(FreeList::new(BLOCKS)), lent: Cell::new(0) })
    }

    /// Lends an empty block with room for `most` bytes. `None` if as many are lent as there may be.
    pub fn lend(self: &Rc<Self>, most: usize) -> Option<Block> {
        if !self.are_left() {
            return None;
        }
        self.lent.set(self.lent.get() + 1);
        let mut bytes = self.free.borrow_mut().take().unwrap_or_default();
        bytes.clear();
        bytes.reserve(most);
        Some(Block { bytes, home: Rc::clone(self) })
    }

    /// Whether another can be lent.
    pub fn are_left(&self) -> bool {
        self.lent.get() < BLOCKS
    }

    /// How many are lent.
    pub fn lent(&self) -> usize {
        self.lent.get()
    }

    /// Nothing is to be received for a while: gives back what was not needed of late.
    pub fn trim(&self) {
        self.free.borrow_mut().trim();
    }
}

/// A block with the bytes that were received into it. Who takes some of them out of it, as a
/// [`Chunk`](roadstead_proto::input::Chunk) does, may keep them when the block has gone home.
pub struct Block {
    bytes: BytesMut,
    home: Rc<Blocks>,
}

impl Block {
    /// Takes the bytes from `at` on out of it. They are lent as well, beyond what may be.
    pub fn split_off(&mut self, at: usize) -> Self {
        self.home.lent.set(self.home.lent.get() + 1);
        Self { bytes: self.bytes.split_off(at), home: Rc::clone(&self.home) }
    }
}

impl Deref for Block {
    type Target = BytesMut;
    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        let mut lent = self.home.lent.get();
        give_back(&mut lent, 1);
        self.home.lent.set(lent);
        if bytes.capacity() > 0 {
            self.home.free.borrow_mut().put(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_home_when_it_is_dropped_and_there_are_no_more_than_there_may_be() {
        let blocks = Blocks::new();
        let mut lent: Vec<_> = (0..BLOCKS).map(|_| blocks.lend(100).unwrap()).collect();
        assert!(blocks.lend(100).is_none() && !blocks.are_left());
        lent.pop();
        assert!(blocks.are_left() && blocks.lent() == BLOCKS - 1);
        let block = blocks.lend(1000).unwrap();
        assert!(block.is_empty() && block.capacity() >= 1000, "whatever it was before");
        drop((lent, block));
        assert_eq!(blocks.lent(), 0);
    }

    #[test]
    fn what_was_taken_out_of_a_block_stays_as_it_is_when_the_block_is_filled_again() {
        let blocks = Blocks::new();
        let mut block = blocks.lend(1000).unwrap();
        block.extend_from_slice(&[1; 1000]);
        let taken = block.split_to(600).freeze();
        drop(block);
        for _ in 0..3 {
            let mut block = blocks.lend(1000).unwrap();
            block.extend_from_slice(&[2; 1000]);
        }
        assert_eq!(taken, vec![1; 600]);
    }
}
