//! Which of several targets is next: the one with the fewest connections of those that have not failed of late.
//!
//! A target that cannot be reached is left out for a while, for longer each time. When that is over one connection
//! tries it, and as long as that is undecided no other. If all are left out, the one that is due first is tried all the
//! same: nobody is turned away who could perhaps be served.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roadstead_proto::Address;

/// How long a target is left out when it has failed once; twice as long each time.
const FIRST: Duration = Duration::from_millis(100);
/// The longest that it is left out.
const LONGEST: Duration = Duration::from_secs(10);

/// What a target has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetCounts {
    /// Where it is.
    pub address: Address,
    /// Connections to it that are open, or being opened.
    pub open: usize,
    /// Connections to it that were opened so far.
    pub served: u64,
    /// Attempts that failed so far.
    pub failed: u64,
}

#[derive(Debug)]
struct Target {
    counts: TargetCounts,
    /// Failures since it was reached last.
    in_a_row: u32,
    /// It is left out until then.
    until: Duration,
    /// Somebody tries it after it had failed.
    tried: bool,
}

/// The targets of a proxy, and what is known of each.
#[derive(Debug)]
pub(super) struct Targets(Mutex<Table>);

#[derive(Debug)]
struct Table {
    targets: Vec<Target>,
    /// Of those with equally few connections the first from here on is next.
    next: usize,
}

impl Targets {
    pub(super) fn new(addresses: &[Address]) -> Arc<Self> {
        let target = |address: &Address| Target {
            counts: TargetCounts { address: address.clone(), open: 0, served: 0, failed: 0 },
            in_a_row: 0,
            until: Duration::ZERO,
            tried: false,
        };
        let targets = addresses.iter().map(target).collect();
        Arc::new(Self(Mutex::new(Table { targets, next: 0 })))
    }

    /// A connection to the target that is next at `now`, of those that were not tried for it. `None` if all were.
    pub(super) fn choose(self: &Arc<Self>, tried: &[usize], now: Duration) -> Option<Seat> {
        let mut table = self.table();
        let number = table.choose(tried, now)?;
        table.next = number + 1;
        let target = &mut table.targets[number];
        target.counts.open += 1;
        let tries = target.in_a_row > 0;
        target.tried |= tries;
        Some(Seat { targets: Arc::clone(self), number, address: target.counts.address.clone(), tries })
    }

    pub(super) fn counts(&self) -> Vec<TargetCounts> {
        self.table().targets.iter().map(|target| target.counts.clone()).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn choose(&self, tried: &[usize], now: Duration) -> Option<usize> {
        let count = self.targets.len();
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        let left: Vec<usize> = in_turn.filter(|number| !tried.contains(number)).collect();
        let is_in = |&&number: &&usize| {
            let target = &self.targets[number];
            target.in_a_row == 0 || target.until <= now && !target.tried
        };
        let fewest = left.iter().filter(is_in).min_by_key(|&&number| self.targets[number].counts.open);
        fewest.or_else(|| left.iter().min_by_key(|&&number| self.targets[number].until)).copied()
    }
}

/// A connection to a target, which counts there until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    targets: Arc<Targets>,
    pub(super) number: usize,
    pub(super) address: Address,
    /// The target had failed, and is tried again by this one.
    tries: bool,
}

impl Seat {
    /// The target was reached.
    pub(super) fn reached(&mut self) {
        self.tries = false;
        let mut table = self.targets.table();
        let target = &mut table.targets[self.number];
        target.counts.served += 1;
        (target.in_a_row, target.tried) = (0, false);
    }

    /// The target could not be reached, as was found at `now`.
    pub(super) fn failed(self, now: Duration) {
        let mut table = self.targets.table();
        let target = &mut table.targets[self.number];
        target.counts.failed += 1;
        let pause = FIRST.saturating_mul(1 << target.in_a_row.min(16)).min(LONGEST);
        target.in_a_row = target.in_a_row.saturating_add(1);
        target.until = now.saturating_add(pause);
        drop(table);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.targets.table();
        let target = &mut table.targets[self.number];
        target.counts.open -= 1;
        target.tried &= !self.tries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(count: u16) -> Arc<Targets> {
        let addresses: Vec<_> = (1..=count).map(|port| ([192, 0, 2, 1], port).into()).collect();
        Targets::new(&addresses)
    }

    /// The next, reached at once.
    fn reach(targets: &Arc<Targets>, now: Duration) -> Seat {
        let mut seat = targets.choose(&[], now).unwrap();
        seat.reached();
        seat
    }

    #[test]
    fn whoever_has_fewest_is_next_and_of_equals_each_in_its_turn() {
        let targets = targets(3);
        let mut seats: Vec<_> = (0..3).map(|_| reach(&targets, Duration::ZERO)).collect();
        assert_eq!(seats.iter().map(|seat| seat.number).collect::<Vec<_>>(), [0, 1, 2]);
        seats.remove(1);
        assert_eq!(reach(&targets, Duration::ZERO).number, 1);
        drop(seats);
        let numbers = (0..4).map(|_| reach(&targets, Duration::ZERO).number);
        assert_eq!(numbers.collect::<Vec<_>>(), [2, 0, 1, 2]);
        assert!(targets.counts().iter().all(|target| target.open == 0));
    }

    #[test]
    fn a_target_that_fails_is_left_out_for_longer_each_time_and_tried_by_one() {
        let targets = targets(2);
        let (mut now, mut pause) = (Duration::from_secs(1), FIRST);
        targets.choose(&[1], now).unwrap().failed(now);
        for _ in 0..10 {
            let before = now + pause - Duration::from_nanos(1);
            let seats = [(); 3].map(|()| reach(&targets, before));
            assert!(seats.iter().all(|seat| seat.number == 1));
            now += pause;
            let trial = targets.choose(&[], now).unwrap();
            assert_eq!(trial.number, 0, "it has fewest, and its time has come");
            assert_eq!(reach(&targets, now).number, 1, "somebody tries it already");
            trial.failed(now);
            pause = (pause * 2).min(LONGEST);
        }
        now += LONGEST;
        drop(targets.choose(&[1], now).unwrap());
        let other = reach(&targets, now);
        let mut trial = targets.choose(&[], now).unwrap();
        assert_eq!(trial.number, 0, "who gave up has decided nothing");
        trial.reached();
        drop((other, trial));
        assert_eq!(reach(&targets, now).number, 1);
        assert_eq!(reach(&targets, now).number, 0, "it is one as any other");
        assert_eq!(
            targets.counts()[0],
            TargetCounts { open: 0, served: 2, failed: 11, ..targets.counts()[0].clone() }
        );
    }

    #[test]
    fn nobody_is_turned_away_while_there_is_a_target_that_was_not_tried_for_it() {
        let targets = targets(3);
        let now = Duration::from_secs(1);
        for (step, number) in [(0, 2), (1, 0), (2, 1)] {
            let others: Vec<_> = (0..3).filter(|other| *other != number).collect();
            targets.choose(&others, now).unwrap().failed(now + Duration::from_millis(step));
        }
        assert_eq!(targets.choose(&[0], now).map(|seat| seat.number), Some(2), "the first that is due");
        assert!(targets.choose(&[0, 1, 2], now).is_none());
    }
}
