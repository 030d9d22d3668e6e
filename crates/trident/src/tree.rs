//! The tree under both kinds of selection keys: two parties walk it with correlated seeds, which agree off the path to
//! one leaf and are independent on it.
//!
//! Boyle, Gilboa, Ishai: "Function secret sharing: improvements and extensions" (2016). The part of a key for the tree is
//! `root ‖ one correction seed per level ‖ two control bits per level, packed`. Which of the two parties a key is for
//! follows from where it is used and is not part of it.

use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroize;

use crate::prg::{Block, Direction, expand, xor};

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

/// Which of the two parties expands a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts with control bit 0.
    First,
    /// Starts with control bit 1.
    Second,
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

impl Drop for Ends {
    fn drop(&mut self) {
        for block in self.seeds.iter_mut().chain(&mut self.roots) {
            block.as_mut_slice().zeroize();
        }
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
    pub(crate) fn generate(self, leaf: usize, rng: &mut impl CryptoRng, key: &mut [u8]) -> Ends {
        let levels = self.levels();
        let roots = [random_block(rng), random_block(rng)].map(|seed| split(seed).0);
        let mut ends = Ends { roots, seeds: roots, controls: [0, 1] };
        for level in 0..levels {
            let side = (leaf >> (levels - 1 - level) & 1) as u8;
            let [left, right] = [Direction::Left, Direction::Right].map(|direction| {
                let mut children = ends.seeds;
                expand(direction, &mut children);
                children.map(split)
            });
            let (keep, lose) = if side == 1 { (right, left) } else { (left, right) };
            let correction = xor(&lose[0].0, &lose[1].0);
            let correct_left = left[0].1 ^ left[1].1 ^ side ^ 1;
            let correct_right = right[0].1 ^ right[1].1 ^ side;
            for (party, (mut seed, mut control)) in keep.into_iter().enumerate() {
                if ends.controls[party] == 1 {
                    seed = xor(&seed, &correction);
                    control ^= if side == 1 { correct_right } else { correct_left };
                }
                (ends.seeds[party], ends.controls[party]) = (seed, control);
            }
            key[SEED + SEED * level..][..SEED].copy_from_slice(&correction);
            for (bit, value) in [(2 * level, correct_left), (2 * level + 1, correct_right)] {
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

fn random_block(rng: &mut impl CryptoRng) -> Block {
    let mut block = Block::default();
    rng.fill_bytes(&mut block);
    block
}

/// Takes the lowest bit off a block: the seed with that bit cleared, and the bit.
fn split(mut block: Block) -> (Block, u8) {
    let bit = block[0] & 1;
    block[0] &= !1;
    (block, bit)
}

/// Walks to all leaves, breadth first, keeping its buffers between walks. Nodes without a leaf below are never made.
#[derive(Default)]
pub(crate) struct Walk {
    /// After a walk the seed of every leaf.
    pub(crate) nodes: Vec<Block>,
    /// After a walk the control bit of every leaf.
    pub(crate) controls: Vec<u8>,
    left: Vec<Block>,
    right: Vec<Block>,
}

impl Walk {
    /// Walks with a key that was checked.
    pub(crate) fn descend_to_leaves(&mut self, tree: Tree, role: Role, key: &[u8]) {
        let levels = tree.levels();
        self.nodes.clear();
        self.controls.clear();
        self.nodes.push(block(key, 0));
        self.controls.push(role as u8);
        for level in 0..levels {
            let keep = tree.leaves.div_ceil(1 << (levels - 1 - level));
            self.descend(tree.correction(key, level), keep);
        }
    }

    /// Replaces the nodes of one depth by the first `keep` nodes of the next.
    fn descend(&mut self, (seed, correct_left, correct_right): (Block, u8, u8), keep: usize) {
        self.left.clone_from(&self.nodes);
        self.right.clone_from(&self.nodes);
        expand(Direction::Left, &mut self.left);
        expand(Direction::Right, &mut self.right[..keep / 2]);
        let parents = std::mem::take(&mut self.controls);
        self.nodes.clear();
        let children = self.left.iter().zip(&self.right).zip(&parents);
        for ((left, right), &parent) in children {
            for (child, correct) in [(left, correct_left), (right, correct_right)] {
                let (node, bit) = split(select(child, parent, &seed));
                // The correction seed's lowest bit is cleared by whoever made the key; a stranger's may not be.
                self.nodes.push(node);
                self.controls.push(bit ^ (seed[0] & parent & 1) ^ (parent & correct));
            }
        }
        self.nodes.truncate(keep);
        self.controls.truncate(keep);
    }
}

/// `block ^ word` when `control` is 1, without a branch on it.
pub(crate) fn select(block: &Block, control: u8, word: &Block) -> Block {
    let mask = u128::from(control).wrapping_neg();
    (u128::from_ne_bytes((*block).into()) ^ (u128::from_ne_bytes((*word).into()) & mask)).to_ne_bytes().into()
}
