//! The inner loops of servers and clients, in one version per instruction set.
//!
//! - [`select`]: the XOR of the records whose bit is set, for several bit vectors in one pass (`fetch`).
//! - [`scan`]: the inner product modulo p of every row with several queries in one pass (`search`).
//! - [`combine`]: the sum modulo p of all rows with weights, for several selectors in one pass (`fetch`, shared).
//! - `add_leaves`, `put_shares`: what the leaves of a selector give, as the weights of that sum.
//! - [`keep`]: the smallest of many numbers, by a network, which a client sorts distances with (`search`).
//!
//! The version is chosen at run time and named in results; tests and benches force each one.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions")]
mod avx512;
pub(crate) mod leaf;
pub(crate) mod network;
mod portable;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::fmt;
use std::sync::LazyLock;

use crate::lines::{BLOCK, COLUMN, GROUP, Line, PAYLOAD, WORDS};

use leaf::Leaf;
pub use network::{LANES, Lanes};

/// A version of the inner loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust; runs everywhere.
    Portable,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors with 52-bit multiply-add (AVX-512 F and IFMA).
    Avx512,
}

impl Kernel {
    /// Every version, best last.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine can run it.
    pub fn available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The best version that this machine can run.
    pub fn best() -> Self {
        static BEST: LazyLock<Kernel> = LazyLock::new(|| {
            Kernel::ALL.into_iter().rfind(|kernel| kernel.available()).unwrap_or(Kernel::Portable)
        });
        *BEST
    }

    /// The name that results carry: `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Spreads the bits of a selection (bit `r % 8` of byte `r / 8`) to one byte per group of four rows, two equal bits per
/// row: the form in which the vector versions use it as a mask over the 64-bit halves of columns.
pub fn spread(bits: &[u8], groups: usize, masks: &mut Vec<u8>) {
    const PAIRS: [u8; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            let mut row = 0;
            while row < 4 {
                table[nibble] |= ((nibble as u8 >> row) & 1) * (3 << (2 * row));
                row += 1;
            }
            nibble += 1;
        }
        table
    };
    masks.clear();
    masks.extend(bits.iter().flat_map(|byte| [PAIRS[usize::from(byte & 15)], PAIRS[usize::from(byte >> 4)]]));
    masks.resize(groups, 0);
}

/// XORs into each of `sums` the records that its selection names.
///
/// `groups` are groups of `width` lines, four rows each; `masks[q]` holds one byte per group (see [`spread`]);
/// `sums[q]` has `width` columns of 16 bytes.
///
/// # Panics
/// When a shape does not fit, or `kernel` is not available.
pub fn select(
    kernel: Kernel,
    groups: &[Line],
    width: usize,
    masks: &[&[u8]],
    sums: &mut [&mut [[u8; COLUMN]]],
) {
    assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
    assert!(groups.len().is_multiple_of(width) && masks.len() == sums.len());
    assert!(masks.iter().all(|mask| mask.len() == groups.len() / width));
    assert!(sums.iter().all(|sum| sum.len() == width));
    match kernel {
        Kernel::Portable => portable::select(groups, width, masks, sums),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::select(groups, width, masks, sums),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::select(groups, width, masks, sums),
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Avx2 | Kernel::Avx512 => unreachable!("refused above"),
    }
}

/// Writes to `products[v][r]` the inner product modulo p of row `r` with `vectors[v]`.
///
/// `blocks` are blocks of `width` lines, sixteen rows each; a vector has `width` elements; `products[v]` has one
/// element per row of the blocks. All elements are below p.
///
/// # Panics
/// When a shape does not fit, or `kernel` is not available.
pub fn scan(kernel: Kernel, blocks: &[Line], width: usize, vectors: &[&[u32]], products: &mut [&mut [u32]]) {
    assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
    assert!(blocks.len().is_multiple_of(width) && vectors.len() == products.len());
    assert!(vectors.iter().all(|vector| vector.len() == width));
    assert!(products.iter().all(|product| product.len() == blocks.len() / width * BLOCK));
    match kernel {
        Kernel::Portable => portable::scan(blocks, width, vectors, products),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::scan(blocks, width, vectors, products),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::scan(blocks, width, vectors, products),
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Avx2 | Kernel::Avx512 => unreachable!("refused above"),
    }
}

