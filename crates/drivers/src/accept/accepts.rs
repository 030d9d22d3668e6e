//! How many accepts a listener has outstanding.
//!
//! Who comes while none is outstanding has to wait for the loop, so their number grows when all of them were completed
//! before they were filled up again. It shrinks when nobody has come for a while, by putting back fewer than were
//! taken: one that is outstanding is not withdrawn.
//!
//! To a proactor an outstanding accept is a submission. To a reactor it is the permission to take one more connection
//! before the others have their turn.
#![forbid(unsafe_code)]

use std::{ops::RangeInclusive, time::Duration};

/// Without anybody for so long their number halves.
const IDLE: Duration = Duration::from_secs(1);

/// More than any backlog holds.
const MOST: usize = 1 << 16;

/// The accepts of one listener.
#[derive(Debug)]
pub(crate) struct Accepts {
    /// The fewest that they are filled up to, and the most.
    floor: usize,
    ceiling: usize,
    size: usize,
    outstanding: usize,
    /// When somebody came last.
    last: Duration,
}

impl Accepts {
    /// None is outstanding yet. With less than one nobody would be let in; each takes room, so there is a limit.
    pub(crate) fn new(bounds: &RangeInclusive<usize>) -> Self {
        let floor = (*bounds.start()).clamp(1, MOST);
        let ceiling = (*bounds.end()).clamp(floor, MOST);
        Self { floor, ceiling, size: floor, outstanding: 0, last: Duration::ZERO }
    }

    /// Fills them up: so many are to be begun, and are outstanding from now on.
    pub(crate) fn fill(&mut self) -> usize {
        let more = self.size.saturating_sub(self.outstanding);
        self.outstanding += more;
        more
    }

    /// Whether none is outstanding.
    pub(crate) fn is_empty(&self) -> bool {
        self.outstanding == 0
    }

    /// Somebody came, at `now`.
    pub(crate) fn complete(&mut self, now: Duration) {
        let idle = now.saturating_sub(self.last).as_secs() / IDLE.as_secs();
        self.last = now;
        self.size = self.size.checked_shr(idle.try_into().unwrap_or(u32::MAX)).unwrap_or(0).max(self.floor);
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.outstanding == 0 {
            self.size = self.size.saturating_mul(2).min(self.ceiling);
        }
    }

    /// The system had no room for one.
    pub(crate) fn exhausted(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.size = (self.size / 2).max(self.floor);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const FLOOR: usize = 4;
    const CEILING: usize = 64;

    fn accepts() -> Accepts {
        Accepts::new(&(FLOOR..=CEILING))
    }

    /// So many come before the accepts are filled up again; answers how many had an accept waiting for them.
    fn burst(accepts: &mut Accepts, come: usize, now: Duration) -> usize {
        accepts.fill();
        let served = come.min(accepts.outstanding);
        (0..served).for_each(|_| accepts.complete(now));
        served
    }

    #[test]
    fn it_doubles_while_the_listener_has_to_wait_and_no_further_than_to_its_ceiling() {
        let mut accepts = accepts();
        let served: Vec<_> = (0..6).map(|_| burst(&mut accepts, 1000, Duration::ZERO)).collect();
        assert_eq!(served, [4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn it_keeps_within_the_bounds_that_it_is_given_and_is_never_less_than_one() {
        for (bounds, sizes) in [
            (1..=1, [1, 1, 1, 1]),
            (3..=10, [3, 6, 10, 10]),
            (5..=5, [5, 5, 5, 5]),
            (0..=0, [1, 1, 1, 1]),
            (RangeInclusive::new(6, 2), [6, 6, 6, 6]),
            (0..=3, [1, 2, 3, 3]),
        ] {
            let mut accepts = Accepts::new(&bounds);
            let served = [(); 4].map(|()| burst(&mut accepts, 1000, Duration::ZERO));
            assert_eq!(served, sizes, "{bounds:?}");
            accepts.exhausted();
            accepts.complete(IDLE * 3000);
            assert_eq!(accepts.size.min(sizes[0]), sizes[0], "{bounds:?}");
        }
        let mut most = Accepts::new(&(usize::MAX..=usize::MAX));
        assert_eq!((most.fill(), most.fill()), (MOST, 0));
    }

    #[test]
    fn one_fewer_than_are_outstanding_is_no_reason_to_grow() {
        let mut accepts = accepts();
        for _ in 0..10 {
            assert_eq!(burst(&mut accepts, FLOOR - 1, Duration::ZERO), FLOOR - 1);
        }
        assert_eq!(accepts.size, FLOOR);
    }

    #[test]
    fn it_halves_for_every_idle_second_by_putting_fewer_back() {
        let mut accepts = accepts();
        (0..5).for_each(|_| _ = burst(&mut accepts, 1000, Duration::ZERO));
        accepts.fill();
        assert_eq!((accepts.size, accepts.outstanding), (64, 64));
        accepts.complete(IDLE - Duration::from_nanos(1));
        assert_eq!((accepts.size, accepts.fill()), (64, 1), "not idle for long enough");
        accepts.complete(IDLE * 3);
        assert_eq!((accepts.size, accepts.outstanding, accepts.fill()), (16, 63, 0), "two seconds");
        accepts.complete(IDLE * 3000);
        assert_eq!((accepts.size, accepts.outstanding, accepts.fill()), (FLOOR, 62, 0));
        (0..59).for_each(|_| accepts.complete(IDLE * 3000));
        assert_eq!((accepts.size, accepts.fill()), (FLOOR, 1), "back to where it began");
    }

    #[test]
    fn a_system_without_room_is_asked_for_less() {
        let mut accepts = accepts();
        (0..5).for_each(|_| _ = burst(&mut accepts, 1000, Duration::ZERO));
        assert_eq!(accepts.fill(), 64);
        (0..64).for_each(|_| accepts.exhausted());
        assert_eq!(accepts.fill(), FLOOR, "and all the same never for nothing");
    }

    proptest! {
        #[test]
        fn a_filled_pool_is_neither_empty_nor_above_its_ceiling(
            steps in vec((0..3u8, 0..100usize, 0..5000u64), 0..200),
        ) {
            let (mut accepts, mut now) = (accepts(), Duration::ZERO);
            for (what, count, millis) in steps {
                now += Duration::from_millis(millis);
                match what {
                    0 => (0..count).for_each(|_| accepts.complete(now)),
                    1 => (0..count).for_each(|_| accepts.exhausted()),
                    _ => {}
                }
                accepts.fill();
                prop_assert!((FLOOR..=CEILING).contains(&accepts.size));
                prop_assert!((accepts.size..=CEILING).contains(&accepts.outstanding));
            }
        }
    }
}
