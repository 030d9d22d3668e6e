//! What a client does with a secret, so that no branch and no address depends on it.
//!
//! Whoever shares the client's processor can learn from its caches and from its time which rows of a table it looks at.

use std::hint::black_box;

use super::kernels::{Kernel, LANES, keep, network};

/// Items that one barrier hides.
const RUN: usize = 64;

/// Item `index` of `list`, after a look at all of them; zeros if there is none.
///
/// Of every run of items one is taken, and of these the one of the index's run. The masks for both go through a
/// barrier: a compiler that knows how they came about makes a branch of an `and` that is mostly with zero.
pub fn pick<const N: usize>(list: &[[u8; N]], index: usize) -> [u8; N] {
    let masks: [[u8; N]; RUN] = std::array::from_fn(|at| [mask(at, index % RUN); N]);
    let masks = black_box(masks);
    let mut picked = [0; N];
    for (number, run) in list.chunks(RUN).enumerate() {
        let mut one = [0; N];
        for (item, masks) in run.iter().zip(&masks) {
            one.iter_mut().zip(item).zip(masks).for_each(|((one, byte), mask)| *one |= byte & mask);
        }
        let mask = black_box(mask(number, index / RUN));
        picked.iter_mut().zip(one).for_each(|(picked, byte)| *picked |= byte & mask);
    }
    picked
}

/// All bits if the numbers are equal, else none.
fn mask(one: usize, other: usize) -> u8 {
    let differs = one ^ other;
    ((differs | differs.wrapping_neg()) >> (usize::BITS - 1)).wrapping_sub(1) as u8
}

/// Bits at the low end of a key that have to be clear: they tell equal keys apart.
pub const PLACE: u32 = 22;

/// The `k` smallest of `keys`, or all if there are fewer: each with its index, in the order of the keys, the lower
/// index first on a tie. What is compared with what depends on the two numbers only.
///
/// The keys are dealt out to lanes, which vectors sort side by side. The smallest of all are among those of the lanes,
/// which are few; these are sorted again by key and index.
pub fn smallest(keys: &[i64], k: usize) -> Vec<(i64, usize)> {
    const PLACES: usize = 1 << PLACE;
    let count = k.min(keys.len());
    let mut candidates = Vec::new();
    for (part, keys) in keys.chunks(PLACES).enumerate() {
        let index = |key: i64| (part * PLACES) as i128 | i128::from(key & (PLACES as i64 - 1));
        let wide = |key: i64| i128::from(key >> PLACE) << 64 | index(key);
        candidates.extend(of_each_lane(keys, count).into_iter().map(wide));
    }
    let mut best = vec![i128::MAX; count.next_power_of_two()];
    let mut others = best.clone();
    for candidates in candidates.chunks(best.len()) {
        others.fill(i128::MAX);
        others[..candidates.len()].copy_from_slice(candidates);
        // Minimum and maximum are selections by a flag, not branches.
        network::keep(&mut best, &mut others, |low, high| {
            (*low, *high) = ((*low).min(*high), (*low).max(*high));
        });
    }
    best.iter().take(count).map(|&wide| (((wide >> 64) as i64) << PLACE, wide as usize)).collect()
}

/// The `count` smallest of each lane, in place of their low bits the places that the keys had; and greatest numbers
/// where a lane has fewer.
fn of_each_lane(keys: &[i64], count: usize) -> Vec<i64> {
    let width = count.min(keys.len().div_ceil(LANES)).next_power_of_two();
    let mut best = vec![[i64::MAX; LANES]; width];
    let mut others = best.clone();
    for (run, keys) in keys.chunks(width * LANES).enumerate() {
        let others_flat = others.as_flattened_mut();
        others_flat[keys.len()..].fill(i64::MAX);
        for ((other, key), place) in others_flat.iter_mut().zip(keys).zip((run * width * LANES) as i64..) {
            *other = key | place;
        }
        keep(Kernel::best(), &mut best, &mut others);
    }
    best.into_flattened()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_item_can_be_picked() {
        let list: Vec<_> = (0..257u32).map(|item| (item * item + 1).to_ne_bytes()).collect();
        for (index, item) in list.iter().enumerate() {
            assert_eq!(pick(&list, index), *item);
        }
        assert_eq!(pick(&list, 257), [0; 4]);
    }

    #[test]
    fn of_nothing_nothing_is_picked_and_at_the_ends_of_runs_every_byte_of_the_right_item() {
        assert_eq!(pick::<3>(&[], 0), [0; 3]);
        for length in [1, RUN - 1, RUN, RUN + 1, 2 * RUN] {
            let list = vec![[0xff; 17]; length];
            for index in [0, length - 1] {
                assert_eq!(pick(&list, index), [0xff; 17], "{index} of {length}");
            }
            for beyond in [length, length + RUN, usize::MAX] {
                assert_eq!(pick(&list, beyond), [0; 17], "{beyond} of {length}");
            }
        }
    }

    #[test]
    fn of_no_keys_and_for_none_there_are_no_smallest_and_of_equal_ones_the_first() {
        assert_eq!(
            [smallest(&[], 0), smallest(&[], 5), smallest(&[7 << PLACE], 0)],
            [const { Vec::new() }; 3]
        );
        for length in [1, LANES - 1, LANES, LANES + 1, 3 * LANES] {
            let keys = vec![-1 << PLACE; length];
            for k in [1, length, length + 1] {
                assert_eq!(smallest(&keys, k), sorted(&keys, k), "{k} of {length}");
            }
        }
    }

    fn sorted(keys: &[i64], k: usize) -> Vec<(i64, usize)> {
        let mut sorted: Vec<_> = keys.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        sorted.truncate(k);
        sorted
    }

    proptest! {
        #[test]
        fn the_smallest_are_those_that_sorting_finds(
            keys in proptest::collection::vec((-250i64..250).prop_map(|key| key << PLACE), 0..300),
            k in 0usize..320,
        ) {
            prop_assert_eq!(smallest(&keys, k), sorted(&keys, k));
        }
    }

    #[test]
    fn they_are_found_among_more_keys_than_there_are_places() {
        let places = 1 << PLACE;
        let mut keys = vec![5 << PLACE; 2 * places + 9];
        for (index, key) in [(1, 4), (places - 1, -3), (places, -3), (2 * places + 8, i64::MIN >> PLACE)] {
            keys[index] = key << PLACE;
        }
        assert_eq!(smallest(&keys, 6), sorted(&keys, 6));
    }
}
