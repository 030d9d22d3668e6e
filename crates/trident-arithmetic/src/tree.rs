//! The tree under both kinds of selection keys: two parties walk it with correlated seeds, which agree off the path to
//! one leaf and are independent on it.
//!
//! Boyle, Gilboa, Ishai: "Function secret sharing: improvements and extensions" (2016). The part of a key for the tree
//! is `root ‖ one correction seed per level ‖ two control bits per level, packed`. Which of the two parties a key is
//! for follows from where it is used and is not part of it.
//!
//! Whoever makes a key knows the path and hides it from whoever measures: no branch and no address depends on it.

use std::ops::Range;

use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroize;

use super::party::Role;
use super::prg::{Block, Direction, Expander, xor};

/// Bytes of a seed.
pub(crate) const SEED: usize = 16;

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Keys of a collection have exactly one length.
    #[error("a selection key has {got} bytes, this collection takes {want}")]
    Length {
        /// Length received.
        got: usize,
        /// Length required.
        want: usize,
    },
    /// Bits that no level uses must be zero, so that every key has one encoding.
    #[error("a selection key has bits set that no level uses")]
    StrayBits,
    /// An element of the final word that is not reduced.
    #[error("element {at} of a selection key's final word is not below p")]
    Element {
        /// Position among the elements.
        at: usize,
    },
}

/// The shape of a tree with some number of leaves, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) leaves: usize,
}

/// Where the two walks along the path end. Zeroised when dropped.
pub(crate) struct Ends {
    pub(crate) roots: [Block; 2],
    pub(crate) seeds: [Block; 2],
    /// They differ: one is 0, the other 1.
    pub(crate) controls: [u8; 2],
}

impl Ends {
    /// Both walks at their fresh roots.
    fn new(rng: &mut impl CryptoRng) -> Self {
        let mut ends = Self { roots: Default::default(), seeds: Default::default(), controls: [0, 1] };
        for root in &mut ends.roots {
            rng.fill_bytes(root);
            take_bit(root);
        }
        ends.seeds = ends.roots;
        ends
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        wipe(&mut self.seeds);
        wipe(&mut self.roots);
        self.controls.zeroize();
    }
}

impl Tree {
    /// Levels between root and leaves.
    pub(crate) const fn levels(self) -> usize {
        self.leaves.next_power_of_two().trailing_zeros() as usize
    }

    /// Bytes of a key that are for the tree.
    pub(crate) const fn key_len(self) -> usize {
        let levels = self.levels();
        SEED + SEED * levels + (2 * levels).div_ceil(8)
    }

    /// Checks the length of a key with a final word of `word` bytes, and that no bit is set that no level uses.
    pub(crate) fn check(self, key: &[u8], word: usize) -> Result<(), KeyError> {
        let want = self.key_len() + word;
        if key.len() != want {
            return Err(KeyError::Length { got: key.len(), want });
        }
        let used = 2 * self.levels() % 8;
        if used != 0 && key[self.key_len() - 1] >> used != 0 {
            return Err(KeyError::StrayBits);
        }
        Ok(())
    }

    /// Writes the corrections for the path to `leaf` into `key`; the place of the root is left as it is.
    pub(crate) fn generate(
        self,
        leaf: usize,
        expander: &Expander,
        rng: &mut impl CryptoRng,
        key: &mut [u8],
    ) -> Ends {
        let levels = self.levels();
        let mut ends = Ends::new(rng);
        let mut children = Children::default();
        for level in 0..levels {
            let side = (leaf >> (levels - 1 - level) & 1) as u8;
            children.grow(expander, &ends.seeds);
            let [left, right] = &children.seeds;
            let [left_bits, right_bits] = children.controls;
            let lost = [0, 1].map(|party| choose(side, &right[party], &left[party]));
            let correction = xor(&lost[0], &lost[1]);
            let correct = [left_bits[0] ^ left_bits[1] ^ side ^ 1, right_bits[0] ^ right_bits[1] ^ side];
            for party in 0..2 {
                let control = ends.controls[party];
                let kept = choose(side, &left[party], &right[party]);
                let bit = choose_bit(side, left_bits[party], right_bits[party]);
                ends.seeds[party] = select(&kept, control, &correction);
                ends.controls[party] = bit ^ (control & choose_bit(side, correct[0], correct[1]));
            }
            key[SEED + SEED * level..][..SEED].copy_from_slice(&correction);
            for (bit, value) in (2 * level..).zip(correct) {
                key[SEED + SEED * levels + bit / 8] |= value << (bit % 8);
            }
        }
        ends
    }

