//! A selector of one row as Shamir shares modulo p: what the three servers multiply their shares of the rows with.
//!
//! Two pairs of distributed point functions over the integers modulo p, after Boyle, Gilboa, Ishai (2016). The
//! expansions of a pair differ by `delta` at the row and agree elsewhere; both parties add, nobody negates. With the
//! pairs g for `payload / 2` and k for `payload / 6`, and server 1 holding (g0, k0), server 2 (g1, k0), server 3 (g1,
//! k1), the shares `b * (g(x) + k(x))` of the servers b lie on a line whose slope is pseudo-random, and which meets
//! zero in the payload at the row and in zero elsewhere. No server holds both keys of a pair.
//!
//! A leaf stands for four rows and three elements each: twelve 64-bit words modulo p, word `4 c + i` for element c of
//! row i. They come from six blocks, `AES(s ^ 2j) ^ s ^ 2j` for j < 6. A key is what the tree takes, followed by a
//! final word of twelve elements: 259 bytes for 10,000 rows.

use std::ops::Range;

use rand::CryptoRng;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::field::{P, add, mul, neg, reduce, sub};
use super::kernels::{self, Kernel, leaf::words_of};
use super::lines::{BLOCK, Line, WORDS};
use super::party::{Party, Role};
use super::prg::{Block, Direction, Expander};
use super::tree::{KeyError, SEED, Tree, Walk, wipe};

pub use super::lines::{PAYLOAD, ROWS_PER_LEAF};

/// Blocks of two 64-bit words that a leaf is made of.
const BLOCKS: usize = WORDS / 2;
/// Bytes of a final word.
const FINAL: usize = 4 * WORDS;

/// The tree over the rows of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    rows: usize,
}

impl Domain {
    /// The domain of `rows` rows, at least one.
    pub const fn new(rows: usize) -> Self {
        Self { rows }
    }

    /// The one length in bytes that a key has.
    pub const fn key_len(self) -> usize {
        self.tree().key_len() + FINAL
    }

    /// Lines of expanded shares: three for each block of sixteen rows.
    pub const fn lines(self) -> usize {
        PAYLOAD * self.rows.div_ceil(BLOCK)
    }

    const fn tree(self) -> Tree {
        Tree { leaves: self.rows.div_ceil(ROWS_PER_LEAF) }
    }
}

/// One party's key of one pair.
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
    /// Any length but [`Domain::key_len`], padding bits that are set, or an element that is not below p.
    pub fn parse(bytes: &[u8], domain: Domain) -> Result<Self, KeyError> {
        domain.tree().check(bytes, FINAL)?;
        let key = Self { bytes: bytes.into() };
        match key.word().iter().position(|&element| element >= P) {
            Some(at) => Err(KeyError::Element { at }),
            None => Ok(key),
        }
    }

    /// The key as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn word(&self) -> [u32; WORDS] {
        let mut word = [0; WORDS];
        let bytes = self.bytes[self.bytes.len() - FINAL..].as_chunks().0;
        word.iter_mut().zip(bytes).for_each(|(element, bytes)| *element = u32::from_le_bytes(*bytes));
        word
    }
}

/// Makes the pair of keys (for [`Role::First`], for [`Role::Second`]) whose expansions differ by `delta` at row
/// `index`.
///
/// # Panics
/// When `index` is not a row of `domain`; callers check an index that comes from outside.
pub fn generate(
    domain: Domain,
    index: usize,
    delta: &[u32; PAYLOAD],
    expander: &Expander,
    rng: &mut impl CryptoRng,
) -> [Key; 2] {
    assert!(index < domain.rows, "there is no such row in {}", domain.rows);
    let mut key = Zeroizing::new(vec![0; domain.key_len()]);
    let ends = domain.tree().generate(index / ROWS_PER_LEAF, expander, rng, &mut key);
    let [first, second] = ends.seeds.each_ref().map(|seed| leaf(expander, seed));
    let row = (index % ROWS_PER_LEAF) as u8;
    let at = key.len() - FINAL;
    for (word, place) in key[at..].as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let is_selected = ((word % ROWS_PER_LEAF) as u8).ct_eq(&row);
        let wanted = u32::conditional_select(&0, &delta[word / ROWS_PER_LEAF], is_selected);
        let missing = add(sub(wanted, reduce(first[word])), reduce(second[word]));
        // The party whose control bit is set adds the final word: the second one, unless the path turned it round.
        let element = u32::conditional_select(&neg(missing), &missing, ends.controls[0].into());
        *place = element.to_le_bytes();
    }
    ends.roots.each_ref().map(|root| {
        key[..SEED].copy_from_slice(root);
        Key { bytes: key.as_slice().into() }
    })
}

/// The keys of servers 1, 2, 3 that select row `index` with `payload`: each has a key of the first and one of the
/// second pair, with the roles of [`roles`].
///
/// # Panics
/// As [`generate`].
pub fn share(
    domain: Domain,
    index: usize,
    payload: &[u32; PAYLOAD],
    expander: &Expander,
    rng: &mut impl CryptoRng,
) -> [[Key; 2]; 3] {
    const HALF: u32 = P.div_ceil(2);
    const SIXTH: u32 = mul(HALF, ((2 * P as u64 + 1) / 3) as u32);
    let [g, k] = [HALF, SIXTH].map(|part| {
        let delta = Zeroizing::new(payload.map(|element| mul(part, element)));
        generate(domain, index, &delta, expander, rng)
    });
    Party::ALL.map(|party| {
        let [first, second] = roles(party);
        [g[first as usize].clone(), k[second as usize].clone()]
    })
}

