//! Memory for answers, reserved before the work and given back when the last byte has been sent.
//!
//! An answer may be a thousand times as large as the question. Without a common limit a few clients that ask much and
//! read slowly would hold all the memory there is; with it their questions wait unread, and the others' do as well for
//! no longer than it takes some answer to leave. A client whose answers do not leave loses its connection for it.
#![forbid(unsafe_code)]

use std::{
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use roadstead::Waker;

/// Answers up to this size do not count, in bytes.
const SMALL: usize = 16 << 10;

/// The memory that all answers of a server may hold together, in bytes.
#[derive(Debug)]
pub(crate) struct Answers {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: usize,
    waiting: Vec<Waker>,
}

impl Answers {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Reserves `bytes` for an answer. A small one is free: a connection's own budget bounds those, and readers of rows
    /// must not wait for searches. If there is no room `waker` is called when there may be some; an answer that is
    /// larger than the limit has room when there is no other.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        waker: impl FnOnce() -> Waker,
    ) -> Option<Allowance> {
        let counted = if bytes <= SMALL { 0 } else { bytes };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if counted > 0 && state.used > 0 && state.used + counted > self.limit {
            state.waiting.push(waker());
            return None;
        }
        state.used += counted;
        Some(Allowance { answers: Arc::clone(self), bytes, counted })
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.iter().any(|waker| !waker.is_closed())
    }
}

/// Memory that is reserved until this is dropped.
#[derive(Debug)]
pub(crate) struct Allowance {
    answers: Arc<Answers>,
    bytes: usize,
    counted: usize,
}

impl Allowance {
    /// How much is reserved.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// `body` as a buffer to send, for which this memory stays reserved until it is gone.
    pub(crate) fn hold(self, body: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { body, _allowance: self })
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.counted == 0 {
            return;
        }
        let mut state = self.answers.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used -= self.counted;
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(Waker::wake);
    }
}

struct Held {
    body: Vec<u8>,
    _allowance: Allowance,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("used", &self.used).field("waiting", &self.waiting.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Waker {
        panic!("there is room, so nobody has to be woken")
    }

    fn used(answers: &Answers) -> usize {
        answers.state.lock().unwrap().used
    }

    #[test]
    fn memory_is_reserved_up_to_the_limit_until_the_bytes_are_gone() {
        let (part, rest) = (SMALL + 1, SMALL + 2);
        let answers = Answers::new(part + rest);
        let first = answers.reserve(part, nobody).unwrap();
        let second = answers.reserve(rest, nobody).unwrap();
        assert_eq!(used(&answers), part + rest);
        let sent = first.hold(vec![0; part]);
        let tail = sent.slice(5..);
        drop(sent);
        assert_eq!(used(&answers), part + rest, "a part of it is still to be sent");
        drop(tail);
        drop(second);
        assert_eq!(used(&answers), 0);
    }

    #[test]
    fn a_small_answer_is_free_and_a_larger_one_is_not() {
        let answers = Answers::new(1);
        let _alone = answers.reserve(SMALL + 1, nobody).unwrap();
        let small = answers.reserve(SMALL, nobody).unwrap();
        assert_eq!((small.bytes(), used(&answers)), (SMALL, SMALL + 1));
        drop(small);
        assert_eq!(used(&answers), SMALL + 1);
    }
}