    /// Correction seed and the two control corrections (left, right) of a level.
    fn correction(self, key: &[u8], level: usize) -> (Block, u8, u8) {
        let control = |bit: usize| key[SEED + SEED * self.levels() + bit / 8] >> (bit % 8) & 1;
        (block(key, SEED + SEED * level), control(2 * level), control(2 * level + 1))
    }
}

/// The block at a place in a key.
pub(crate) fn block(key: &[u8], at: usize) -> Block {
    let mut block = [0; SEED];
    block.copy_from_slice(&key[at..at + SEED]);
    block.into()
}

/// The children of the two seeds on the path, zeroised when dropped.
#[derive(Default)]
struct Children {
    /// The left ones of both parties, and the right ones.
    seeds: [[Block; 2]; 2],
    controls: [[u8; 2]; 2],
}

impl Children {
    fn grow(&mut self, expander: &Expander, parents: &[Block; 2]) {
        let directions = [Direction::Left, Direction::Right];
        for ((direction, seeds), controls) in
            directions.into_iter().zip(&mut self.seeds).zip(&mut self.controls)
        {
            *seeds = *parents;
            expander.expand(direction, seeds);
            *controls = seeds.each_mut().map(take_bit);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        wipe(self.seeds.as_flattened_mut());
        self.controls.as_flattened_mut().zeroize();
    }
}

/// Overwrites blocks for good.
pub(crate) fn wipe(blocks: &mut [Block]) {
    blocks.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
}

/// Takes the lowest bit off a block, which is a seed then.
fn take_bit(block: &mut Block) -> u8 {
    let bit = block[0] & 1;
    block[0] &= !1;
    bit
}

/// Leaves of a run: enough to fill the cipher's pipeline at most levels, few enough for the cache.
const RUN: usize = 1 << RUN_LEVELS;
const RUN_LEVELS: usize = 10;

/// Walks to leaves that follow one another, one run after the other, each breadth first. Nodes without one of them below
/// are never made, and no more are held than a run has, and one for each run.
#[derive(Default)]
pub(crate) struct Walk {
    /// The roots of the runs.
    roots: Nodes,
    /// The leaves of the run that was walked to last.
    pub(crate) leaves: Nodes,
    /// The root that is next.
    next: usize,
    /// The leaves that are still to be walked to.
    ahead: Range<usize>,
    left: Vec<Block>,
    right: Vec<Block>,
    parents: Vec<u8>,
}

/// Nodes of one depth.
#[derive(Default)]
pub(crate) struct Nodes {
    pub(crate) seeds: Vec<Block>,
    pub(crate) controls: Vec<u8>,
}

impl Walk {
    /// Leaves of every run but the last.
    pub(crate) const RUN: usize = RUN;

    /// Begins a walk to `leaves` with a key that was checked. Runs begin at multiples of [`Walk::RUN`], but for the
    /// first.
    pub(crate) fn begin(
        &mut self,
        expander: &Expander,
        tree: Tree,
        role: Role,
        key: &[u8],
        leaves: Range<usize>,
    ) {
        self.next = 0;
        self.leaves.put(block(key, 0), role as u8);
        let roots = leaves.start / RUN..leaves.end.div_ceil(RUN);
        self.descend(expander, tree, key, 0..tree.levels().saturating_sub(RUN_LEVELS), roots);
        std::mem::swap(&mut self.roots, &mut self.leaves);
        self.ahead = leaves;
    }

