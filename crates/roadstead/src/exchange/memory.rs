//! The last so many things that happened, and no more.
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
    pub(super) fn new(most: usize) -> Self {
        Self { most, order: VecDeque::new(), all: HashSet::new() }
    }

    pub(super) fn insert(&mut self, value: T) {
        if self.all.insert(value) {
            self.order.push_back(value);
            if self.order.len() > self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.all.remove(&oldest);
            }
        }
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.all.contains(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent = Recent::new(2);
        for value in [1, 2, 2, 3] {
            recent.insert(value);
        }
        assert_eq!([1, 2, 3].map(|value| recent.contains(&value)), [false, true, true]);
    }
}
