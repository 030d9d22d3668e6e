//! The smallest of many items by a network: what is compared with what depends on their number only.
//!
//! Bitonic sorting and merging (Batcher: "Sorting networks and their applications", 1968). An item is whatever `order`
//! can put two of into order: a number, or a vector of them whose lanes are sorted side by side.

/// Numbers that are sorted side by side, each lane for itself.
pub type Lanes = [i64; LANES];
/// How many.
pub const LANES: usize = 8;

/// Replaces `best`, which is sorted, by the smallest of its own and of as many `others`, sorted. The number is a power
/// of two.
///
/// The smaller of each best and its mirror image among the others are the smallest of all, and bitonic.
#[inline(always)]
pub(crate) fn keep<T>(best: &mut [T], others: &mut [T], order: impl Fn(&mut T, &mut T) + Copy) {
    sort(others, order);
    best.iter_mut().zip(others.iter_mut().rev()).for_each(|(best, other)| order(best, other));
    merge(best, order);
}

/// Sorts a power of two of items.
#[inline(always)]
fn sort<T>(items: &mut [T], order: impl Fn(&mut T, &mut T) + Copy) {
    let mut size = 2;
    while size <= items.len() {
        for block in items.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            low.iter_mut().zip(high.iter_mut().rev()).for_each(|(low, high)| order(low, high));
            merge(low, order);
            merge(high, order);
        }
        size *= 2;
    }
}

/// Sorts a power of two of items that rise and then fall.
#[inline(always)]
fn merge<T>(items: &mut [T], order: impl Fn(&mut T, &mut T) + Copy) {
    let mut size = items.len();
    while size > 1 {
        for block in items.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            low.iter_mut().zip(high).for_each(|(low, high)| order(low, high));
        }
        size /= 2;
    }
}
