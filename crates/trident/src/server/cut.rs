//! Into which ranges of rows a pass is cut, so that all workers have a part in it.

use std::ops::Range;

use crate::{agreed::integrity, arithmetic::dpf::ROWS_PER_LEAF};

/// Ranges for each worker: one that is kept busy by something else holds a pass up for a part of what it would have to
/// do, and between two ranges it is the turn of others.
const EACH: usize = 4;

/// A range is worth a job of its own from so many bytes on: about 0.1 ms of work, several times what it takes to wake a
/// worker for it.
pub(crate) const LEAST: usize = 1 << 20;

/// Ranges begin where a digest of the search shares does, which a leaf of a key then does too.
const UNIT: usize = integrity::ROWS;
const _: () = assert!(UNIT.is_multiple_of(ROWS_PER_LEAF));

/// A pass over so many rows, in so many ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    rows: usize,
    count: usize,
}

impl Cut {
    /// One range.
    pub(crate) fn whole(rows: usize) -> Self {
        Self { rows, count: 1 }
    }

    /// Ranges for so many workers, of at least `least` bytes each; one range for one worker.
    pub(crate) fn new(rows: usize, bytes: usize, least: usize, workers: usize) -> Self {
        if workers < 2 {
            return Self::whole(rows);
        }
        let most = rows.div_ceil(UNIT).min(bytes / least.max(1));
        // As many for each, if each has one.
        let count = if most < workers { most } else { (most / workers).min(EACH) * workers };
        Self { rows, count: count.max(1) }
    }

    /// How many ranges there are.
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// The rows of a range: all rows are in one, and no range differs from another by more than a unit.
    pub(crate) fn range(self, number: usize) -> Range<usize> {
        let units = self.rows.div_ceil(UNIT);
        let end = |number: usize| (units * number / self.count * UNIT).min(self.rows);
        end(number)..end(number + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_are_as_many_ranges_for_each_worker_if_there_is_enough_to_do() {
        let mib = 1 << 20;
        for (rows, bytes, workers, count) in [
            (1_000_000, 516 * mib, 0, 1),
            (1_000_000, 516 * mib, 1, 1),
            (1_000_000, 516 * mib, 2, 8),
            (1_000_000, 516 * mib, 3, 12),
            (1_000_000, 516 * mib, 200, 400),
            // Ten units of half a MiB.
            (10_000, 5 * mib, 2, 4),
            (10_000, 5 * mib, 3, 3),
            (10_000, 5 * mib, 4, 4),
            (10_000, 5 * mib, 16, 5),
            // One unit, or less than is worth a job.
            (1_024, 5 * mib, 2, 1),
            (1_025, 5 * mib, 2, 2),
            (10_000, 2 * mib - 1, 2, 1),
            (1, 1, 2, 1),
        ] {
            assert_eq!(Cut::new(rows, bytes, LEAST, workers).count(), count, "{rows} {bytes} {workers}");
        }
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_range(rows in 1_usize..30_000, workers in 0_usize..9, bytes in 0_usize..100) {
            let cut = Cut::new(rows, bytes << 20, LEAST, workers);
            prop_assert!(workers < 2 && cut.count() == 1 || cut.count() <= workers * EACH);
            let mut next = 0;
            for range in (0..cut.count()).map(|number| cut.range(number)) {
                prop_assert!(range.start == next && !range.is_empty() && range.start.is_multiple_of(UNIT));
                prop_assert!(range.len() + 2 * UNIT > rows / cut.count());
                next = range.end;
            }
            prop_assert_eq!(next, rows);
        }
    }
}
