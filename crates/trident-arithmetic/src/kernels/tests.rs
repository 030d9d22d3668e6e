use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{
    field::{P, uniform},
    lines::ROWS_PER_LEAF,
};

fn available() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| kernel.available())
}

fn random_lines(count: usize, rng: &mut ChaCha8Rng) -> Vec<Line> {
    (0..count).map(|_| Line(std::array::from_fn(|_| rng.next_u32()))).collect()
}

/// Byte by byte, from the definition of the layout.
fn naive_select(groups: &[Line], width: usize, bits: &[u8]) -> Vec<[u8; COLUMN]> {
    let mut sum = vec![[0; COLUMN]; width];
    for row in 0..groups.len() / width * GROUP {
        if bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1) {
            for (column, sum) in sum.iter_mut().enumerate() {
                for (at, byte) in sum.iter_mut().enumerate() {
                    let word = groups[row / GROUP * width + column].0[row % GROUP * 4 + at / 4];
                    *byte ^= word.to_le_bytes()[at % 4];
                }
            }
        }
    }
    sum
}

fn naive_scan(blocks: &[Line], width: usize, vector: &[u32]) -> Vec<u32> {
    (0..blocks.len() / width * BLOCK)
        .map(|row| {
            let products = (0..width)
                .map(|j| u128::from(blocks[row / BLOCK * width + j].0[row % BLOCK]) * u128::from(vector[j]));
            (products.sum::<u128>() % u128::from(P)) as u32
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn selections_equal_the_definition(seed: u64, groups in 1usize..90, width in 1usize..12, queries in 1usize..14) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let lines = random_lines(groups * width, &mut rng);
        let bits: Vec<Vec<u8>> = (0..queries).map(|_| { let mut b = vec![0; groups.div_ceil(2)]; rng.fill_bytes(&mut b); b }).collect();
        let masks: Vec<Vec<u8>> = bits.iter().map(|bits| { let mut m = Vec::new(); spread(bits, groups, &mut m); m }).collect();
        let masks: Vec<&[u8]> = masks.iter().map(Vec::as_slice).collect();
        for kernel in available() {
            let mut sums = vec![vec![[0; COLUMN]; width]; queries];
            let mut places: Vec<&mut [[u8; COLUMN]]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
            select(kernel, &lines, width, &masks, &mut places);
            for (sum, bits) in sums.iter().zip(&bits) {
                prop_assert_eq!(sum, &naive_select(&lines, width, bits), "{}", kernel);
            }
        }
    }

    #[test]
    fn scans_equal_the_definition(seed: u64, blocks in 1usize..5, width in 1usize..140, queries in 1usize..11) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let lines: Vec<Line> = (0..blocks * width).map(|_| Line(std::array::from_fn(|_| uniform(&mut rng)))).collect();
        let vectors: Vec<Vec<u32>> = (0..queries).map(|_| (0..width).map(|_| uniform(&mut rng)).collect()).collect();
        check_scan(&lines, width, &vectors);
    }
}