/// Adds to `sums[q][c * columns + j]` the sum modulo p, over the rows, of element `j` times element `c` of the row's
/// weight in `weights[q]`.
///
/// `blocks` are blocks of `width` lines, sixteen rows each, of which the first `columns` count; `weights[q]` has
/// [`PAYLOAD`] lines a block (see [`Expansion::next_run`](crate::selector::Expansion::next_run)); `sums[q]` has
/// [`PAYLOAD`] times `columns` elements. All elements are below p.
///
/// # Panics
/// When a shape does not fit, or `kernel` is not available.
pub fn combine(
    kernel: Kernel,
    blocks: &[Line],
    width: usize,
    columns: usize,
    weights: &[&[Line]],
    sums: &mut [&mut [u32]],
) {
    assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
    assert!(blocks.len().is_multiple_of(width) && columns <= width && weights.len() == sums.len());
    assert!(weights.iter().all(|weights| weights.len() == blocks.len() / width * PAYLOAD));
    assert!(sums.iter().all(|sums| sums.len() == PAYLOAD * columns));
    match kernel {
        Kernel::Portable => portable::combine(blocks, width, columns, weights, sums),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::combine(blocks, width, columns, weights, sums),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::combine(blocks, width, columns, weights, sums),
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Avx2 | Kernel::Avx512 => unreachable!("refused above"),
    }
}

/// Adds to `sums` the elements of as many leaves, each below 2^35, with those of `word` where the control is 1.
///
/// # Panics
/// When `kernel` is not available.
pub(crate) fn add_leaves(
    kernel: Kernel,
    leaves: &[Leaf],
    controls: &[u8],
    word: &[u64; WORDS],
    sums: &mut [[u64; WORDS]],
) {
    assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
    match kernel {
        Kernel::Portable => portable::add_leaves(leaves, controls, word, sums),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::add_leaves(leaves, controls, word, sums),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::add_leaves(leaves, controls, word, sums),
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Avx2 | Kernel::Avx512 => unreachable!("refused above"),
    }
}

/// Writes to `lines` the shares of the server at `point` that follow from the sums of leaves, each below 2^62: line
/// `3 B + c` has element c of the sixteen rows of block B.
///
/// # Panics
/// When `kernel` is not available.
pub(crate) fn put_shares(kernel: Kernel, point: u64, sums: &[[u64; WORDS]], lines: &mut [Line]) {
    assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
    match kernel {
        Kernel::Portable => portable::put_shares(point, sums, lines),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => avx2::put_shares(point, sums, lines),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 => avx512::put_shares(point, sums, lines),
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Avx2 | Kernel::Avx512 => unreachable!("refused above"),
    }
}

/// Replaces `best`, whose lanes are sorted, by the smallest of their own and of as many `others`, sorted lane by lane.
/// The order of `others` is lost. No branch and no address depends on a number.
///
/// # Panics
/// When there are not as many, not a power of two, or `kernel` is not available.
pub fn keep(kernel: Kernel, best: &mut [Lanes], others: &mut [Lanes]) {
    assert!(kernel.available(), "kernel {kernel} needs instructions that this machine lacks");
    assert!(best.len() == others.len() && best.len().is_power_of_two());
    match kernel {
        Kernel::Portable => portable::keep(best, others),
        // Wider vectors gain nothing: every comparison waits for the one before.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 | Kernel::Avx512 => avx2::keep(best, others),
        #[cfg(not(target_arch = "x86_64"))]
        Kernel::Avx2 | Kernel::Avx512 => unreachable!("refused above"),
    }
}

const _: () = assert!(GROUP * COLUMN == size_of::<Line>() && BLOCK * size_of::<u32>() == size_of::<Line>());

#[cfg(test)]
mod tests;
