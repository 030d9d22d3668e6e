//! A loop's connections by name, and a heap of their deadlines.
#![forbid(unsafe_code)]

use std::{cmp::Reverse, collections::BinaryHeap, mem, time::Duration};

use slab::Slab;

use roadstead_proto::ticket::Token;

/// A turn of a loop that takes less is taken for a moment.
pub(crate) const LONG: Duration = Duration::from_millis(100);

/// What has a deadline.
pub trait Timed {
    /// When it wants to be asked next.
    fn deadline(&self) -> Option<Duration>;
    /// Whether that is no sooner than when it was asked, or this was, the last time.
    fn is_due_no_sooner(&self) -> bool {
        false
    }
    /// What it was told to have happened at `from` has happened by `to`.
    fn correct(&mut self, _from: Duration, _to: Duration) {}
}

/// One connection with what the heap knows of it.
struct Slot<C> {
    content: C,
    generation: u32,
    /// The earliest time for which the heap holds this connection.
    scheduled: Duration,
    /// It is a session without a connection.
    aside: bool,
}

/// All connections of the loop, by token, and a heap of their deadlines.
///
/// A deadline that moves back (as an idle timeout does with every byte) is not moved in the heap: when the old time
/// comes the connection is asked again. So a byte costs nothing here.
pub(crate) struct Connections<C> {
    slab: Slab<Slot<C>>,
    heap: BinaryHeap<Reverse<(Duration, Token)>>,
    generation: u32,
    /// Sessions without a connection among them.
    aside: usize,
}

impl<C> Default for Connections<C> {
    fn default() -> Self {
        Self { slab: Slab::new(), heap: BinaryHeap::new(), generation: 0, aside: 0 }
    }
}

impl<C: Timed> Connections<C> {
    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// How many connections there are. Sessions without one count for nothing.
    pub(crate) fn count(&self) -> usize {
        self.slab.len() - self.aside
    }

    /// This is a session without a connection.
    pub(crate) fn set_aside(&mut self, token: Token) {
        if let Some(slot) = self.slot(token)
            && !mem::replace(&mut slot.aside, true)
        {
            self.aside += 1;
        }
    }

    pub(crate) fn insert(&mut self, content: C) -> Token {
        // Thirty-one bits keep every token below those of the listeners; a wrapped generation meets an index again
        // only after two thousand million connections.
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> 1);
        let slot = Slot { content, generation: self.generation, scheduled: Duration::MAX, aside: false };
        let index = self.slab.insert(slot);
        Token((u64::from(self.generation) << 32) | index as u64)
    }

    pub(crate) fn get(&mut self, token: Token) -> Option<&mut C> {
        self.slot(token).map(|slot| &mut slot.content)
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot<C>> {
        self.slab.get_mut(index(token)).filter(|slot| slot.generation == generation(token))
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<C> {
        self.slot(token)?;
        let slot = self.slab.try_remove(index(token))?;
        self.aside -= usize::from(slot.aside);
        Some(slot.content)
    }

    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.slab
            .iter()
            .map(|(index, slot)| Token((u64::from(slot.generation) << 32) | index as u64))
            .collect()
    }

    /// Sees to it that the connection is asked at its deadline.
    pub(crate) fn schedule(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        // The heap asks it in time, and then finds that it is later.
        if slot.content.is_due_no_sooner() && slot.scheduled < Duration::MAX {
            return;
        }
        if let Some(deadline) = slot.content.deadline()
            && deadline < slot.scheduled
        {
            slot.scheduled = deadline;
            self.heap.push(Reverse((deadline, token)));
            self.compact();
        }
    }

    /// Forgets the deadlines of connections that are gone once they outnumber the living.
    fn compact(&mut self) {
        if self.heap.len() > 2 * self.slab.len() + 64 {
            let mut heap = mem::take(&mut self.heap);
            heap.retain(|&Reverse((time, token))| {
                self.slot(token).is_some_and(|slot| slot.scheduled == time)
            });
            self.heap = heap;
        }
    }

    /// A turn has told its connections that it was `from`, and took until `to`. Whoever was served behind a session
    /// that took long was served later than that, and had not had its time when it would be over.
    pub(crate) fn correct(&mut self, from: Duration, to: Duration) {
        if to.saturating_sub(from) >= LONG {
            self.slab.iter_mut().for_each(|(_, slot)| slot.content.correct(from, to));
        }
    }

    /// How many deadlines are noted.
    pub(crate) fn deadlines(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// A connection whose deadline has passed by `now`; each once.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Token> {
        while let Some(&Reverse((time, token))) = self.heap.peek() {
            if time > now {
                return None;
            }
            self.heap.pop();
            let Some(slot) = self.slot(token) else {
                continue;
            };
            if slot.scheduled != time {
                continue;
            }
            slot.scheduled = Duration::MAX;
            match slot.content.deadline() {
                Some(deadline) if deadline <= now => return Some(token),
                _ => self.schedule(token),
            }
        }
        None
    }
}

/// What others know of a loop's connections, by token: as dense as the names that `Connections` gives.
pub struct Table<T>(Vec<Option<(Token, T)>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Table<T> {
    /// What is known of it.
    pub fn get(&mut self, token: Token) -> Option<&mut T> {
        let (named, content) = self.0.get_mut(index(token))?.as_mut()?;
        (*named == token).then_some(content)
    }

    /// Takes the place of who had this token's index before.
    pub fn insert(&mut self, token: Token, content: T) {
        let index = index(token);
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some((token, content));
    }

    /// Forgets it.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        let place = self.0.get_mut(index(token))?;
        place.take_if(|(named, _)| *named == token).map(|(_, content)| content)
    }
}

fn index(token: Token) -> usize {
    (token.0 & u64::from(u32::MAX)) as usize
}

