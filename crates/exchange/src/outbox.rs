//! What waits to be sent to one peer.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::options::{Key, PART, cost};

/// A message on its way to one peer.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    /// Those that were sent before it have smaller ones.
    number: u64,
    pub(crate) key: Key,
    pub(crate) message: Bytes,
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
    small: VecDeque<Parcel>,
    large: VecDeque<Parcel>,
    /// Of these and of what was taken out and not confirmed: on a link a message takes up as much memory as here.
    bytes: usize,
    count: u64,
}

impl Outbox {
    pub(crate) fn push(&mut self, key: Key, message: Bytes) {
        self.count += 1;
        self.bytes += cost(message.len());
        let parcel = Parcel { number: self.count, key, message, expires: None };
        self.line_of(&parcel).push_back(parcel);
    }

    fn line_of(&mut self, parcel: &Parcel) -> &mut VecDeque<Parcel> {
        if parcel.is_small() { &mut self.small } else { &mut self.large }
    }

    pub(crate) fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    /// What all are charged with that are not confirmed.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next parcel that `fits`: the oldest, or with `overtaking` the oldest small one, if there is any.
    pub(crate) fn take(&mut self, overtaking: bool, fits: impl Fn(usize) -> bool) -> Option<Parcel> {
        let first = |line: &VecDeque<Parcel>| line.front().map_or(u64::MAX, |parcel| parcel.number);
        let small_first = overtaking && !self.small.is_empty() || first(&self.small) < first(&self.large);
        let line = if small_first { &mut self.small } else { &mut self.large };
        line.pop_front_if(|parcel| fits(parcel.message.len()))
    }

    /// A parcel that was taken out will not come back.
    pub(crate) fn release(&mut self, parcel: &Parcel) {
        self.bytes -= cost(parcel.message.len());
    }

    /// Parcels whose links were lost go before all that were sent after them, whichever link was lost first.
    pub(crate) fn give_back(&mut self, parcels: Vec<Parcel>) {
        for parcel in parcels {
            let line = self.line_of(&parcel);
            line.insert(line.partition_point(|other| other.number < parcel.number), parcel);
        }
    }

    /// Drops what has waited for `patience`. Answers how many those were, and when to look again.
    pub(super) fn expire(&mut self, now: Duration, patience: Duration) -> (u64, Option<Duration>) {
        let (before, mut soonest) = (self.len(), None::<Duration>);
        for line in [&mut self.small, &mut self.large] {
            line.retain_mut(|parcel| {
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

    fn push(outbox: &mut Outbox, query: u128, length: usize) {
        outbox.push(Key { query, round: 0 }, vec![0; length].into());
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
                push(&mut outbox, query, length);
            }
            assert_eq!(outbox.bytes(), 2 * cost(PART + 1) + cost(PART) + cost(0));
            assert_eq!(taken(&mut outbox, overtaking), order);
            assert_eq!((outbox.bytes(), outbox.len()), (0, 0));
        }
    }

    #[test]
    fn what_comes_back_goes_in_the_order_in_which_it_was_sent_whichever_link_was_lost_first() {
        for first in [0, 1] {
            let mut outbox = Outbox::default();
            for (query, length) in [(1, PART), (2, PART + 1), (3, PART), (4, PART)] {
                push(&mut outbox, query, length);
            }
            let mut lost = [(); 3].map(|()| outbox.take(false, |_| true).unwrap()).to_vec();
            assert_eq!(outbox.bytes(), 3 * cost(PART) + cost(PART + 1), "what is under way takes up memory");
            let one = lost.remove(first);
            outbox.give_back(vec![one]);
            outbox.give_back(lost);
            assert_eq!(taken(&mut outbox, false), [1, 2, 3, 4]);
            assert_eq!(outbox.bytes(), 0);
        }
    }

    #[test]
    fn what_has_waited_too_long_is_dropped_and_not_a_moment_earlier() {
        let second = Duration::from_secs(1);
        let mut outbox = Outbox::default();
        push(&mut outbox, 1, 5);
        assert_eq!(outbox.expire(second, second), (0, Some(2 * second)));
        push(&mut outbox, 2, 7);
        assert_eq!(outbox.expire(2 * second - Duration::from_nanos(1), second).0, 0);
        assert_eq!(outbox.expire(2 * second, second).0, 1);
        assert_eq!((outbox.bytes(), taken(&mut outbox, true)), (cost(7), vec![2]));
    }
}
