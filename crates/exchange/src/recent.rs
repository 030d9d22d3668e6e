//! A bounded set of recent keys: the oldest goes when one more would not fit.
#![forbid(unsafe_code)]

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

/// A set that forgets its oldest member when it is full.
#[derive(Debug)]
pub(super) struct Recent<T> {
    most: usize,
    order: VecDeque<T>,
    all: HashSet<T>,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, order: VecDeque::new(), all: HashSet::new() }
    }

    pub(crate) fn insert(&mut self, value: T) {
        if self.all.insert(value) {
            self.order.push_back(value);
            if self.order.len() > self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.all.remove(&oldest);
            }
        }
    }

    pub(crate) fn contains(&self, value: &T) -> bool {
        self.all.contains(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// A member that is there already becomes no younger.
        #[test]
        fn those_are_remembered_that_came_last(values in vec(0..12_u8, 0..80), most in 1..6_usize) {
            let (mut recent, mut list) = (Recent::new(most), Vec::new());
            for value in values {
                recent.insert(value);
                if !list.contains(&value) {
                    list.push(value);
                    list.drain(..list.len().saturating_sub(most));
                }
                (0..12).for_each(|value| assert_eq!(recent.contains(&value), list.contains(&value)));
            }
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent = Recent::new(2);
        for value in [1, 2, 2, 3] {
            recent.insert(value);
        }
        assert_eq!([1, 2, 3].map(|value| recent.contains(&value)), [false, true, true]);
    }
}
