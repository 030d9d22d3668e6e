//! The selector: correct at every position, uniform to either party, strict about lengths.

#![allow(clippy::unwrap_used)]

mod common;

use proptest::prelude::*;

use roadstead_trident::dpf::{Domain, Evaluator, Key, KeyError, Role, generate};

use common::{chi_square_bytes, expander, rng};

fn expand(domain: Domain, role: Role, key: &Key) -> Vec<u8> {
    let mut bits = Vec::new();
    Evaluator::default().expand(&expander(), domain, role, key, &mut bits);
    bits
}

/// The positions at which the two expansions differ.
fn selected(domain: Domain, keys: &[Key; 2]) -> Vec<usize> {
    let [first, second] = [expand(domain, Role::First, &keys[0]), expand(domain, Role::Second, &keys[1])];
    assert_eq!(first.len(), domain.leaves() * 16);
    let differs = |row: usize| (first[row / 8] ^ second[row / 8]) >> (row % 8) & 1 == 1;
    (0..first.len() * 8).filter(|&row| differs(row)).collect()
}

/// Walks from the root to one leaf, level by level, as the paper defines it; shares nothing with the evaluator but the
/// public functions of the tree.
fn reference_bit(domain: Domain, party: u8, key: &[u8], row: usize) -> bool {
    use roadstead_trident::prg::Direction;
    let (levels, expander) = (domain.levels(), expander());
    let block = |at: usize| u128::from_le_bytes(key[at..at + 16].try_into().unwrap());
    let (mut seed, mut control) = (block(0), party == 1);
    for level in 0..levels {
        let right = ((row / 128) >> (levels - 1 - level)) & 1;
        let mut child = [seed.to_le_bytes().into()];
        expander.expand(if right == 1 { Direction::Right } else { Direction::Left }, &mut child);
        let child = u128::from_le_bytes(child[0].into());
        let (mut next, mut bit) = (child & !1, child & 1 == 1);
        if control {
            let place = 2 * level + right;
            next ^= block(16 + 16 * level);
            bit ^= key[16 + 16 * levels + place / 8] >> (place % 8) & 1 == 1;
        }
        (seed, control) = (next, bit);
    }
    let mut leaf = [seed.to_le_bytes().into()];
    expander.expand(Direction::Leaf, &mut leaf);
    let word = if control { block(key.len() - 16) } else { 0 };
    (u128::from_le_bytes(leaf[0].into()) ^ word) >> (row % 128) & 1 == 1
}

#[test]
fn selects_one_row_at_every_position_of_every_size_to_300() {
    let mut rng = rng(1);
    for rows in 1..=300 {
        let domain = Domain::new(rows);
        for row in 0..rows {
            assert_eq!(selected(domain, &generate(domain, row, &expander(), &mut rng)), [row], "{rows} rows");
        }
    }
}

#[test]
fn selects_one_row_at_every_position_of_10_000() {
    let (mut rng, domain) = (rng(2), Domain::new(10_000));
    let (mut evaluator, mut first, mut second) = (Evaluator::default(), Vec::new(), Vec::new());
    for row in 0..10_000 {
        let keys = generate(domain, row, &expander(), &mut rng);
        evaluator.expand(&expander(), domain, Role::First, &keys[0], &mut first);
        evaluator.expand(&expander(), domain, Role::Second, &keys[1], &mut second);
        second[row / 8] ^= 1 << (row % 8);
        assert!(first == second, "row {row}");
    }
}

#[test]
fn the_evaluator_equals_a_walk_from_the_root() {
    let mut rng = rng(3);
    // From 131,072 rows on there is more than one run.
    for rows in [1, 127, 128, 129, 257, 1_000, 10_000, 131_072, 131_073, 1_000_003] {
        let domain = Domain::new(rows);
        let keys = generate(domain, rows / 2, &expander(), &mut rng);
        for (party, (key, role)) in keys.iter().zip([Role::First, Role::Second]).enumerate() {
            let bits = expand(domain, role, key);
            for row in (0..rows).step_by(rows / 100 + 1) {
                let bit = bits[row / 8] >> (row % 8) & 1 == 1;
                assert_eq!(bit, reference_bit(domain, party as u8, key.as_bytes(), row), "{row} of {rows}");
            }
        }
    }
}