    /// Walks to the leaves of the next run. False if there are no more. It takes what [`begin`](Self::begin) was given.
    pub(crate) fn next(&mut self, expander: &Expander, tree: Tree, key: &[u8]) -> bool {
        if self.ahead.is_empty() {
            return false;
        }
        self.leaves.put(self.roots.seeds[self.next], self.roots.controls[self.next]);
        self.next += 1;
        let first = self.ahead.start / RUN * RUN;
        let end = self.ahead.end.min(first + RUN);
        let leaves = self.ahead.start - first..end - first;
        self.ahead.start = end;
        let levels = tree.levels();
        self.descend(expander, tree, key, levels.saturating_sub(RUN_LEVELS)..levels, leaves);
        true
    }

    /// Replaces one node at the first of some levels by those nodes of the last, counted from the first below it, that
    /// are to be kept.
    fn descend(
        &mut self,
        expander: &Expander,
        tree: Tree,
        key: &[u8],
        levels: Range<usize>,
        keep: Range<usize>,
    ) {
        let mut first = 0;
        for level in levels.clone() {
            let below = levels.end - 1 - level;
            let keep = keep.start >> below..keep.end.div_ceil(1 << below);
            self.grow(expander, tree.correction(key, level), keep.start - 2 * first..keep.end - 2 * first);
            first = keep.start;
        }
    }

    /// Replaces the nodes of one depth by those of their children that are to be kept.
    fn grow(
        &mut self,
        expander: &Expander,
        (seed, correct_left, correct_right): (Block, u8, u8),
        keep: Range<usize>,
    ) {
        let Nodes { seeds, controls } = &mut self.leaves;
        self.left.clone_from(seeds);
        self.right.clone_from(seeds);
        expander.expand(Direction::Left, &mut self.left);
        expander.expand(Direction::Right, &mut self.right[..keep.end / 2]);
        std::mem::swap(&mut self.parents, controls);
        seeds.resize(2 * self.left.len(), Block::default());
        controls.resize(2 * self.left.len(), 0);
        // The correction seed's lowest bit is cleared by whoever made the key; a stranger's may not be.
        let stray = seed[0] & 1;
        let seed = u128::from_le_bytes(seed.into());
        let children = self.left.iter().zip(&self.right).zip(&self.parents);
        let places = seeds.as_chunks_mut::<2>().0.iter_mut().zip(controls.as_chunks_mut::<2>().0);
        for (((left, right), &parent), (seeds, controls)) in children.zip(places) {
            let mask = u128::from(parent).wrapping_neg();
            for (at, (child, correct)) in
                [(left, correct_left), (right, correct_right)].into_iter().enumerate()
            {
                let node = u128::from_le_bytes((*child).into()) ^ (seed & mask);
                seeds[at] = (node & !1).to_le_bytes().into();
                controls[at] = (node as u8 & 1) ^ (stray & parent) ^ (parent & correct);
            }
        }
        seeds.truncate(keep.end);
        controls.truncate(keep.end);
        // At most one: a parent without any child to be kept was not kept either.
        seeds.drain(..keep.start);
        controls.drain(..keep.start);
    }
}

impl Nodes {
    fn put(&mut self, seed: Block, control: u8) {
        self.seeds.clear();
        self.seeds.push(seed);
        self.controls.clear();
        self.controls.push(control);
    }
}

/// `block ^ word` when `control` is 1, without a branch on it.
pub(crate) fn select(block: &Block, control: u8, word: &Block) -> Block {
    let mask = u128::from(control).wrapping_neg();
    (u128::from_ne_bytes((*block).into()) ^ (u128::from_ne_bytes((*word).into()) & mask)).to_ne_bytes().into()
}

/// `one` when `control` is 1, otherwise `zero`, without a branch on it.
fn choose(control: u8, zero: &Block, one: &Block) -> Block {
    select(zero, control, &xor(zero, one))
}

fn choose_bit(control: u8, zero: u8, one: u8) -> u8 {
    zero ^ (control & (zero ^ one))
}
