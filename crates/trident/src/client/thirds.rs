//! What the third server says of a row that was read from two.
//!
//! Two shares give the third, so its answer is known before it comes. Nobody waits for it; when it comes it has to be
//! the one, or one of the three servers computes with something else than what was shared.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::party::Party;

/// Answers that are awaited at once; the oldest are forgotten.
const AWAITED: usize = 1024;

/// A digest of an answer's body.
pub(super) type Digest = [u8; 32];

/// Which connections, and which question on them.
pub(super) type Question = (u64, u64);

/// Third answers that have not come, or came before anybody knew what they had to be.
#[derive(Default)]
pub(super) struct Thirds {
    awaited: Mutex<VecDeque<Third>>,
    contradictions: [AtomicU64; 3],
}

struct Third {
    question: Question,
    party: Party,
    expected: Option<Digest>,
    came: Option<Digest>,
}

impl Thirds {
    /// The answers of the two others were enough.
    pub(super) fn wait_for(&self, question: Question, party: Party) {
        let mut awaited = self.awaited();
        if awaited.len() == AWAITED {
            awaited.pop_front();
        }
        awaited.push_back(Third { question, party, expected: None, came: None });
    }

    /// What the third answer to `question` has to be.
    pub(super) fn expect(&self, question: Question, digest: Digest) {
        self.learn(question, |third| third.expected = Some(digest));
    }

    /// What `party` has answered, if it was the third.
    pub(super) fn hear(&self, question: Question, party: Party, body: &[u8]) {
        self.learn(question, |third| {
            if third.party == party {
                third.came = Some(*blake3::hash(body).as_bytes());
            }
        });
    }

    fn learn(&self, question: Question, learn: impl FnOnce(&mut Third)) {
        let mut awaited = self.awaited();
        let Some(at) = awaited.iter().position(|third| third.question == question) else { return };
        let third = &mut awaited[at];
        learn(third);
        if let (Some(expected), Some(came)) = (third.expected, third.came) {
            let party = third.party;
            awaited.remove(at);
            if expected != came {
                self.contradictions[party.index()].fetch_add(1, Relaxed);
                tracing::warn!(
                    "{party} contradicts the other two, whose answers were checked and used: one of the three does not compute with the shares it was given"
                );
            }
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

    #[test]
    fn a_third_answer_is_compared_whichever_is_known_first() {
        for early in [true, false] {
            for (said, contradicts) in [(&b"right"[..], 0), (b"wrong", 1)] {
                let thirds = Thirds::default();
                thirds.wait_for((1, 7), THIRD);
                let expected = *blake3::hash(b"right").as_bytes();
                if early {
                    thirds.hear((1, 7), THIRD, said);
                    thirds.expect((1, 7), expected);
                } else {
                    thirds.expect((1, 7), expected);
                    thirds.hear((1, 7), THIRD, said);
                }
                assert_eq!((thirds.contradictions(), thirds.waiting()), ([0, contradicts, 0], 0));
            }
        }
    }

    #[test]
    fn answers_of_others_are_not_the_third() {
        let thirds = Thirds::default();
        thirds.wait_for((1, 7), THIRD);
        thirds.expect((1, 7), *blake3::hash(b"right").as_bytes());
        thirds.hear((1, 7), Party::ALL[0], b"wrong");
        thirds.hear((2, 7), THIRD, b"wrong");
        thirds.hear((1, 8), THIRD, b"wrong");
        assert_eq!((thirds.contradictions(), thirds.waiting()), ([0; 3], 1));
    }

    #[test]
    fn no_more_are_awaited_than_fit() {
        let thirds = Thirds::default();
        (0..AWAITED as u64 + 5).for_each(|counter| thirds.wait_for((1, counter), THIRD));
        assert_eq!(thirds.waiting(), AWAITED);
    }
}
