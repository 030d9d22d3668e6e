//! What waits to be sent to one peer.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::options::{Key, PART, cost};

/// A message on its way to one peer.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) key: Key,
    pub(super) message: Bytes,
    /// When it is given up if it has not been sent by then; `None` until somebody looked at the time.
    pub(super) expires: Option<Duration>,
}

impl Parcel {
    /// Whether it travels in one part.
    pub(super) fn is_small(&self) -> bool {
        self.message.len() <= PART
    }
}

/// Two lines, so that small messages need not wait behind large ones.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    small: VecDeque<(u64, Parcel)>,
    large: VecDeque<(u64, Parcel)>,
    /// Of these and of what was taken out and not confirmed: on a link a message takes up as much memory as here.
    bytes: usize,
    count: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, parcel: Parcel) {
        self.count += 1;
        self.bytes += cost(parcel.message.len());
        let line = if parcel.is_small() { &mut self.small } else { &mut self.large };
        line.push_back((self.count, parcel));
    }

    pub(super) fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    /// What all are charged with that are not confirmed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next parcel that `fits`: the oldest, or with `overtaking` the oldest small one, if there is any.
    pub(super) fn take(&mut self, overtaking: bool, fits: impl Fn(usize) -> bool) -> Option<Parcel> {
        let age = |line: &VecDeque<(u64, Parcel)>| line.front().map_or(u64::MAX, |(age, _)| *age);
        let small_first = overtaking && !self.small.is_empty() || age(&self.small) < age(&self.large);
        let line = if small_first { &mut self.small } else { &mut self.large };
        line.pop_front_if(|(_, parcel)| fits(parcel.message.len())).map(|(_, parcel)| parcel)
    }

    /// A parcel that was taken out will not come back.
    pub(super) fn release(&mut self, parcel: &Parcel) {
        self.bytes -= cost(parcel.message.len());
    }

    /// Parcels whose link was lost go before all others, in their order.
    pub(super) fn give_back(&mut self, parcels: Vec<Parcel>) {
        for parcel in parcels.into_iter().rev() {
            let line = if parcel.is_small() { &mut self.small } else { &mut self.large };
            line.push_front((0, parcel));
        }
    }

    /// Drops what has waited for `patience`. Answers how many those were, and when to look again.
    pub(super) fn expire(&mut self, now: Duration, patience: Duration) -> (u64, Option<Duration>) {
        let (before, mut soonest) = (self.len(), None::<Duration>);
        for line in [&mut self.small, &mut self.large] {
            line.retain_mut(|(_, parcel)| {
                let expires = *parcel.expires.get_or_insert(now.saturating_add(patience));
                if expires <= now {
                    self.bytes -= cost(parcel.message.len());
                    return false;
                }
                soonest = Some(soonest.map_or(expires, |soonest| soonest.min(expires)));
                true
            });
        }
        ((before - self.len()) as u64, soonest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(query: u128, length: usize) -> Parcel {
        Parcel { key: Key { query, round: 0 }, message: vec![0; length].into(), expires: None }
    }

    fn taken(outbox: &mut Outbox, overtaking: bool) -> Vec<u128> {
        let take = || {
            let parcel = outbox.take(overtaking, |_| true)?;
            outbox.release(&parcel);
            Some(parcel.key.query)
        };
        std::iter::from_fn(take).collect()
    }

    #[test]
    fn small_messages_overtake_large_ones_only_where_that_is_wanted() {
        for (overtaking, order) in [(false, [1, 2, 3, 4]), (true, [2, 4, 1, 3])] {
            let mut outbox = Outbox::default();
            for (query, length) in [(1, PART + 1), (2, PART), (3, PART + 1), (4, 0)] {
                outbox.push(parcel(query, length));
            }
            assert_eq!(outbox.bytes(), 2 * cost(PART + 1) + cost(PART) + cost(0));
            assert_eq!(taken(&mut outbox, overtaking), order);
            assert_eq!((outbox.bytes(), outbox.len()), (0, 0));
        }
    }

    #[test]
    fn what_comes_back_goes_first_in_its_order() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|query| outbox.push(parcel(query, 1)));
        let first = [(); 2].map(|()| outbox.take(false, |_| true).unwrap());
        assert_eq!(outbox.bytes(), 3 * cost(1), "what is on its way still takes up memory");
        outbox.give_back(first.into());
        assert_eq!(taken(&mut outbox, false), [1, 2, 3]);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn what_has_waited_too_long_is_dropped_and_not_a_moment_earlier() {
        let second = Duration::from_secs(1);
        let mut outbox = Outbox::default();
        outbox.push(parcel(1, 5));
        assert_eq!(outbox.expire(second, second), (0, Some(2 * second)));
        outbox.push(parcel(2, 7));
        assert_eq!(outbox.expire(2 * second - Duration::from_nanos(1), second).0, 0);
        assert_eq!(outbox.expire(2 * second, second).0, 1);
        assert_eq!((outbox.bytes(), taken(&mut outbox, true)), (cost(7), vec![2]));
    }
}
