//! The selector as shares: right at every position, uniform to each server, strict about keys.

#![allow(clippy::unwrap_used)]

mod common;

use proptest::prelude::*;

use roadstead_trident::{
    dpf::KeyError,
    field::{P, add, reduce, sub, uniform},
    lines::{BLOCK, Line},
    party::Party,
    selector::{Domain, Expansion, Key, PAYLOAD, ROWS_PER_RUN, Walks, share},
};

use common::{chi_square_elements, expander, rng};

/// The shares of servers 1, 2 and 3, expanded.
fn expand(domain: Domain, keys: &[[Key; 2]; 3]) -> [Vec<Line>; 3] {
    Party::ALL.map(|party| {
        let lines = whole(domain, party, &keys[party.index()], &mut Walks::default());
        assert_eq!(lines.len(), domain.lines());
        lines
    })
}

/// All runs of a share, each of which but the last has the same length.
fn whole(domain: Domain, party: Party, keys: &[Key; 2], walks: &mut Walks) -> Vec<Line> {
    let expander = expander();
    let mut expansion = Expansion::new(&expander, domain, party, keys, walks);
    let (mut lines, mut run) = (Vec::new(), Vec::new());
    loop {
        expansion.next_run(&mut run);
        if run.is_empty() {
            return lines;
        }
        assert!(lines.len().is_multiple_of(PAYLOAD * ROWS_PER_RUN / BLOCK));
        lines.extend_from_slice(&run);
    }
}

fn at(lines: &[Line], row: usize, element: usize) -> u32 {
    lines[row / BLOCK * PAYLOAD + element].0[row % BLOCK]
}

/// Whether the shares lie on lines that meet zero in the payload at `index` and in zero at every other row.
fn selects(index: usize, payload: [u32; 3], mut shares: [Vec<Line>; 3]) -> bool {
    for (element, secret) in payload.into_iter().enumerate() {
        for lines in &mut shares {
            let place = &mut lines[index / BLOCK * PAYLOAD + element].0[index % BLOCK];
            *place = sub(*place, secret);
        }
    }
    let [first, second, third] = &shares;
    // Without a branch for each, so that all positions can be asked about.
    first.iter().zip(second).zip(third).fold(true, |all, ((first, second), third)| {
        let points = first.0.iter().zip(second.0).zip(third.0);
        points.fold(all, |all, ((&first, second), third)| {
            all & (second == add(first, first)) & (third == add(second, first))
        })
    })
}

fn check(rows: usize, positions: impl Iterator<Item = usize>) {
    let (mut rng, domain) = (rng(rows as u64), Domain::new(rows));
    for index in positions {
        let payload = [1, uniform(&mut rng), uniform(&mut rng)];
        let shares = expand(domain, &share(domain, index, &payload, &expander(), &mut rng));
        assert!(selects(index, payload, shares), "row {index} of {rows}");
    }
}

#[test]
fn selects_one_row_at_every_position_of_small_sizes() {
    (1..=69).chain(127..=129).for_each(|rows| check(rows, 0..rows));
}

#[test]
fn selects_one_row_at_every_position_of_1_000_and_many_of_10_000() {
    check(1_000, 0..1_000);
    check(10_000, (0..10_000).step_by(61).chain([9_995, 9_996, 9_999]));
}

#[test]
#[ignore = "computes for half a minute"]
fn selects_one_row_at_every_position_of_10_000() {
    check(10_000, 0..10_000);
}

#[test]
fn selects_one_row_around_the_ends_of_runs() {
    for rows in [ROWS_PER_RUN - 1, ROWS_PER_RUN, ROWS_PER_RUN + 1, 5 * ROWS_PER_RUN - 2] {
        let ends = (0..rows).step_by(ROWS_PER_RUN).flat_map(|end| [end.saturating_sub(1), end, end + 4]);
        check(rows, ends.chain([rows - 1]).filter(|&row| row < rows));
    }
}

