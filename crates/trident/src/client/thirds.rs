//! What the third server says of a row that was read from two.
//!
//! Two shares give the third, so its answer is known before it comes. Nobody waits for it; when it comes it has to be
//! the one, or one of the three servers computes with something else than what was shared.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::verdict::Odd;
use crate::arithmetic::party::Party;

/// Answers that are awaited at once; the oldest are forgotten.
const AWAITED: usize = 1024;

/// A digest of an answer's body.
pub(super) type Digest = [u8; 32];

/// Which connections, and which question on them.
pub(super) type Question = (u64, u64);

/// Third answers that have not come, and what came of those that have.
#[derive(Default)]
pub(super) struct Thirds {
    awaited: Mutex<VecDeque<Third>>,
    contradictions: [AtomicU64; 3],
}

struct Third {
    question: Question,
    party: Party,
    expected: Digest,
}

impl Thirds {
    /// The answers of the two others were enough: that of `party` has to have the digest `expected`.
    pub(super) fn expect(&self, question: Question, party: Party, expected: Digest) {
        let mut awaited = self.awaited();
        if awaited.len() == AWAITED {
            awaited.pop_front();
        }
        awaited.push_back(Third { question, party, expected });
    }

    /// What `party` has answered, if it was the third.
    pub(super) fn hear(&self, question: Question, party: Party, body: &[u8]) {
        let mut awaited = self.awaited();
        let is_it = |third: &Third| third.question == question && third.party == party;
        let Some(at) = awaited.iter().position(is_it) else { return };
        let odd = (*blake3::hash(body).as_bytes() != awaited[at].expected).then_some(Odd::Contradicts(party));
        // Counted first: whoever waited for it reads the counts as soon as it is awaited no more.
        odd.iter().for_each(|odd| self.add(odd));
        awaited.remove(at);
        drop(awaited);
        if let Some(odd) = odd {
            tracing::warn!("{odd}");
        }
    }

    /// Of these connections nothing comes any more.
    pub(super) fn forget(&self, trio: u64) {
        self.awaited().retain(|third| third.question.0 != trio);
    }

    /// One of three answers does not go with the row that the two others gave.
    pub(super) fn count(&self, odd: &Odd) {
        self.add(odd);
        tracing::warn!("{odd}");
    }

    fn add(&self, odd: &Odd) {
        if let Some(party) = odd.party() {
            self.contradictions[party.index()].fetch_add(1, Relaxed);
        }
    }

    /// How many answers are awaited.
    pub(super) fn waiting(&self) -> usize {
        self.awaited().len()
    }

    /// How often each server has contradicted the two others.
    pub(super) fn contradictions(&self) -> [u64; 3] {
        self.contradictions.each_ref().map(|count| count.load(Relaxed))
    }

    fn awaited(&self) -> MutexGuard<'_, VecDeque<Third>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THIRD: Party = Party::ALL[1];

    fn expecting(question: Question) -> Thirds {
        let thirds = Thirds::default();
        thirds.expect(question, THIRD, *blake3::hash(b"right").as_bytes());
        thirds
    }

    #[test]
    fn a_third_answer_is_compared() {
        for (said, contradicts) in [(&b"right"[..], 0), (b"wrong", 1)] {
            let thirds = expecting((1, 7));
            thirds.hear((1, 7), THIRD, said);
            assert_eq!((thirds.contradictions(), thirds.waiting()), ([0, contradicts, 0], 0));
        }
    }

    #[test]
    fn what_is_awaited_no_more_has_been_counted() {
        let thirds = expecting((1, 7));
        // To compare it takes a while.
        let wrong = vec![0; 16 << 20];
        std::thread::scope(|scope| {
            scope.spawn(|| thirds.hear((1, 7), THIRD, &wrong));
            while thirds.waiting() > 0 {
                std::thread::yield_now();
            }
            assert_eq!(thirds.contradictions(), [0, 1, 0]);
        });
    }

    #[test]
    fn every_byte_of_what_a_third_answer_has_to_be_counts() {
        for at in 0..32 {
            let (thirds, mut expected) = (Thirds::default(), *blake3::hash(b"right").as_bytes());
            expected[at] ^= 1 << (at % 8);
            thirds.expect((1, 7), THIRD, expected);
            thirds.hear((1, 7), THIRD, b"right");
            assert_eq!(thirds.contradictions(), [0, 1, 0], "byte {at}");
        }
    }

    #[test]
    fn answers_of_others_are_not_the_third() {
        let thirds = expecting((1, 7));
        thirds.hear((1, 7), Party::ALL[0], b"wrong");
        thirds.hear((2, 7), THIRD, b"wrong");
        thirds.hear((1, 8), THIRD, b"wrong");
        assert_eq!((thirds.contradictions(), thirds.waiting()), ([0; 3], 1));
    }

    #[test]
    fn no_more_are_awaited_than_fit() {
        let thirds = Thirds::default();
        (0..AWAITED as u64 + 5).for_each(|counter| thirds.expect((1, counter), THIRD, [0; 32]));
        assert_eq!(thirds.waiting(), AWAITED);
    }

    #[test]
    fn of_more_the_oldest_are_forgotten() {
        let thirds = Thirds::default();
        (0..=AWAITED as u64).for_each(|counter| thirds.expect((1, counter), THIRD, [0; 32]));
        for (counter, contradictions) in [(0, 0), (1, 1), (AWAITED as u64, 2)] {
            thirds.hear((1, counter), THIRD, b"another");
            assert_eq!(thirds.contradictions(), [0, contradictions, 0], "{counter}");
        }
    }

    #[test]
    fn of_the_connections_that_are_forgotten_alone_nothing_is_awaited() {
        let thirds = Thirds::default();
        for question in [(1, 7), (2, 7), (1, 8)] {
            thirds.expect(question, THIRD, [0; 32]);
        }
        thirds.forget(1);
        assert_eq!(thirds.waiting(), 1);
        thirds.hear((2, 7), THIRD, b"another");
        assert_eq!((thirds.contradictions(), thirds.waiting()), ([0, 1, 0], 0));
    }
}
