//! A free list: what one operation needed is kept for the next, so that an operation allocates nothing.
//!
//! A list is bounded, and after a burst it gives back what is not needed any more.
#![forbid(unsafe_code)]

/// Things that nobody uses now.
#[derive(Debug)]
pub struct FreeList<T> {
    items: Vec<T>,
    most: usize,
    /// How many at the bottom have lain here since the list was trimmed.
    unused: usize,
}

impl<T> FreeList<T> {
    /// An empty list that keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self { items: Vec::new(), most, unused: 0 }
    }

    /// What was put here last.
    pub fn take(&mut self) -> Option<T> {
        let item = self.items.pop();
        self.unused = self.unused.min(self.items.len());
        item
    }

    /// Keeps `item` for the next one who needs such a thing, unless there are enough already.
    pub fn put(&mut self, item: T) {
        if self.items.len() < self.most {
            self.items.push(item);
        }
    }

    /// Gives back what nobody has used since the last time.
    pub fn trim(&mut self) {
        self.items.drain(..self.unused);
        self.unused = self.items.len();
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn it_keeps_as_many_as_it_may_and_no_more() {
        for (put, kept) in [(2, 2), (3, 3), (4, 3)] {
            let mut list = FreeList::new(3);
            (0..put).for_each(|item| list.put(item));
            assert_eq!(std::iter::from_fn(|| list.take()).count(), kept);
        }
    }

    #[test]
    fn after_a_burst_it_keeps_what_is_still_needed() {
        let (mut list, thing) = (FreeList::new(16), Rc::new(()));
        (0..10).for_each(|_| list.put(Rc::clone(&thing)));
        list.trim();
        assert_eq!(Rc::strong_count(&thing), 11, "they were in use a moment ago");
        for _ in 0..3 {
            let used = [list.take(), list.take()];
            used.into_iter().flatten().for_each(|thing| list.put(thing));
        }
        list.trim();
        assert_eq!(Rc::strong_count(&thing), 3, "two were needed");
        list.trim();
        assert_eq!(Rc::strong_count(&thing), 1, "none was");
        assert!(list.take().is_none());
    }
}