/// A range may begin at any block and end anywhere, in one run or over several; runs end where they do for all rows.
#[test]
fn the_shares_of_some_rows_are_what_they_are_among_all() {
    let (rows, expander) = (3 * ROWS_PER_RUN + 100, expander());
    let domain = Domain::new(rows);
    let keys = &share(domain, 5, &[1, 2, 3], &expander, &mut rng(8))[1];
    let all = whole(domain, Party::ALL[1], keys, &mut Walks::default());
    let (run, mut walks) = (ROWS_PER_RUN, Walks::default());
    for range in [
        0..1,
        16..run,
        1_024..run + 1,
        run - 16..2 * run + 5,
        run..2 * run,
        2 * run..rows,
        rows / 16 * 16..rows,
    ] {
        let mut expansion =
            Expansion::of_rows(&expander, domain, Party::ALL[1], keys, range.clone(), &mut walks);
        let (mut lines, mut next) = (Vec::new(), range.start);
        loop {
            let mut more = Vec::new();
            expansion.next_run(&mut more);
            if more.is_empty() {
                break;
            }
            let end = range.end.min((next / run + 1) * run);
            assert_eq!(more.len(), PAYLOAD * (end - next).div_ceil(BLOCK), "{range:?}");
            (next, _) = (end, lines.append(&mut more));
        }
        assert_eq!(next, range.end);
        for (row, element) in range.clone().flat_map(|row| (0..PAYLOAD).map(move |element| (row, element))) {
            assert_eq!(at(&lines, row - range.start, element), at(&all, row, element), "{row} of {range:?}");
        }
    }
}

#[test]
fn a_walk_leaves_nothing_to_the_next_one() {
    let (mut rng, mut used) = (rng(4), Walks::default());
    for rows in [2 * ROWS_PER_RUN + 5, 3, ROWS_PER_RUN + 1, 40] {
        let domain = Domain::new(rows);
        let [keys, ..] = share(domain, rows / 2, &[1, 2, 3], &expander(), &mut rng);
        let fresh = whole(domain, Party::ALL[0], &keys, &mut Walks::default());
        assert!(whole(domain, Party::ALL[0], &keys, &mut used) == fresh, "{rows} rows after others");
        Expansion::new(&expander(), domain, Party::ALL[0], &keys, &mut used).next_run(&mut Vec::new());
        assert!(
            whole(domain, Party::ALL[0], &keys, &mut used) == fresh,
            "{rows} rows after a walk that stopped"
        );
    }
}

/// Walks from the root to one leaf as the construction is written down, with nothing of the evaluator.
fn reference(domain_rows: usize, role: usize, key: &[u8], row: usize) -> [u32; PAYLOAD] {
    use roadstead_trident::prg::Direction;
    let expander = expander();
    let levels = domain_rows.div_ceil(4).next_power_of_two().trailing_zeros() as usize;
    let block = |at: usize| u128::from_le_bytes(key[at..at + 16].try_into().unwrap());
    let encrypt = |direction, seed: u128| {
        let mut blocks = [seed.to_le_bytes().into()];
        expander.expand(direction, &mut blocks);
        u128::from_le_bytes(blocks[0].into())
    };
    let (mut seed, mut control) = (block(0), role == 1);
    for level in 0..levels {
        let right = ((row / 4) >> (levels - 1 - level)) & 1;
        let child = encrypt(if right == 1 { Direction::Right } else { Direction::Left }, seed);
        let (mut next, mut bit) = (child & !1, child & 1 == 1);
        if control {
            let place = 2 * level + right;
            next ^= block(16 + 16 * level);
            bit ^= key[16 + 16 * levels + place / 8] >> (place % 8) & 1 == 1;
        }
        (seed, control) = (next, bit);
    }
    let word = |at: usize| u32::from_le_bytes(key[key.len() - 48 + 4 * at..][..4].try_into().unwrap());
    std::array::from_fn(|element| {
        let at = 4 * element + row % 4;
        let block = encrypt(Direction::Elements, seed ^ (2 * (at as u128 / 2)));
        add(reduce((block >> (64 * (at % 2))) as u64), if control { word(at) } else { 0 })
    })
}

