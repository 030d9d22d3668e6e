//! Two-party distributed point function with one output bit per row.
//!
//! A pair of keys hides a row index: each key alone is pseudo-random, both expand to bit vectors that differ at that
//! row only. Boyle, Gilboa, Ishai: "Function secret sharing: improvements and extensions" (2016), with their early
//! termination: a leaf stands for 128 rows, which saves seven levels of the tree.
//!
//! A key is what the tree takes, followed by a final word of one block: 146 bytes for 10,000 rows.

use std::ops::Range;

use rand::CryptoRng;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::prg::{Block, Direction, Expander, xor};
use super::tree::{SEED, Tree, Walk, block, select};

pub use super::party::Role;
pub use super::tree::KeyError;

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
        self.tree().levels()
    }

    /// The one length in bytes that a key has.
    pub const fn key_len(self) -> usize {
        self.tree().key_len() + SEED
    }

    const fn tree(self) -> Tree {
        Tree { leaves: self.leaves() }
    }
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
        domain.tree().check(bytes, SEED)?;
        Ok(Self { bytes: bytes.into() })
    }

    /// The key as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Makes the pair of keys (for [`Role::First`], for [`Role::Second`]) that selects row `index`.
///
/// # Panics
/// When `index` is not a row of `domain`; callers check an index that comes from outside.
pub fn generate(domain: Domain, index: usize, expander: &Expander, rng: &mut impl CryptoRng) -> [Key; 2] {
    assert!(index < domain.rows, "there is no such row in {}", domain.rows);
    let mut key = Zeroizing::new(vec![0; domain.key_len()]);
    let mut ends = domain.tree().generate(index / ROWS_PER_LEAF, expander, rng, &mut key);
    expander.expand(Direction::Leaf, &mut ends.seeds);
    let at = key.len() - SEED;
    let one_hot = one_hot((index % ROWS_PER_LEAF) as u8);
    key[at..].copy_from_slice(&xor(&xor(&ends.seeds[0], &ends.seeds[1]), &one_hot));
    ends.roots.each_ref().map(|root| {
        key[..SEED].copy_from_slice(root);
        Key { bytes: key.as_slice().into() }
    })
}

/// A block with one bit set. How long a shift takes may depend on how far it goes, and a byte's address tells its
/// place, so every bit of a byte is asked, and every byte of the block.
fn one_hot(set: u8) -> Block {
    let bits = (0..8u8).map(|bit| bit.ct_eq(&(set % 8)).unwrap_u8() << bit);
    let byte = bits.fold(0, |byte, bit| byte | bit);
    let bytes: [u8; SEED] =
        std::array::from_fn(|at| u8::conditional_select(&0, &byte, (at as u8).ct_eq(&(set / 8))));
    bytes.into()
}

/// Expands keys, keeping its buffers between keys.
#[derive(Default)]
pub struct Evaluator {
    walk: Walk,
}

impl Evaluator {
    /// Expands `key` to one bit per row: bit `r % 8` of byte `r / 8`. `bits` is resized to whole leaves; bits beyond
    /// the last row are zero.
    pub fn expand(&mut self, expander: &Expander, domain: Domain, role: Role, key: &Key, bits: &mut Vec<u8>) {
        self.expand_rows(expander, domain, role, key, 0..domain.rows, bits);
    }

    /// [`expand`](Self::expand) for some rows: `bits` begins with the first of them.
    ///
    /// # Panics
    /// When the first is not a multiple of [`ROWS_PER_LEAF`], or they are not all rows of `domain`.
    pub fn expand_rows(
        &mut self,
        expander: &Expander,
        domain: Domain,
        role: Role,
        key: &Key,
        rows: Range<usize>,
        bits: &mut Vec<u8>,
    ) {
        assert!(
            rows.start.is_multiple_of(ROWS_PER_LEAF) && rows.start <= rows.end && rows.end <= domain.rows
        );
        let word = block(&key.bytes, key.bytes.len() - SEED);
        bits.clear();
        let leaves = rows.start / ROWS_PER_LEAF..rows.end.div_ceil(ROWS_PER_LEAF);
        self.walk.begin(expander, domain.tree(), role, &key.bytes, leaves);
        while self.walk.next(expander, domain.tree(), &key.bytes) {
            let leaves = &mut self.walk.leaves;
            expander.expand(Direction::Leaf, &mut leaves.seeds);
            for (seed, &control) in leaves.seeds.iter().zip(&leaves.controls) {
                bits.extend_from_slice(&select(seed, control, &word));
            }
        }
        clear_from(bits, rows.len());
    }
}

fn clear_from(bits: &mut [u8], rows: usize) {
    if let Some(byte) = bits.get_mut(rows / 8) {
        *byte &= (1u8 << (rows % 8)) - 1;
    }
    if let Some(rest) = bits.get_mut(rows / 8 + 1..) {
        rest.fill(0);
    }
}