fn generation(token: Token) -> u32 {
    (token.0 >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_used_no_more_finds_nothing_and_its_place_is_used_again() {
        let (mut connections, mut table) = (Connections::default(), Table::default());
        let first = connections.insert(Never);
        assert!(table.get(first).is_none() && table.remove(first).is_none());
        table.insert(first, 'a');
        assert_eq!(table.get(first), Some(&mut 'a'));
        assert_eq!(table.remove(first), Some('a'));
        assert!(connections.remove(first).is_some());
        let second = connections.insert(Never);
        assert!(
            connections.get(second).is_some()
                && connections.get(first).is_none()
                && connections.remove(first).is_none()
        );
        table.insert(second, 'b');
        assert!(table.get(first).is_none() && table.remove(first).is_none());
        assert_eq!(table.get(second), Some(&mut 'b'));
        assert_eq!(table.0.len(), 1, "its place is used again");
    }

    struct Never;

    impl Timed for Never {
        fn deadline(&self) -> Option<Duration> {
            None
        }
    }

    #[test]
    fn a_session_without_a_connection_counts_for_nothing_while_it_is_there_and_when_it_is_gone() {
        let mut connections = Connections::default();
        let [one, aside, other] = [(); 3].map(|()| connections.insert(Never));
        (0..2).for_each(|_| connections.set_aside(aside));
        assert_eq!(connections.count(), 2);
        assert!(connections.remove(one).is_some() && connections.remove(aside).is_some());
        connections.set_aside(aside);
        assert_eq!(connections.count(), 1);
        assert!(connections.remove(other).is_some() && connections.is_empty());
        assert_eq!(connections.count(), 0);
    }

    /// Wants to be asked then.
    struct At(u64);

    impl Timed for At {
        fn deadline(&self) -> Option<Duration> {
            Some(Duration::from_secs(self.0))
        }
    }

    #[test]
    fn a_deadline_that_has_moved_back_is_asked_for_again_when_it_comes() {
        let second = Duration::from_secs(1);
        let mut connections = Connections::default();
        let token = connections.insert(At(1));
        connections.schedule(token);
        connections.get(token).unwrap().0 = 5;
        assert_eq!((connections.due(2 * second), connections.next_deadline()), (None, Some(5 * second)));
        assert_eq!((connections.due(5 * second), connections.due(5 * second)), (Some(token), None));
    }

    #[test]
    fn whose_deadline_is_sooner_is_asked_sooner_each_once_and_nobody_before() {
        let second = Duration::from_secs(1);
        let mut connections = Connections::default();
        let [late, soon, gone] = [7, 3, 2].map(|at| connections.insert(At(at)));
        [late, soon, gone].into_iter().for_each(|token| connections.schedule(token));
        connections.remove(gone);
        assert_eq!(connections.due(3 * second - Duration::from_nanos(1)), None);
        connections.get(late).unwrap().0 = 3;
        connections.schedule(late);
        let mut due = [(); 3].map(|()| connections.due(3 * second));
        due.sort();
        assert_eq!(due, [None, Some(late.min(soon)), Some(late.max(soon))]);
        assert_eq!(connections.due(9 * second), None, "the time that it had before is forgotten");
    }

    /// Never says that it may be sooner.
    struct NoSooner(u64);

    impl Timed for NoSooner {
        fn deadline(&self) -> Option<Duration> {
            Some(Duration::from_secs(self.0))
        }
        fn is_due_no_sooner(&self) -> bool {
            true
        }
    }

    #[test]
    fn who_is_no_sooner_than_noted_is_not_asked_before_that_and_who_is_not_noted_is() {
        let second = Duration::from_secs(1);
        let mut connections = Connections::default();
        let token = connections.insert(NoSooner(2));
        connections.schedule(token);
        assert_eq!(connections.next_deadline(), Some(2 * second), "the first time it is asked");
        connections.get(token).unwrap().0 = 4;
        connections.schedule(token);
        assert_eq!((connections.deadlines(), connections.due(3 * second)), (1, None));
        assert_eq!(connections.next_deadline(), Some(4 * second), "what has come is noted anew");
        assert_eq!(connections.due(4 * second), Some(token));
        connections.get(token).unwrap().0 = 6;
        connections.schedule(token);
        assert_eq!(connections.due(6 * second), Some(token), "who was told is noted anew");
    }

    /// Notes what is set right of it.
    #[derive(Default)]
    struct Noted(Vec<(Duration, Duration)>);

    impl Timed for Noted {
        fn deadline(&self) -> Option<Duration> {
            None
        }
        fn correct(&mut self, from: Duration, to: Duration) {
            self.0.push((from, to));
        }
    }

    #[test]
    fn a_turn_that_took_long_is_told_to_everybody_and_one_that_did_not_to_nobody() {
        let mut connections = Connections::default();
        let all = [(); 3].map(|()| connections.insert(Noted::default()));
        let begun = Duration::from_secs(5);
        connections.correct(begun, begun + LONG - Duration::from_nanos(1));
        connections.correct(begun + LONG, begun);
        connections.correct(begun, begun + LONG);
        for token in all {
            assert_eq!(connections.get(token).unwrap().0, [(begun, begun + LONG)]);
        }
    }

    #[test]
    fn deadlines_of_connections_that_have_gone_are_forgotten_long_before_they_come() {
        let mut connections = Connections::default();
        let stays = connections.insert(At(9));
        connections.schedule(stays);
        for _ in 0..10_000 {
            let token = connections.insert(At(1_000_000));
            connections.schedule(token);
            connections.remove(token);
            assert!(connections.deadlines() < 100, "{} for one connection", connections.deadlines());
        }
        assert_eq!(connections.due(Duration::from_secs(9)), Some(stays));
    }
}