#[test]
fn the_evaluator_equals_a_walk_from_the_root() {
    for rows in [1, 4, 5, 17, 300, 1_000, 9_000] {
        let domain = Domain::new(rows);
        let keys = share(domain, rows / 2, &[1, 2, 3], &expander(), &mut rng(1));
        let shares = expand(domain, &keys);
        for (party, roles) in [[0, 0], [1, 0], [1, 1]].into_iter().enumerate() {
            for row in (0..rows).step_by(rows / 40 + 1) {
                let [g, k] =
                    [0, 1].map(|pair| reference(rows, roles[pair], keys[party][pair].as_bytes(), row));
                for element in 0..PAYLOAD {
                    let sum = u64::from(add(g[element], k[element]));
                    let want = reduce((party as u64 + 1) * sum);
                    assert_eq!(at(&shares[party], row, element), want, "row {row} of {rows}");
                }
            }
        }
    }
}

#[test]
fn keys_have_one_length_no_stray_bits_and_reduced_elements() {
    for (rows, length) in [(1, 64), (4, 64), (5, 81), (8, 81), (9, 97), (10_000, 259)] {
        let domain = Domain::new(rows);
        assert_eq!(domain.key_len(), length, "{rows} rows");
        for wrong in [0, length - 1, length + 1] {
            let refused = Key::parse(&vec![0; wrong], domain);
            assert_eq!(refused, Err(KeyError::Length { got: wrong, want: length }));
        }
        let mut key = vec![0; length];
        assert!(Key::parse(&key, domain).is_ok());
        key[length - 4..].copy_from_slice(&(P - 1).to_le_bytes());
        assert!(Key::parse(&key, domain).is_ok());
        for wrong in [P, P + 1, u32::MAX] {
            key[length - 4..].copy_from_slice(&wrong.to_le_bytes());
            assert_eq!(Key::parse(&key, domain), Err(KeyError::Element { at: 11 }));
        }
    }
    let mut stray = vec![0; 81];
    stray[32] = 4;
    assert_eq!(Key::parse(&stray, Domain::new(5)), Err(KeyError::StrayBits));
}

/// Each server's keys, and what they expand to, look the same whichever row is selected with whatever payload.
#[test]
fn what_one_server_holds_is_uniform() {
    let (mut rng, domain) = (rng(2), Domain::new(100));
    for (index, payload) in [(0, [1, 1, 1]), (57, [1, P - 1, P - 1]), (99, [1, 1, P - 1])] {
        let [mut words, mut selected, mut others]: [[Vec<u32>; 3]; 3] = Default::default();
        for _ in 0..1_500 {
            let keys = share(domain, index, &payload, &expander(), &mut rng);
            let shares = expand(domain, &keys);
            for party in 0..3 {
                for key in &keys[party] {
                    let bytes = key.as_bytes();
                    words[party].extend(common::elements(&bytes[bytes.len() - 48..]));
                }
                selected[party].extend((0..PAYLOAD).map(|element| at(&shares[party], index, element)));
                others[party].extend((0..PAYLOAD).map(|element| at(&shares[party], 31, element)));
            }
        }
        words.iter().chain(&selected).chain(&others).for_each(|elements| chi_square_elements(elements));
    }
}

proptest! {
    #[test]
    fn any_key_that_is_taken_expands_to_elements(rows in 1usize..200, seed: u64) {
        let (domain, mut rng) = (Domain::new(rows), rng(seed));
        let mut bytes = vec![0; domain.key_len()];
        rand::Rng::fill_bytes(&mut rng, &mut bytes);
        let length = bytes.len();
        // Final words below p, and no bit that no level uses.
        bytes[length - 48..].as_chunks_mut::<4>().0.iter_mut().for_each(|element| element[3] &= 0x3f);
        let levels = rows.div_ceil(4).next_power_of_two().trailing_zeros() as usize;
        if !levels.is_multiple_of(4) { bytes[length - 49] &= (1 << (2 * levels % 8)) - 1; }
        let key = Key::parse(&bytes, domain).unwrap();
        let lines = whole(domain, Party::ALL[2], &[key.clone(), key], &mut Walks::default());
        prop_assert!(lines.iter().flat_map(|line| line.0).all(|element| element < P));
    }
}
