//! The inner loops with 512-bit vectors and 52-bit multiply-add.

use std::arch::x86_64::*;

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
        // With eight queries the sums no longer stay in registers.
        in_tiles!((0..masks.len()), [4, 2, 1], |query, Q| {
            let masks: [&[u8]; Q] = std::array::from_fn(|q| &masks[query + q][range.clone()]);
            in_tiles!((0..width), [3, 1], |column, C| {
                // SAFETY: the caller made sure that the machine has AVX-512 F.
                unsafe { select_tile::<Q, C>(groups, width, column, masks, &mut sums[query..query + Q]) }
            });
        });
    }
}

/// `Q` selections over `C` columns, whose sums stay in registers: one masked XOR takes a column of four rows.
#[target_feature(enable = "avx512f")]
fn select_tile<const Q: usize, const C: usize>(
    groups: &[Line],
    width: usize,
    column: usize,
    masks: [&[u8]; Q],
    sums: &mut [&mut [[u8; COLUMN]]],
) {
    let mut lanes = [[_mm512_setzero_si512(); C]; Q];
    for (at, group) in groups.chunks_exact(width).enumerate() {
        let columns: &[Line; C] = group[column..].first_chunk().expect("the tile lies within the record");
        let rows: [__m512i; C] = std::array::from_fn(|c| load(&columns[c]));
        for q in 0..Q {
            let mask = masks[q][at];
            for c in 0..C {
                lanes[q][c] = _mm512_mask_xor_epi64(lanes[q][c], mask, lanes[q][c], rows[c]);
            }
        }
    }
    for (lanes, sums) in lanes.iter().zip(sums) {
        for (lanes, sum) in lanes.iter().zip(&mut sums[column..]) {
            let half =
                _mm256_xor_si256(_mm512_castsi512_si256(*lanes), _mm512_extracti64x4_epi64::<1>(*lanes));
            let folded = _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
            // SAFETY: `sum` is 16 readable and writable bytes; unaligned access is asked for.
            unsafe {
                let place = sum.as_mut_ptr().cast();
                _mm_storeu_si128(place, _mm_xor_si128(folded, _mm_loadu_si128(place)));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes aligned to 64, one whole vector.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

pub(super) fn scan(blocks: &[Line], width: usize, vectors: &[&[u32]], products: &mut [&mut [u32]]) {
    for (at, block) in blocks.chunks_exact(width).enumerate() {
        in_tiles!((0..vectors.len()), [6, 3, 2, 1], |vector, Q| {
            let tile: [&[u32]; Q] = std::array::from_fn(|q| vectors[vector + q]);
            // SAFETY: the caller made sure that the machine has AVX-512 F and IFMA.
            let sums = unsafe { scan_tile::<Q>(block, tile) };
            for (sums, products) in sums.iter().zip(&mut products[vector..]) {
                products[at * BLOCK..][..BLOCK].copy_from_slice(sums);
            }
        });
    }
}

/// Elements between folds: the low halves of as many products, each below 2^52, cannot overflow 64 bits.
const RUN: usize = 2048;

/// The products of a block's sixteen rows with `Q` vectors. Even and odd rows have a low and a high sum each.
#[target_feature(enable = "avx512f,avx512ifma")]
fn scan_tile<const Q: usize>(block: &[Line], vectors: [&[u32]; Q]) -> [[u32; BLOCK]; Q] {
    let word = _mm512_set1_epi64(0xffff_ffff);
    let mut totals = [[_mm512_setzero_si512(); 2]; Q];
    for start in (0..block.len()).step_by(RUN) {
        let block = &block[start..block.len().min(start + RUN)];
        let vectors = vectors.map(|vector| &vector[start..start + block.len()]);
        let mut low = [[_mm512_setzero_si512(); 2]; Q];
        let mut high = [[_mm512_setzero_si512(); 2]; Q];
        for (at, line) in block.iter().enumerate() {
            let rows = load(line);
            let rows = [_mm512_and_si512(rows, word), _mm512_srli_epi64::<32>(rows)];
            for q in 0..Q {
                let element = _mm512_set1_epi64(i64::from(vectors[q][at]));
                for parity in 0..2 {
                    low[q][parity] = _mm512_madd52lo_epu64(low[q][parity], rows[parity], element);
                    high[q][parity] = _mm512_madd52hi_epu64(high[q][parity], rows[parity], element);
                }
            }
        }
        for q in 0..Q {
            for parity in 0..2 {
                // 2^52 is 2^21 modulo p; the high sum is below 2^21.
                let high = _mm512_slli_epi64::<21>(high[q][parity]);
                let sum = _mm512_add_epi64(fold(low[q][parity]), high);
                totals[q][parity] = fold(_mm512_add_epi64(totals[q][parity], fold(sum)));
            }
        }
    }
    std::array::from_fn(|q| {
        let [even, odd] = totals[q].map(|total| fold(fold(total)));
        canonical(_mm512_or_si512(even, _mm512_slli_epi64::<32>(odd)))
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
            // SAFETY: the caller made sure that the machine has AVX-512 F.
            unsafe { combine_run(blocks, width, columns, &weights[range.clone()], sums) }
        }
    }
}

/// Blocks whose weights are spread once for all columns: what is spread stays in the first-level cache. Even, as they are
/// taken by twos.
const COMBINED: usize = 32;

/// The weights of even and odd rows of a block, for each element. A product takes the low half of every lane.
type Spread = [[__m512i; 2]; PAYLOAD];

#[target_feature(enable = "avx512f")]
fn combine_run(blocks: &[Line], width: usize, columns: usize, weights: &[Line], sums: &mut [u32]) {
    // Nothing is added for a block that is missing at the end.
    let mut spread = [[[_mm512_setzero_si512(); 2]; PAYLOAD]; COMBINED];
    for (spread, weights) in spread.iter_mut().zip(weights.chunks_exact(PAYLOAD)) {
        for (spread, line) in spread.iter_mut().zip(weights) {
            *spread = both(load(line));
        }
    }
    in_tiles!((0..columns), [2, 1], |column, C| {
        let found = combine_tile::<C>(blocks, width, column, &spread);
        for (at, found) in found.iter().enumerate() {
            for (element, found) in found.iter().enumerate() {
                let sum = &mut sums[element * columns + column + at];
                *sum = add(*sum, reduce(*found));
            }
        }
    });
}

/// Even and odd words, each in the low half of a lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn both(line: __m512i) -> [__m512i; 2] {
    [line, _mm512_srli_epi64::<32>(line)]
}

/// The sums of `C` columns over at most [`COMBINED`] blocks, for each element. A plain product and an addition are one
/// instruction less for two rows than the low and the high half of a product.
#[inline]
#[target_feature(enable = "avx512f")]
fn combine_tile<const C: usize>(
    blocks: &[Line],
    width: usize,
    column: usize,
    spread: &[Spread; COMBINED],
) -> [[u64; PAYLOAD]; C] {
    let mut totals = [[_mm512_setzero_si512(); PAYLOAD]; C];
    let mut highs = [[_mm512_setzero_si512(); PAYLOAD]; C];
    let count = blocks.len() / width;
    for first in (0..count).step_by(2) {
        let second = (first + 1).min(count - 1);
        let (one, two) = (&blocks[first * width + column..][..C], &blocks[second * width + column..][..C]);
        for at in 0..C {
            let (one, two) = (both(load(&one[at])), both(load(&two[at])));
            for element in 0..PAYLOAD {
                let (with_one, with_two) = (&spread[first][element], &spread[first + 1][element]);
                // Four products of elements are below 2^64.
                let sum = _mm512_add_epi64(
                    _mm512_add_epi64(
                        _mm512_mul_epu32(one[0], with_one[0]),
                        _mm512_mul_epu32(one[1], with_one[1]),
                    ),
                    _mm512_add_epi64(
                        _mm512_mul_epu32(two[0], with_two[0]),
                        _mm512_mul_epu32(two[1], with_two[1]),
                    ),
                );
                // The total wraps; what is below 2^31 of each sum is what is left of it without their high parts.
                totals[at][element] = _mm512_add_epi64(totals[at][element], sum);
                highs[at][element] = _mm512_add_epi64(highs[at][element], _mm512_srli_epi64::<31>(sum));
            }
        }
    }
    let mut found = [[0; PAYLOAD]; C];
    for at in 0..C {
        for element in 0..PAYLOAD {
            let high = highs[at][element];
            let low = _mm512_sub_epi64(totals[at][element], _mm512_slli_epi64::<31>(high));
            // 2^31 is 1 modulo p; both together are below 2^38.
            found[at][element] = _mm512_reduce_add_epi64(_mm512_add_epi64(low, high)).cast_unsigned();
        }
    }
    found
}

pub(super) fn add_leaves(leaves: &[Leaf], controls: &[u8], word: &[u64; WORDS], sums: &mut [[u64; WORDS]]) {
    #[target_feature(enable = "avx512f")]
    fn wide(leaves: &[Leaf], controls: &[u8], word: &[u64; WORDS], sums: &mut [[u64; WORDS]]) {
        portable::add_leaves(leaves, controls, word, sums);
    }
    // SAFETY: the caller made sure that the machine has AVX-512 F.
    unsafe { wide(leaves, controls, word, sums) }
}

pub(super) fn put_shares(point: u64, sums: &[[u64; WORDS]], lines: &mut [Line]) {
    #[target_feature(enable = "avx512f")]
    fn wide(point: u64, sums: &[[u64; WORDS]], lines: &mut [Line]) {
        portable::put_shares(point, sums, lines);
    }
    // SAFETY: the caller made sure that the machine has AVX-512 F.
    unsafe { wide(point, sums, lines) }
}

/// A smaller number that is equal modulo p.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold(x: __m512i) -> __m512i {
    let low = _mm512_and_si512(x, _mm512_set1_epi64(i64::from(P)));
    _mm512_add_epi64(low, _mm512_srli_epi64::<31>(x))
}

/// Sums below 2^32 as elements below p.
#[inline]
#[target_feature(enable = "avx512f")]
fn canonical(x: __m512i) -> [u32; BLOCK] {
    let p = _mm512_set1_epi32(P.cast_signed());
    let once = _mm512_min_epu32(x, _mm512_sub_epi32(x, p));
    let twice = _mm512_min_epu32(once, _mm512_sub_epi32(once, p));
    let mut out = [0; BLOCK];
    // SAFETY: `out` is 64 writable bytes; unaligned access is asked for.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), twice) };
    out
}