/// What a kernel would read or write beyond, or leave out without a word.
#[test]
fn shapes_that_do_not_fit_are_no_work_for_any_kernel() {
    let panics = |work: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
    let (four, masks, vector) = (vec![Line::default(); 4], [0; 2], [0; 2]);
    for kernel in available() {
        let select = |groups: usize, width: usize, masks: &[&[u8]], columns: &[usize]| {
            let mut sums: Vec<_> = columns.iter().map(|columns| vec![[0; COLUMN]; *columns]).collect();
            let mut sums: Vec<_> = sums.iter_mut().map(Vec::as_mut_slice).collect();
            super::select(kernel, &four[..groups], width, masks, &mut sums);
        };
        assert!(!panics(&|| select(4, 2, &[&masks], &[2])), "{kernel}");
        assert!(panics(&|| select(3, 2, &[&masks[..1]], &[2])), "{kernel}: half a group");
        assert!(panics(&|| select(4, 2, &[&masks], &[])), "{kernel}: a selection without a sum");
        assert!(panics(&|| select(4, 2, &[&masks], &[2, 2])), "{kernel}: a sum without a selection");
        for length in [1, 3] {
            let masks = vec![0; length];
            assert!(panics(&|| select(4, 2, &[&masks], &[2])), "{kernel}: masks of {length} groups");
            assert!(panics(&|| select(4, 2, &[&[0; 2]], &[length])), "{kernel}: sums of {length} columns");
        }

        let scan = |blocks: usize, width: usize, vectors: &[&[u32]], rows: &[usize]| {
            let mut products: Vec<_> = rows.iter().map(|rows| vec![0; *rows]).collect();
            let mut products: Vec<_> = products.iter_mut().map(Vec::as_mut_slice).collect();
            super::scan(kernel, &four[..blocks], width, vectors, &mut products);
        };
        assert!(!panics(&|| scan(4, 2, &[&vector], &[32])), "{kernel}");
        assert!(panics(&|| scan(3, 2, &[&vector], &[16])), "{kernel}: half a block");
        assert!(panics(&|| scan(4, 2, &[&vector, &vector], &[32])), "{kernel}: a vector without products");
        assert!(panics(&|| scan(4, 2, &[&vector], &[32, 32])), "{kernel}: products without a vector");
        for length in [1, 3] {
            assert!(panics(&|| scan(4, 2, &[&vec![0; length]], &[32])), "{kernel}: a vector of {length}");
        }
        for rows in [31, 33, 16, 48] {
            assert!(panics(&|| scan(4, 2, &[&vector], &[rows])), "{kernel}: products of {rows} rows");
        }

        let combine = |width: usize, columns: usize, lines: &[usize], sums: &[usize]| {
            let weights: Vec<_> = lines.iter().map(|lines| vec![Line::default(); *lines]).collect();
            let weights: Vec<_> = weights.iter().map(Vec::as_slice).collect();
            let mut sums: Vec<_> = sums.iter().map(|sums| vec![0; *sums]).collect();
            let mut sums: Vec<_> = sums.iter_mut().map(Vec::as_mut_slice).collect();
            super::combine(kernel, &four, width, columns, &weights, &mut sums);
        };
        assert!(!panics(&|| combine(2, 1, &[2 * PAYLOAD], &[PAYLOAD])), "{kernel}");
        assert!(panics(&|| combine(3, 1, &[PAYLOAD], &[PAYLOAD])), "{kernel}: half a block");
        assert!(
            panics(&|| combine(2, 3, &[2 * PAYLOAD], &[3 * PAYLOAD])),
            "{kernel}: columns beyond the width"
        );
        assert!(panics(&|| combine(2, 1, &[2 * PAYLOAD], &[])), "{kernel}: weights without a sum");
        assert!(panics(&|| combine(2, 1, &[2 * PAYLOAD], &[PAYLOAD; 2])), "{kernel}: a sum without weights");
        for off in [PAYLOAD - 1, PAYLOAD + 1] {
            assert!(
                panics(&|| combine(2, 1, &[PAYLOAD + off], &[PAYLOAD])),
                "{kernel}: weights of another length"
            );
            assert!(panics(&|| combine(2, 1, &[2 * PAYLOAD], &[off])), "{kernel}: sums of another length");
        }

        for (best, others) in [(0, 0), (1, 2), (3, 3), (4, 2)] {
            let [mut best, mut others] = [best, others].map(|count| vec![[0; LANES]; count]);
            let keep = std::panic::AssertUnwindSafe(|| keep(kernel, &mut best, &mut others));
            assert!(std::panic::catch_unwind(keep).is_err(), "{kernel}");
        }
    }
}

#[test]
fn the_best_kernel_is_the_last_that_the_machine_can_run_and_each_has_its_name() {
    assert_eq!(available().last(), Some(Kernel::best()));
    assert!(Kernel::Portable.available());
    assert_eq!(Kernel::ALL.map(|kernel| kernel.to_string()), ["portable", "avx2", "avx512"]);
}

fn check_scan(lines: &[Line], width: usize, vectors: &[Vec<u32>]) {
    let vectors: Vec<&[u32]> = vectors.iter().map(Vec::as_slice).collect();
    for kernel in available() {
        let mut products = vec![vec![7; lines.len() / width * BLOCK]; vectors.len()];
        let mut places: Vec<&mut [u32]> = products.iter_mut().map(Vec::as_mut_slice).collect();
        scan(kernel, lines, width, &vectors, &mut places);
        for (product, vector) in products.iter().zip(&vectors) {
            assert_eq!(product, &naive_scan(lines, width, vector), "{kernel}, width {width}");
        }
    }
}

/// Sums are largest when every element is p-1: an accumulator that overflows shows here, at every width.
#[test]
fn the_largest_elements_do_not_overflow() {
    for width in (1..300).chain([2047, 2048, 2049, 4095, 4096, 4097, 8200]) {
        for queries in [1, 3, 6] {
            check_scan(&vec![Line([P - 1; 16]); width], width, &vec![vec![P - 1; width]; queries]);
        }
    }
}