#[test]
fn key_lengths() {
    let lengths = [(1, 32), (128, 32), (129, 49), (256, 49), (257, 65), (10_000, 146), (1_000_000, 244)];
    for (rows, length) in lengths {
        let domain = Domain::new(rows);
        assert_eq!(domain.key_len(), length, "{rows} rows");
        assert_eq!(generate(domain, rows - 1, &expander(), &mut rng(4))[0].as_bytes().len(), length);
        for wrong in [0, length - 1, length + 1] {
            assert_eq!(
                Key::parse(&vec![0; wrong], domain),
                Err(KeyError::Length { got: wrong, want: length })
            );
        }
        assert!(Key::parse(&vec![0; length], domain).is_ok());
    }
    let stray = {
        let mut key = vec![0; 49];
        key[32] = 4;
        key
    };
    assert_eq!(Key::parse(&stray, Domain::new(129)), Err(KeyError::StrayBits));
}

/// Each party's key alone, and what it expands to, must look the same whichever row is selected: uniform.
#[test]
fn one_key_of_a_pair_is_uniform() {
    let (mut rng, domain) = (rng(5), Domain::new(1_000));
    for row in [0, 500, 999] {
        for party in 0..2 {
            // Root without its lowest bit; correction seeds without theirs; final word; and the expansion.
            let (mut material, mut expansion) = (Vec::new(), Vec::new());
            for _ in 0..2_000 {
                let key = &generate(domain, row, &expander(), &mut rng)[party];
                let bytes = key.as_bytes();
                for seed in bytes[..64].chunks(16) {
                    material.extend_from_slice(&seed[1..]);
                }
                material.extend_from_slice(&bytes[65..]);
                let bits = expand(domain, [Role::First, Role::Second][party], key);
                expansion.extend_from_slice(&bits[row / 8..(row / 8 + 1).min(125)]);
                expansion.extend_from_slice(&bits[40..56]);
            }
            chi_square_bytes(&material);
            chi_square_bytes(&expansion);
        }
    }
}

proptest! {
    /// A range of rows may begin at any leaf and end anywhere, in one run or over several.
    #[test]
    fn some_rows_are_what_they_are_among_all(rows in 1_usize..400_000, from: u32, length: u32, seed: u64) {
        let (domain, mut random) = (Domain::new(rows), rng(seed));
        let key = &generate(domain, rows / 3, &expander(), &mut random)[0];
        let start = from as usize % domain.leaves();
        let end = (start * 128 + length as usize % (rows - start * 128 + 1)).max(start * 128);
        let mut bits = Vec::new();
        Evaluator::default().expand_rows(&expander(), domain, Role::First, key, start * 128..end, &mut bits);
        let mut whole = expand(domain, Role::First, key).split_off(start * 16);
        prop_assert_eq!(bits.len(), (end - start * 128).div_ceil(128) * 16);
        whole.truncate(bits.len());
        // Those of the last leaf that were not asked for are clear.
        let count = end - start * 128;
        for bit in count..8 * whole.len() {
            whole[bit / 8] &= !(1 << (bit % 8));
        }
        prop_assert!(bits == whole, "{start} to {end} of {rows}");
    }

    #[test]
    fn any_bytes_of_the_right_length_expand_without_panic(rows in 1usize..2_000, seed: u64) {
        let domain = Domain::new(rows);
        let mut bytes = vec![0; domain.key_len()];
        rand::Rng::fill_bytes(&mut rng(seed), &mut bytes);
        let used = 2 * domain.levels() % 8;
        let last = bytes.len() - 17;
        if used != 0 { bytes[last] &= (1 << used) - 1; }
        let bits = expand(domain, Role::Second, &Key::parse(&bytes, domain).unwrap());
        prop_assert!((rows..bits.len() * 8).all(|row| bits[row / 8] >> (row % 8) & 1 == 0));
    }
}