/// A server's roles in the two pairs.
pub fn roles(party: Party) -> [Role; 2] {
    [[Role::First, Role::First], [Role::Second, Role::First], [Role::Second, Role::Second]][party.index()]
}

/// The words of a leaf before they are reduced.
fn leaf(expander: &Expander, seed: &Block) -> Zeroizing<[u64; WORDS]> {
    let mut blocks: [Block; BLOCKS] = std::array::from_fn(|j| tweaked(seed, j));
    expander.expand(Direction::Elements, &mut blocks);
    let mut words = Zeroizing::new([0; WORDS]);
    words_of(&blocks, &mut words);
    wipe(&mut blocks);
    words
}

/// Block j of a leaf's six before encryption. The lowest bit of a seed is always clear.
fn tweaked(seed: &Block, j: usize) -> Block {
    // As a whole: a byte that was just changed in memory keeps a vector that is loaded from there waiting.
    (u128::from_le_bytes((*seed).into()) ^ (2 * j) as u128).to_le_bytes().into()
}

/// Leaves whose elements are computed together: their blocks stay in the first-level cache.
const TOGETHER: usize = 64;

/// Rows of every run but the last.
pub const ROWS_PER_RUN: usize = ROWS_PER_LEAF * Walk::RUN;

/// Leaves of a block of sixteen rows.
const LEAVES_PER_BLOCK: usize = BLOCK / ROWS_PER_LEAF;
const _: () = assert!(TOGETHER.is_multiple_of(LEAVES_PER_BLOCK));

/// The walks of one expansion. They are a parameter for the next one to find their buffers grown.
#[derive(Default)]
pub struct Walks([Walk; 2]);

/// A server's share of a selector, expanded from a pair of keys in runs of rows: it takes three elements a row, and no
/// more of it is held than is being computed with.
pub struct Expansion<'a> {
    expander: &'a Expander,
    tree: Tree,
    party: Party,
    keys: &'a [Key; 2],
    walks: &'a mut [Walk; 2],
    kernel: Kernel,
}

impl<'a> Expansion<'a> {
    /// The share of `party`, which holds `keys`, before its first row. What `walks` did before does not matter.
    pub fn new(
        expander: &'a Expander,
        domain: Domain,
        party: Party,
        keys: &'a [Key; 2],
        walks: &'a mut Walks,
    ) -> Self {
        Self::of_rows(expander, domain, party, keys, 0..domain.rows, walks)
    }

    /// [`new`](Self::new) for some rows: the first run ends, as all others, where one of all rows would.
    ///
    /// # Panics
    /// When the first is not a multiple of [`BLOCK`], or they are not all rows of `domain`.
    pub fn of_rows(
        expander: &'a Expander,
        domain: Domain,
        party: Party,
        keys: &'a [Key; 2],
        rows: Range<usize>,
        walks: &'a mut Walks,
    ) -> Self {
        assert!(rows.start.is_multiple_of(BLOCK) && rows.start <= rows.end && rows.end <= domain.rows);
        let leaves = rows.start / ROWS_PER_LEAF..rows.end.div_ceil(ROWS_PER_LEAF);
        let (tree, walks) = (domain.tree(), &mut walks.0);
        for ((walk, key), role) in walks.iter_mut().zip(keys).zip(roles(party)) {
            walk.begin(expander, tree, role, &key.bytes, leaves.clone());
        }
        Self { expander, tree, party, keys, walks, kernel: Kernel::best() }
    }

    /// The same with another version of the inner loops than the best one.
    ///
    /// # Panics
    /// When it is not available.
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
        Self { kernel, ..self }
    }

    /// Replaces `lines` by the share of the rows of the next run, [`ROWS_PER_RUN`] or those that are left: line `3 B + c` holds
    /// element c for the sixteen rows of block B of the run. What it holds for rows that do not exist means nothing.
    pub fn next_run(&mut self, lines: &mut Vec<Line>) {
        lines.clear();
        for (walk, key) in self.walks.iter_mut().zip(self.keys) {
            if !walk.next(self.expander, self.tree, &key.bytes) {
                return;
            }
        }
        let count = self.walks[0].leaves.seeds.len();
        lines.resize(PAYLOAD * count.div_ceil(LEAVES_PER_BLOCK), Line::default());
        let words = self.keys.each_ref().map(|key| key.word().map(u64::from));
        let lines = lines.chunks_mut(PAYLOAD * TOGETHER / LEAVES_PER_BLOCK);
        let mut blocks = [[Block::default(); BLOCKS]; TOGETHER];
        for (first, lines) in (0..count).step_by(TOGETHER).zip(lines) {
            let leaves = first..count.min(first + TOGETHER);
            let mut sums = [[0; WORDS]; TOGETHER];
            for (walk, word) in self.walks.iter().zip(&words) {
                let (seeds, controls) =
                    (&walk.leaves.seeds[leaves.clone()], &walk.leaves.controls[leaves.clone()]);
                let blocks = &mut blocks[..seeds.len()];
                for (blocks, seed) in blocks.iter_mut().zip(seeds) {
                    *blocks = std::array::from_fn(|j| tweaked(seed, j));
                }
                self.expander.expand(Direction::Elements, blocks.as_flattened_mut());
                kernels::add_leaves(self.kernel, blocks, controls, word, &mut sums);
            }
            let point = u64::from(self.party.number());
            kernels::put_shares(self.kernel, point, &sums[..leaves.len()], lines);
        }
    }
}
