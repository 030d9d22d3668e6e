//! The inner loops with 256-bit vectors.

use std::arch::x86_64::*;

use super::network::{self, Lanes};
use super::tiles::{groups_in_cache, in_tiles};
use super::{leaf::Leaf, portable};
use crate::{
    field::{P, add, reduce},
    lines::{BLOCK, COLUMN, Line, PAYLOAD, WORDS},
};

pub(super) fn select(groups: &[Line], width: usize, masks: &[&[u8]], sums: &mut [&mut [[u8; COLUMN]]]) {
    let step = groups_in_cache(width);
    for (at, groups) in groups.chunks(step * width).enumerate() {
        let range = at * step..at * step + groups.len() / width;
        in_tiles!((0..masks.len()), [4, 2, 1], |query, Q| {
            let masks: [&[u8]; Q] = std::array::from_fn(|q| &masks[query + q][range.clone()]);
            in_tiles!((0..width), [3, 1], |column, C| {
                // SAFETY: the caller made sure that the machine has AVX2.
                unsafe { select_tile::<Q, C>(groups, width, column, masks, &mut sums[query..query + Q]) }
            });
        });
    }
}

/// `Q` selections over `C` columns, whose sums stay in registers. Two rows side by side fill a vector; both halves of a
/// group go to the same sum.
#[target_feature(enable = "avx2")]
fn select_tile<const Q: usize, const C: usize>(
    groups: &[Line],
    width: usize,
    column: usize,
    masks: [&[u8]; Q],
    sums: &mut [&mut [[u8; COLUMN]]],
) {
    let low = _mm256_setr_epi64x(1, 2, 4, 8);
    let high = _mm256_setr_epi64x(16, 32, 64, 128);
    let mut lanes = [[_mm256_setzero_si256(); C]; Q];
    for (at, group) in groups.chunks_exact(width).enumerate() {
        let columns: &[Line; C] = group[column..].first_chunk().expect("the tile lies within the record");
        let rows: [[__m256i; 2]; C] = std::array::from_fn(|c| load(&columns[c]));
        for q in 0..Q {
            let mask = _mm256_set1_epi64x(i64::from(masks[q][at]));
            let first = _mm256_cmpeq_epi64(_mm256_and_si256(mask, low), low);
            let second = _mm256_cmpeq_epi64(_mm256_and_si256(mask, high), high);
            for c in 0..C {
                let both = _mm256_xor_si256(
                    _mm256_and_si256(rows[c][0], first),
                    _mm256_and_si256(rows[c][1], second),
                );
                lanes[q][c] = _mm256_xor_si256(lanes[q][c], both);
            }
        }
    }
    for (lanes, sums) in lanes.iter().zip(sums) {
        for (lanes, sum) in lanes.iter().zip(&mut sums[column..]) {
            let folded = _mm_xor_si128(_mm256_castsi256_si128(*lanes), _mm256_extracti128_si256::<1>(*lanes));
            // SAFETY: `sum` is 16 readable and writable bytes; unaligned access is asked for.
            unsafe {
                let place = sum.as_mut_ptr().cast();
                _mm_storeu_si128(place, _mm_xor_si128(folded, _mm_loadu_si128(place)));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line) -> [__m256i; 2] {
    let place = std::ptr::from_ref(line).cast::<__m256i>();
    // SAFETY: a line is 64 bytes aligned to 64, two whole vectors.
    unsafe { [_mm256_load_si256(place), _mm256_load_si256(place.add(1))] }
}

pub(super) fn scan(blocks: &[Line], width: usize, vectors: &[&[u32]], products: &mut [&mut [u32]]) {
    for (at, block) in blocks.chunks_exact(width).enumerate() {
        in_tiles!((0..vectors.len()), [3, 2, 1], |vector, Q| {
            let tile: [&[u32]; Q] = std::array::from_fn(|q| vectors[vector + q]);
            for half in 0..2 {
                // SAFETY: the caller made sure that the machine has AVX2.
                let sums = unsafe { scan_tile::<Q>(block, half, tile) };
                for (sums, products) in sums.iter().zip(&mut products[vector..]) {
                    products[at * BLOCK + half * 8..][..8].copy_from_slice(sums);
                }
            }
        });
    }
}

/// The products of eight rows (one half of a block) with `Q` vectors.
///
/// Even and odd rows have a 64-bit sum each. A folded sum is below 2^34 and a product below 2^62, so three products fit
/// between folds.
#[target_feature(enable = "avx2")]
fn scan_tile<const Q: usize>(block: &[Line], half: usize, vectors: [&[u32]; Q]) -> [[u32; 8]; Q] {
    let mut even = [_mm256_setzero_si256(); Q];
    let mut odd = [_mm256_setzero_si256(); Q];
    let vectors = vectors.map(|vector| &vector[..block.len()]);
    let accumulate = |at: usize, even: &mut [__m256i; Q], odd: &mut [__m256i; Q]| {
        let rows = load(&block[at])[half];
        let odd_rows = _mm256_srli_epi64::<32>(rows);
        for q in 0..Q {
            let element = _mm256_set1_epi32(vectors[q][at].cast_signed());
            even[q] = _mm256_add_epi64(even[q], _mm256_mul_epu32(rows, element));
            odd[q] = _mm256_add_epi64(odd[q], _mm256_mul_epu32(odd_rows, element));
        }
    };
    let mut at = 0;
    while at + 3 <= block.len() {
        for step in 0..3 {
            accumulate(at + step, &mut even, &mut odd);
        }
        for q in 0..Q {
            (even[q], odd[q]) = (fold(even[q]), fold(odd[q]));
        }
        at += 3;
    }
    for at in at..block.len() {
        accumulate(at, &mut even, &mut odd);
    }
    std::array::from_fn(|q| {
        let (even, odd) = (fold(fold(even[q])), fold(fold(odd[q])));
        canonical(_mm256_or_si256(even, _mm256_slli_epi64::<32>(odd)))
    })
}

pub(super) fn combine(
    blocks: &[Line],
    width: usize,
    columns: usize,
    weights: &[&[Line]],
    sums: &mut [&mut [u32]],
) {
    for (at, blocks) in blocks.chunks(COMBINED * width).enumerate() {
        let range = at * COMBINED * PAYLOAD..(at * COMBINED + blocks.len() / width) * PAYLOAD;
        for (weights, sums) in weights.iter().zip(sums.iter_mut()) {
            // SAFETY: the caller made sure that the machine has AVX2.
            unsafe { combine_run(blocks, width, columns, &weights[range.clone()], sums) }
        }
    }
}

/// Blocks whose weights are spread once for all columns.
const COMBINED: usize = 32;

/// The rows of each line are taken in four vectors: even and odd ones of both halves.
///
/// All go to one sum. A folded sum is below 2^34 and four products of elements are below 2^64 - 2^34, so they fit
/// between folds.
#[target_feature(enable = "avx2")]
fn combine_run(blocks: &[Line], width: usize, columns: usize, weights: &[Line], sums: &mut [u32]) {
    let quarters = |line: &Line| {
        let [low, high] = load(line);
        [low, _mm256_srli_epi64::<32>(low), high, _mm256_srli_epi64::<32>(high)]
    };
    let mut spread = [[[_mm256_setzero_si256(); 4]; PAYLOAD]; COMBINED];
    for (spread, weights) in spread.iter_mut().zip(weights.chunks_exact(PAYLOAD)) {
        *spread = std::array::from_fn(|element| quarters(&weights[element]));
    }
    for column in 0..columns {
        let mut totals = [_mm256_setzero_si256(); PAYLOAD];
        for (block, weights) in blocks.chunks_exact(width).zip(&spread) {
            let rows = quarters(&block[column]);
            for (total, weights) in totals.iter_mut().zip(weights) {
                for (rows, weights) in rows.iter().zip(weights) {
                    *total = _mm256_add_epi64(*total, _mm256_mul_epu32(*rows, *weights));
                }
                *total = fold(*total);
            }
        }
        for (element, total) in totals.into_iter().enumerate() {
            let mut lanes = [0u64; 4];
            // SAFETY: `lanes` is 32 writable bytes; unaligned access is asked for.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), total) };
            let sum = &mut sums[element * columns + column];
            *sum = add(*sum, reduce(lanes.iter().sum()));
        }
    }
}

pub(super) fn keep(best: &mut [Lanes], others: &mut [Lanes]) {
    // SAFETY: the caller made sure that the machine has AVX2.
    unsafe { keep_lanes(best, others) }
}

#[target_feature(enable = "avx2")]
fn keep_lanes(best: &mut [Lanes], others: &mut [Lanes]) {
    network::keep(best, others, |low, high| order(low, high));
}

#[inline]
#[target_feature(enable = "avx2")]
fn order(low: &mut Lanes, high: &mut Lanes) {
    for (low, high) in low.as_chunks_mut::<4>().0.iter_mut().zip(high.as_chunks_mut::<4>().0) {
        let (low, high) = (low.as_mut_ptr().cast(), high.as_mut_ptr().cast());
        // SAFETY: both are 32 readable and writable bytes; unaligned access is asked for.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(low), _mm256_loadu_si256(high));
            let greater = _mm256_cmpgt_epi64(a, b);
            _mm256_storeu_si256(low, _mm256_blendv_epi8(a, b, greater));
            _mm256_storeu_si256(high, _mm256_blendv_epi8(b, a, greater));
        }
    }
}

pub(super) fn add_leaves(leaves: &[Leaf], controls: &[u8], word: &[u64; WORDS], sums: &mut [[u64; WORDS]]) {
    #[target_feature(enable = "avx2")]
    fn wide(leaves: &[Leaf], controls: &[u8], word: &[u64; WORDS], sums: &mut [[u64; WORDS]]) {
        portable::add_leaves(leaves, controls, word, sums);
    }
    // SAFETY: the caller made sure that the machine has AVX2.
    unsafe { wide(leaves, controls, word, sums) }
}

pub(super) fn put_shares(point: u64, sums: &[[u64; WORDS]], lines: &mut [Line]) {
    #[target_feature(enable = "avx2")]
    fn wide(point: u64, sums: &[[u64; WORDS]], lines: &mut [Line]) {
        portable::put_shares(point, sums, lines);
    }
    // SAFETY: the caller made sure that the machine has AVX2.
    unsafe { wide(point, sums, lines) }
}

/// A smaller number that is equal modulo p.
#[inline]
#[target_feature(enable = "avx2")]
fn fold(x: __m256i) -> __m256i {
    let low = _mm256_and_si256(x, _mm256_set1_epi64x(i64::from(P)));
    _mm256_add_epi64(low, _mm256_srli_epi64::<31>(x))
}

/// Sums below 2^32 as elements below p.
#[inline]
#[target_feature(enable = "avx2")]
fn canonical(x: __m256i) -> [u32; 8] {
    let p = _mm256_set1_epi32(P.cast_signed());
    let once = _mm256_min_epu32(x, _mm256_sub_epi32(x, p));
    let twice = _mm256_min_epu32(once, _mm256_sub_epi32(once, p));
    let mut out = [0; 8];
    // SAFETY: `out` is 32 writable bytes; unaligned access is asked for.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), twice) };
    out
}
