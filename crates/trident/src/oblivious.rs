//! What a client does with a secret, so that no branch and no address depends on it.
//!
//! Whoever shares the client's processor can learn from its caches and from its time which rows of a table it looks at.
#![forbid(unsafe_code)]

use std::hint::black_box;

/// Items between two looks at the index.
const RUN: usize = 64;

/// Item `index` of `list`, after a look at all of them; zeros if there is none.
///
/// The index goes through a barrier before each run of items, so that the compiler cannot know which runs matter. A
/// barrier for each item would cost more than the look.
pub(crate) fn pick<const N: usize>(list: &[[u8; N]], index: usize) -> [u8; N] {
    let mut picked = [0; N];
    for (number, run) in list.chunks(RUN).enumerate() {
        let index = black_box(index);
        for (at, item) in (number * RUN..).zip(run) {
            let differs = at ^ index;
            let mask = ((differs | differs.wrapping_neg()) >> (usize::BITS - 1)).wrapping_sub(1) as u8;
            picked.iter_mut().zip(item).for_each(|(picked, byte)| *picked |= byte & mask);
        }
    }
    picked
}

/// The `k` smallest of `items` in their order, or all if there are fewer. What is compared with what depends on the two
/// numbers only.
///
/// The best so far meet a run of as many others, sorted by a bitonic network: the smaller of each best and its mirror
/// image among the others are the smallest of all, and bitonic (Batcher: "Sorting networks and their applications", 1968).
pub(crate) fn smallest(items: impl ExactSizeIterator<Item = u128>, k: usize) -> Vec<u128> {
    let mut items = items.fuse();
    let count = k.min(items.len());
    let mut best = vec![u128::MAX; count.next_power_of_two()];
    let mut run = best.clone();
    while items.len() > 0 {
        run.fill_with(|| items.next().unwrap_or(u128::MAX));
        sort(&mut run);
        for (best, other) in best.iter_mut().zip(run.iter().rev()) {
            *best = (*best).min(*other);
        }
        merge(&mut best);
    }
    best.truncate(count);
    best
}

/// Sorts a power of two of items.
fn sort(items: &mut [u128]) {
    let mut size = 2;
    while size <= items.len() {
        for block in items.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            low.iter_mut().zip(high.iter_mut().rev()).for_each(order);
            merge(low);
            merge(high);
        }
        size *= 2;
    }
}

/// Sorts a power of two of items that rise and then fall.
fn merge(items: &mut [u128]) {
    let mut size = items.len();
    while size > 1 {
        for block in items.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            low.iter_mut().zip(high).for_each(order);
        }
        size /= 2;
    }
}

/// Minimum and maximum are selections by a flag, not branches.
fn order((low, high): (&mut u128, &mut u128)) {
    (*low, *high) = ((*low).min(*high), (*low).max(*high));
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

    proptest! {
        #[test]
        fn the_smallest_are_those_that_sorting_finds(
            items in proptest::collection::vec(0u128..500, 0..300),
            k in 0usize..320,
        ) {
            let mut sorted = items.clone();
            sorted.sort_unstable();
            sorted.truncate(k);
            prop_assert_eq!(smallest(items.into_iter(), k), sorted);
        }
    }
}
