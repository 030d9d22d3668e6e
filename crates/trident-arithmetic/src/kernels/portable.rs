//! The inner loops in plain Rust.

use super::{
    leaf::{Leaf, words_of},
    network::{self, Lanes},
};
use crate::{
    field::{P, add, reduce},
    lines::{BLOCK, COLUMN, GROUP, Line, PAYLOAD, ROWS_PER_LEAF, WORDS},
};

pub(super) fn select(groups: &[Line], width: usize, masks: &[&[u8]], sums: &mut [&mut [[u8; COLUMN]]]) {
    for (masks, sums) in masks.iter().zip(sums) {
        for (column, sum) in sums.iter_mut().enumerate() {
            let mut lanes = [0u32; BLOCK];
            for (group, &mask) in groups.chunks_exact(width).zip(*masks) {
                // Words, not rows: every step is the same whatever the mask, and a compiler can make vectors of it.
                let rows: [u32; GROUP] =
                    std::array::from_fn(|row| u32::from(mask >> (2 * row) & 1).wrapping_neg());
                for (lane, word) in lanes.iter_mut().enumerate() {
                    *word ^= group[column].0[lane] & rows[lane / GROUP];
                }
            }
            for (lane, word) in lanes.iter().enumerate() {
                let at = lane % GROUP * 4;
                for (byte, more) in sum[at..at + 4].iter_mut().zip(word.to_le_bytes()) {
                    *byte ^= more;
                }
            }
        }
    }
}

pub(super) fn scan(blocks: &[Line], width: usize, vectors: &[&[u32]], products: &mut [&mut [u32]]) {
    for (at, block) in blocks.chunks_exact(width).enumerate() {
        for (vector, products) in vectors.iter().zip(products.iter_mut()) {
            let mut sums = [0u64; BLOCK];
            // A folded sum is below 2^34 and a product below 2^62, so three products fit between folds.
            for (lines, elements) in block.chunks(3).zip(vector.chunks(3)) {
                for (line, &element) in lines.iter().zip(elements) {
                    for (sum, &word) in sums.iter_mut().zip(&line.0) {
                        *sum += u64::from(word) * u64::from(element);
                    }
                }
                for sum in &mut sums {
                    *sum = (*sum & u64::from(P)) + (*sum >> 31);
                }
            }
            for (product, sum) in products[at * BLOCK..][..BLOCK].iter_mut().zip(sums) {
                *product = reduce(sum);
            }
        }
    }
}

pub(super) fn combine(
    blocks: &[Line],
    width: usize,
    columns: usize,
    weights: &[&[Line]],
    sums: &mut [&mut [u32]],
) {
    for (weights, sums) in weights.iter().zip(sums) {
        for (element, sums) in sums.chunks_exact_mut(columns).enumerate() {
            for (column, sum) in sums.iter_mut().enumerate() {
                let mut lanes = [0u64; BLOCK];
                for (block, weights) in blocks.chunks_exact(width).zip(weights.chunks_exact(PAYLOAD)) {
                    let pairs = block[column].0.iter().zip(&weights[element].0);
                    for (lane, (&word, &weight)) in lanes.iter_mut().zip(pairs) {
                        let total = *lane + u64::from(word) * u64::from(weight);
                        *lane = (total & u64::from(P)) + (total >> 31);
                    }
                }
                *sum = lanes.into_iter().fold(*sum, |sum, lane| add(sum, reduce(lane)));
            }
        }
    }
}

/// Inlined where there are wider vectors, which a compiler then makes of it.
#[inline(always)]
pub(super) fn add_leaves(leaves: &[Leaf], controls: &[u8], word: &[u64; WORDS], sums: &mut [[u64; WORDS]]) {
    for ((leaf, &control), sums) in leaves.iter().zip(controls).zip(sums) {
        let mask = u64::from(control).wrapping_neg();
        let mut words = [0; WORDS];
        words_of(leaf, &mut words);
        for ((sum, x), correction) in sums.iter_mut().zip(words).zip(word) {
            *sum += (x & u64::from(P)) + (x >> 31) + (correction & mask);
        }
    }
}

/// As [`add_leaves`].
#[inline(always)]
pub(super) fn put_shares(point: u64, sums: &[[u64; WORDS]], lines: &mut [Line]) {
    for (lines, sums) in lines.chunks_exact_mut(PAYLOAD).zip(sums.chunks(BLOCK / ROWS_PER_LEAF)) {
        for (at, sums) in sums.iter().enumerate() {
            for (line, sums) in lines.iter_mut().zip(sums.as_chunks::<ROWS_PER_LEAF>().0) {
                let place = &mut line.0[at * ROWS_PER_LEAF..][..ROWS_PER_LEAF];
                place.iter_mut().zip(sums).for_each(|(share, sum)| *share = reduce(point * sum));
            }
        }
    }
}

pub(super) fn keep(best: &mut [Lanes], others: &mut [Lanes]) {
    // Exchanged by a mask: what is written as a choice may become a branch.
    network::keep(best, others, |low, high| {
        for (low, high) in low.iter_mut().zip(high) {
            let exchanged = (*low ^ *high) & i64::from(*high < *low).wrapping_neg();
            *low ^= exchanged;
            *high ^= exchanged;
        }
    });
}
