//! What one peer has asked by datagram: what is in flight, what was given up, and what an answer is to which of these.

use std::collections::VecDeque;

use super::pattern::Pattern;

/// The bytes at the front of a datagram that say which it is.
pub(super) const NUMBER: usize = 8;
/// How many that were given up are remembered, to tell what comes late from what comes twice.
const GIVEN_UP: usize = 1024;

/// What a datagram that came is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As it was sent; since when it was waited for.
    Right(u64),
    /// To a question in flight, and changed, cut or lengthened.
    Wrong,
    /// Right, to a question that was given up.
    Late,
    /// Right, to a question that was answered already; or that was given up so long ago that it is forgotten.
    Duplicate,
    /// To nothing that was asked.
    Unasked,
}

/// The questions of one peer, numbered from zero.
pub(super) struct Questions {
    size: usize,
    issued: u64,
    /// Their numbers, since when each is waited for, and when it is given up, in the order in which they were asked.
    in_flight: VecDeque<(u64, u64, u64)>,
    given_up: VecDeque<u64>,
}

impl Questions {
    /// Of `size` bytes each.
    pub(super) fn new(size: usize) -> Self {
        Self { size, issued: 0, in_flight: VecDeque::new(), given_up: VecDeque::new() }
    }

    pub(super) fn issued(&self) -> u64 {
        self.issued
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Writes the next question into `datagram`.
    pub(super) fn write_next(&self, pattern: &Pattern, datagram: &mut [u8]) {
        write(pattern, self.issued, &mut datagram[..self.size]);
    }

    /// The next question was asked: waited for since then, and until then.
    pub(super) fn issue(&mut self, since: u64, until: u64) {
        self.in_flight.push_back((self.issued, since, until));
        self.issued += 1;
    }

    /// Gives up what nobody waits for any more at `now`. Answers how many that were.
    pub(super) fn give_up(&mut self, now: u64) -> u64 {
        let mut count = 0;
        while self.in_flight.front().is_some_and(|&(.., until)| until <= now) {
            if let Some((number, ..)) = self.in_flight.pop_front() {
                self.given_up.push_back(number);
            }
            if self.given_up.len() > GIVEN_UP {
                self.given_up.pop_front();
            }
            count += 1;
        }
        count
    }

    /// What `datagram`, which has come, is. `room` is as long as one may be.
    pub(super) fn take(&mut self, pattern: &Pattern, datagram: &[u8], room: &mut [u8]) -> Answer {
        let Some(number) = datagram.first_chunk::<NUMBER>().map(|bytes| u64::from_be_bytes(*bytes)) else {
            return Answer::Unasked;
        };
        if number >= self.issued {
            return Answer::Unasked;
        }
        write(pattern, number, &mut room[..self.size]);
        let right = *datagram == room[..self.size];
        if let Ok(at) = self.in_flight.binary_search_by_key(&number, |&(number, ..)| number) {
            let since = self.in_flight.remove(at).map_or(0, |(_, since, _)| since);
            return if right { Answer::Right(since) } else { Answer::Wrong };
        }
        if !right {
            return Answer::Unasked;
        }
        match self.given_up.binary_search(&number) {
            Ok(at) => {
                self.given_up.remove(at);
                Answer::Late
            }
            Err(_) => Answer::Duplicate,
        }
    }
}

/// Every question has bytes of its own.
fn write(pattern: &Pattern, number: u64, datagram: &mut [u8]) {
    let (head, rest) = datagram.split_at_mut(NUMBER);
    head.copy_from_slice(&number.to_be_bytes());
    rest.copy_from_slice(pattern.at(number.wrapping_mul(rest.len() as u64), rest.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(count: usize) -> (Questions, Pattern, Vec<Vec<u8>>) {
        let (mut questions, pattern) = (Questions::new(20), Pattern::new());
        let ask = |number: usize| {
            let mut datagram = vec![0; 20];
            questions.write_next(&pattern, &mut datagram);
            questions.issue(number as u64, number as u64 + 100);
            datagram
        };
        let said = (0..count).map(ask).collect();
        (questions, pattern, said)
    }

    #[test]
    fn every_answer_is_told_for_what_it_is() {
        let (mut questions, pattern, said) = asked(5);
        let mut room = [0; 30];
        let mut take = |questions: &mut Questions, bytes: &[u8]| questions.take(&pattern, bytes, &mut room);
        assert_eq!(take(&mut questions, &said[3]), Answer::Right(3), "in any order");
        assert_eq!(take(&mut questions, &said[0]), Answer::Right(0));
        assert_eq!(take(&mut questions, &said[3]), Answer::Duplicate);
        assert_eq!((questions.give_up(100), questions.give_up(101), questions.in_flight()), (0, 1, 2));
        assert_eq!(take(&mut questions, &said[1]), Answer::Late);
        assert_eq!(take(&mut questions, &said[1]), Answer::Duplicate);
        let mut changed = said[2].clone();
        changed[19] ^= 1;
        assert_eq!(take(&mut questions, &changed), Answer::Wrong);
        assert_eq!(take(&mut questions, &changed), Answer::Unasked);
        assert_eq!(take(&mut questions, &said[4][..19]), Answer::Wrong, "it was cut");
        assert_eq!(take(&mut questions, &5_u64.to_be_bytes()), Answer::Unasked);
        assert_eq!(take(&mut questions, &[0; 7]), Answer::Unasked);
        assert_eq!(questions.in_flight(), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut questions, pattern, said) = asked(GIVEN_UP + 3);
        assert_eq!(questions.give_up(u64::MAX), GIVEN_UP as u64 + 3);
        let mut room = [0; 20];
        for (number, answer) in [(2, Answer::Duplicate), (3, Answer::Late), (GIVEN_UP + 2, Answer::Late)] {
            assert_eq!(questions.take(&pattern, &said[number], &mut room), answer, "{number}");
        }
    }
}
