//! Which message is sent when: the closed loop by time, the closed loop by count, the open loop.
//!
//! Times are nanoseconds since the run began.

use super::load::Mode;

/// The messages that are still to be sent.
pub(super) enum Plan {
    /// Closed loop until `end`.
    Until { end: u64 },
    /// Closed loop, `left` of `total` messages more.
    Count { left: u64, total: u64 },
    /// Open loop: message `i` of `total` is due on connection `i mod width` at `i * interval`.
    Paced { interval: f64, width: u64, left: u64, total: u64 },
}

impl Plan {
    /// A plan for `width` connections.
    pub(super) fn new(mode: Mode, width: usize) -> Self {
        match mode {
            Mode::ClosedFor(duration) => {
                Self::Until { end: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) }
            }
            Mode::ClosedCount(total) => Self::Count { left: total, total },
            Mode::Open { per_second, duration } => {
                // However low the rate: a run without a message would show nothing.
                let total = ((per_second * duration.as_secs_f64()) as u64).max(1);
                Self::Paced { interval: 1e9 / per_second, width: width as u64, left: total, total }
            }
        }
    }

    /// Takes message number `index` of `connection`, if it may be sent at `now`: the time its latency counts from.
    pub(super) fn take(&mut self, connection: usize, index: u64, now: u64) -> Option<u64> {
        match self {
            Self::Until { end } => (now < *end).then_some(now),
            Self::Count { left, .. } => {
                *left = left.checked_sub(1)?;
                Some(now)
            }
            Self::Paced { interval, width, left, total } => {
                let message = index.checked_mul(*width)?.checked_add(connection as u64)?;
                let due = (message as f64 * *interval) as u64;
                if message >= *total || due > now {
                    return None;
                }
                *left -= 1;
                Some(due)
            }
        }
    }

    /// When message `message` of the open loop is due; `None` past the last one and in closed loops.
    pub(super) fn due(&self, message: u64) -> Option<u64> {
        match self {
            Self::Paced { interval, total, .. } if message < *total => {
                Some((message as f64 * interval) as u64)
            }
            _ => None,
        }
    }

    /// A connection is gone after `issued` messages: in the open loop its share of the rest goes with it.
    /// Returns how many those are; in a closed loop the others send them.
    pub(super) fn forfeit(&mut self, connection: usize, issued: u64) -> u64 {
        match self {
            Self::Paced { width, left, total, .. } => {
                let share = total.saturating_sub(connection as u64).div_ceil(*width);
                let rest = share - issued;
                *left -= rest;
                rest
            }
            _ => 0,
        }
    }

    /// Messages that are planned and not sent yet; none in a closed loop by time.
    pub(super) fn left(&self) -> u64 {
        match self {
            Self::Until { .. } => 0,
            Self::Count { left, .. } | Self::Paced { left, .. } => *left,
        }
    }

    /// Whether nothing more is to be sent from `now` on.
    pub(super) fn is_over(&self, now: u64) -> bool {
        match self {
            Self::Until { end } => now >= *end,
            Self::Count { .. } | Self::Paced { .. } => self.left() == 0,
        }
    }

    /// Time at which the last message becomes due; `None` where no time is planned.
    pub(super) fn end(&self) -> Option<u64> {
        match self {
            Self::Until { end } => Some(*end),
            Self::Count { .. } => None,
            Self::Paced { interval, total, .. } => Some((*total as f64 * interval) as u64),
        }
    }

    /// Part done, 0 to 1.
    pub(super) fn fraction(&self, now: u64) -> f64 {
        match self {
            Self::Until { end } => (now as f64 / *end as f64).min(1.0),
            Self::Count { left, total } | Self::Paced { left, total, .. } => {
                1.0 - *left as f64 / *total as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn closed_loops_end_at_their_limits() {
        let mut timed = Plan::new(Mode::ClosedFor(Duration::from_nanos(10)), 1);
        assert_eq!(timed.take(0, 0, 9), Some(9));
        assert_eq!(timed.take(0, 1, 10), None);
        assert!(!timed.is_over(9) && timed.is_over(10));
        let mut counted = Plan::new(Mode::ClosedCount(2), 1);
        assert_eq!(counted.take(0, 0, 5), Some(5));
        assert_eq!(counted.take(0, 1, 6), Some(6));
        assert_eq!(counted.take(0, 2, 7), None);
        assert!(counted.is_over(0));
    }

    #[test]
    fn a_plan_says_how_far_it_is_what_is_left_and_when_it_ends() {
        let second = Duration::from_secs(1);
        let timed = Plan::new(Mode::ClosedFor(second), 3);
        assert_eq!([0, 500_000_000, 2_000_000_000].map(|now| timed.fraction(now)), [0.0, 0.5, 1.0]);
        assert_eq!((timed.left(), timed.end()), (0, Some(1_000_000_000)));
        let mut counted = Plan::new(Mode::ClosedCount(4), 3);
        counted.take(0, 0, 0);
        assert_eq!((counted.fraction(9), counted.left(), counted.end()), (0.25, 3, None));
        let mut paced = Plan::new(Mode::Open { per_second: 4.0, duration: 2 * second }, 3);
        paced.take(0, 0, 0);
        paced.take(1, 0, 250_000_000);
        assert_eq!((paced.fraction(9), paced.left(), paced.end()), (0.25, 6, Some(2_000_000_000)));
    }

    #[test]
    fn however_low_its_rate_an_open_loop_has_a_message() {
        let plan = Plan::new(Mode::Open { per_second: 0.001, duration: Duration::from_secs(1) }, 1);
        assert_eq!((plan.left(), plan.due(0), plan.due(1)), (1, Some(0), None));
    }

    #[test]
    fn an_open_loop_sends_message_after_message_round_its_connections_each_at_its_time() {
        let mode = Mode::Open { per_second: 4.0, duration: Duration::from_secs(2) };
        let mut plan = Plan::new(mode, 3);
        const QUARTER: u64 = 250_000_000;
        for message in 0..8 {
            assert_eq!(plan.due(message), Some(message * QUARTER));
            let (connection, index) = ((message % 3) as usize, message / 3);
            if message > 0 {
                assert_eq!(plan.take(connection, index, message * QUARTER - 1), None);
            }
            assert_eq!(plan.take(connection, index, message * QUARTER + 7), Some(message * QUARTER));
            assert_eq!(plan.left(), 7 - message);
        }
        assert_eq!((plan.due(8), plan.take(2, 2, u64::MAX)), (None, None));
        assert!(plan.is_over(0));
    }

    #[test]
    fn who_is_lost_in_a_closed_loop_leaves_its_share_to_the_others() {
        let mut counted = Plan::new(Mode::ClosedCount(4), 2);
        counted.take(0, 0, 0);
        assert_eq!((counted.forfeit(0, 1), counted.left()), (0, 3));
        let mut timed = Plan::new(Mode::ClosedFor(Duration::from_secs(1)), 2);
        assert_eq!((timed.forfeit(0, 1), timed.take(1, 9, 5)), (0, Some(5)));
    }

    proptest! {
        /// Whoever is lost and whenever: each message of the open loop is taken once, when due, or forfeited.
        #[test]
        fn the_open_loop_accounts_for_every_message(
            rate in 1_u32..100_000, millis in 1_u64..200, width in 1_usize..20, lost in 0_usize..20, at in 0_u64..50,
        ) {
            let duration = Duration::from_millis(millis);
            let mut plan = Plan::new(Mode::Open { per_second: rate.into(), duration }, width);
            let total = plan.left();
            let mut taken = 0;
            let mut forfeited = 0;
            for connection in 0..width {
                let mut index = 0;
                while let Some(due) = plan.due(index * width as u64 + connection as u64) {
                    if connection == lost && index == at {
                        break;
                    }
                    if due > 0 {
                        prop_assert_eq!(plan.take(connection, index, due - 1), None);
                    }
                    // However late it is sent, it was due then.
                    prop_assert_eq!(plan.take(connection, index, due + at), Some(due));
                    index += 1;
                    taken += 1;
                }
                if connection == lost {
                    forfeited = plan.forfeit(connection, index);
                }
            }
            prop_assert_eq!(taken + forfeited, total);
            prop_assert!(plan.is_over(0));
        }
    }
}
