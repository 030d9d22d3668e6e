//! Two-party distributed point function with one output bit per row.
//!
//! A pair of keys hides a row index: each key alone is pseudo-random, both expand to bit vectors that differ at that
//! row only. Boyle, Gilboa, Ishai: "Function secret sharing: improvements and extensions" (2016), with their early
//! termination: a leaf stands for 128 rows, which saves seven levels of the tree.
//!
//! A key is `root ‖ one correction seed per level ‖ two control bits per level, packed ‖ final word`: 146 bytes for
//! 10,000 rows. Which of the two parties a key is for follows from where it is used and is not part of it.

use rand::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::prg::{Block, Direction, expand, xor};

const SEED: usize = 16;
/// Rows that one leaf block stands for.
pub const ROWS_PER_LEAF: usize = 128;

/// The tree over a collection: how many leaves it keeps and how deep it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    rows: usize,
}

impl Domain {
    /// The domain of `rows` rows.
    pub const fn new(rows: usize) -> Self {
        Self { rows }
    }

    /// Rows that can be selected.
    pub const fn rows(self) -> usize {
        self.rows
    }

    /// Leaf blocks that exist; those beyond the last row are never computed.
    pub const fn leaves(self) -> usize {
        self.rows.div_ceil(ROWS_PER_LEAF)
    }

    /// Levels between root and leaves.
    pub const fn levels(self) -> usize {
        self.leaves().next_power_of_two().trailing_zeros() as usize
    }

    /// The one length in bytes that a key has.
    pub const fn key_len(self) -> usize {
        let levels = self.levels();
        SEED + SEED * levels + (2 * levels).div_ceil(8) + SEED
    }
}

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
}

/// Which of the two parties expands a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts with control bit 0.
    First,
    /// Starts with control bit 1.
    Second,
}

/// One party's key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    bytes: Box<[u8]>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a key for `domain`.
    ///
    /// # Errors
    /// Any length but [`Domain::key_len`], or padding bits that are set.
    pub fn parse(bytes: &[u8], domain: Domain) -> Result<Self, KeyError> {
        if bytes.len() != domain.key_len() {
            return Err(KeyError::Length { got: bytes.len(), want: domain.key_len() });
        }
        let used = 2 * domain.levels() % 8;
        let last_control = bytes[bytes.len() - SEED - 1];
        if used != 0 && last_control >> used != 0 {
            return Err(KeyError::StrayBits);
        }
        Ok(Self { bytes: bytes.into() })
    }

    /// The key as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn block(&self, at: usize) -> Block {
        let mut block = [0; SEED];
        block.copy_from_slice(&self.bytes[at..at + SEED]);
        block.into()
    }

    /// Correction seed and the two control corrections (left, right) of a level.
    fn correction(&self, level: usize, levels: usize) -> (Block, u8, u8) {
        let control = |bit: usize| self.bytes[SEED + SEED * levels + bit / 8] >> (bit % 8) & 1;
        (self.block(SEED + SEED * level), control(2 * level), control(2 * level + 1))
    }

    fn final_word(&self) -> Block {
        self.block(self.bytes.len() - SEED)
    }
}

/// Makes the pair of keys (for [`Role::First`], for [`Role::Second`]) that selects row `index`.
///
/// # Panics
/// When `index` is not a row of `domain`; callers check an index that comes from outside.
pub fn generate(domain: Domain, index: usize, rng: &mut impl CryptoRng) -> [Key; 2] {
    assert!(index < domain.rows, "row {index} of {}", domain.rows);
    let (levels, leaf) = (domain.levels(), index / ROWS_PER_LEAF);
    let mut seeds = [random_block(rng), random_block(rng)].map(|seed| split(seed).0);
    let mut controls = [0u8, 1];
    let mut key = vec![0; domain.key_len()];
    let mut roots = seeds;

    for level in 0..levels {
        let side = (leaf >> (levels - 1 - level) & 1) as u8;
        let [left, right] = [Direction::Left, Direction::Right].map(|direction| {
            let mut children = seeds;
            expand(direction, &mut children);
            children.map(split)
        });
        let (keep, lose) = if side == 1 { (right, left) } else { (left, right) };
        let correction = xor(&lose[0].0, &lose[1].0);
        let correct_left = left[0].1 ^ left[1].1 ^ side ^ 1;
        let correct_right = right[0].1 ^ right[1].1 ^ side;
        for party in 0..2 {
            let (mut seed, mut control) = keep[party];
            if controls[party] == 1 {
                seed = xor(&seed, &correction);
                control ^= if side == 1 { correct_right } else { correct_left };
            }
            (seeds[party], controls[party]) = (seed, control);
        }
        key[SEED + SEED * level..][..SEED].copy_from_slice(&correction);
        for (bit, value) in [(2 * level, correct_left), (2 * level + 1, correct_right)] {
            key[SEED + SEED * levels + bit / 8] |= value << (bit % 8);
        }
    }

    expand(Direction::Leaf, &mut seeds);
    let one_hot = (1u128 << (index % ROWS_PER_LEAF)).to_le_bytes().into();
    let at = key.len() - SEED;
    key[at..].copy_from_slice(&xor(&xor(&seeds[0], &seeds[1]), &one_hot));

    let keys = roots.map(|root| {
        key[..SEED].copy_from_slice(&root);
        Key { bytes: key.as_slice().into() }
    });
    key.zeroize();
    for block in seeds.iter_mut().chain(&mut roots) {
        block.as_mut_slice().zeroize();
    }
    keys
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

/// Expands keys, breadth first, keeping its buffers between keys.
#[derive(Default)]
pub struct Evaluator {
    nodes: Vec<Block>,
    controls: Vec<u8>,
    left: Vec<Block>,
    right: Vec<Block>,
}

impl Evaluator {
    /// Expands `key` to one bit per row: bit `r % 8` of byte `r / 8`. `bits` is resized to whole leaves; bits beyond
    /// the last row are zero.
    pub fn expand(&mut self, domain: Domain, role: Role, key: &Key, bits: &mut Vec<u8>) {
        let levels = domain.levels();
        self.nodes.clear();
        self.controls.clear();
        self.nodes.push(key.block(0));
        self.controls.push(role as u8);
        for level in 0..levels {
            let keep = domain.leaves().div_ceil(1 << (levels - 1 - level));
            self.descend(key.correction(level, levels), keep);
        }
        expand(Direction::Leaf, &mut self.nodes);
        let word = key.final_word();
        bits.clear();
        for (node, &control) in self.nodes.iter().zip(&self.controls) {
            bits.extend_from_slice(&select(node, control, &word));
        }
        clear_from(bits, domain.rows);
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
fn select(block: &Block, control: u8, word: &Block) -> Block {
    let mask = u128::from(control).wrapping_neg();
    (u128::from_ne_bytes((*block).into()) ^ (u128::from_ne_bytes((*word).into()) & mask)).to_ne_bytes().into()
}

fn clear_from(bits: &mut [u8], rows: usize) {
    if let Some(byte) = bits.get_mut(rows / 8) {
        *byte &= (1u8 << (rows % 8)) - 1;
    }
    if let Some(rest) = bits.get_mut(rows / 8 + 1..) {
        rest.fill(0);
    }
}