fn check_combine(lines: &[Line], width: usize, columns: usize, weights: &[Vec<Line>]) {
    let naive = |weights: &[Line], element: usize, column: usize| {
        let product = |row: usize| {
            let word = lines[row / BLOCK * width + column].0[row % BLOCK];
            let weight = weights[row / BLOCK * PAYLOAD + element].0[row % BLOCK];
            u128::from(word) * u128::from(weight)
        };
        let sum: u128 = (0..lines.len() / width * BLOCK).map(product).sum();
        ((sum + 5) % u128::from(P)) as u32
    };
    let places: Vec<&[Line]> = weights.iter().map(Vec::as_slice).collect();
    for kernel in available() {
        let mut sums = vec![vec![5; PAYLOAD * columns]; weights.len()];
        combine(
            kernel,
            lines,
            width,
            columns,
            &places,
            &mut sums.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
        );
        for (sums, weights) in sums.iter().zip(weights) {
            for (at, &sum) in sums.iter().enumerate() {
                assert_eq!(sum, naive(weights, at / columns, at % columns), "{kernel}, width {width}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn combinations_equal_the_definition(seed: u64, blocks in 1usize..70, width in 2usize..10, queries in 1usize..4) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut lines = |count: usize| -> Vec<Line> {
            (0..count).map(|_| Line(std::array::from_fn(|_| uniform(&mut rng)))).collect()
        };
        let rows = lines(blocks * width);
        let weights: Vec<Vec<Line>> = (0..queries).map(|_| lines(blocks * PAYLOAD)).collect();
        check_combine(&rows, width, width - 1, &weights);
        check_combine(&rows, width, width, &weights);
    }
}

#[test]
fn combinations_of_the_largest_elements_do_not_overflow() {
    for blocks in [1, 31, 32, 33, 200] {
        let largest = |count| vec![Line([P - 1; 16]); count];
        check_combine(&largest(blocks * 3), 3, 2, &[largest(blocks * PAYLOAD)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shares_of_leaves_equal_the_definition(seed: u64, leaves in 1usize..65, point in 1u64..4) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let word: [u64; WORDS] = std::array::from_fn(|_| u64::from(uniform(&mut rng)));
        let keys: Vec<(Vec<[u64; WORDS]>, Vec<u8>)> = (0..2)
            .map(|_| (0..leaves).map(|_| (std::array::from_fn(|_| rng.next_u64()), rng.next_u32() as u8 & 1)).unzip())
            .collect();
        let blocks = |words: &[u64; WORDS]| -> leaf::Leaf {
            std::array::from_fn(|j| {
                (u128::from(words[2 * j]) | u128::from(words[2 * j + 1]) << 64).to_le_bytes().into()
            })
        };
        for kernel in available() {
            let mut sums = vec![[0; WORDS]; leaves];
            for (words, controls) in &keys {
                let leaves: Vec<leaf::Leaf> = words.iter().map(blocks).collect();
                add_leaves(kernel, &leaves, controls, &word, &mut sums);
            }
            let mut lines = vec![Line::default(); PAYLOAD * leaves.div_ceil(BLOCK / ROWS_PER_LEAF)];
            put_shares(kernel, point, &sums, &mut lines);
            for (row, element) in (0..ROWS_PER_LEAF * leaves).flat_map(|row| (0..PAYLOAD).map(move |c| (row, c))) {
                let (leaf, at) = (row / ROWS_PER_LEAF, element * ROWS_PER_LEAF + row % ROWS_PER_LEAF);
                let terms = keys.iter().map(|(words, controls)| {
                    u128::from(words[leaf][at]) + u128::from(word[at]) * u128::from(controls[leaf])
                });
                let share = (terms.sum::<u128>() * u128::from(point) % u128::from(P)) as u32;
                let found = lines[row / BLOCK * PAYLOAD + element].0[row % BLOCK];
                prop_assert_eq!(found, share, "{} row {} element {}", kernel, row, element);
            }
        }
    }

    #[test]
    fn every_lane_keeps_its_smallest(seed: u64, levels in 0u32..7, runs in 1usize..5) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let width = 1 << levels;
        let runs: Vec<Vec<Lanes>> = (0..runs)
            .map(|_| (0..width).map(|_| std::array::from_fn(|_| rng.next_u64().cast_signed())).collect())
            .collect();
        let smallest: [Vec<i64>; LANES] = std::array::from_fn(|lane| {
            let mut lane: Vec<i64> = runs.iter().flatten().map(|numbers| numbers[lane]).collect();
            lane.sort_unstable();
            lane.truncate(width);
            lane
        });
        for kernel in available() {
            let mut best = vec![[i64::MAX; LANES]; width];
            runs.iter().for_each(|run| keep(kernel, &mut best, &mut run.clone()));
            for (lane, smallest) in smallest.iter().enumerate() {
                prop_assert!(best.iter().map(|numbers| &numbers[lane]).eq(smallest), "{}", kernel);
            }
        }
    }
}
