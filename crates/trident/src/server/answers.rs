//! Memory for answers, reserved before the work and given back when the last byte has been sent.
//!
//! An answer may be a thousand times as large as the question. Without a common limit a few clients that ask much and
//! read slowly would hold all the memory there is; with it their questions wait unread. Memory that comes free goes to
//! those who wait in the order they came, one answer each, so that nobody waits longer than it takes every other client
//! to have one answer.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use roadstead_proto::Waker;

use crate::agreed::wire::{COUNTER, Kind};

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
    line: VecDeque<Waiter>,
}

struct Waiter {
    bytes: usize,
    waker: Waker,
    granted: Arc<Mutex<Option<Allowance>>>,
}

/// A place in the line for memory.
#[derive(Debug)]
pub(crate) struct Place(Arc<Mutex<Option<Allowance>>>);

impl Place {
    /// What was asked for, once it has been granted.
    pub(crate) fn granted(&self) -> Option<Allowance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Answers {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Reserves `bytes` for an answer. A small one is free: a connection's own budget bounds those, and readers of rows
    /// must not wait for searches. An answer that is larger than the limit has room when there is no other.
    ///
    /// # Errors
    /// A place in the line if there is no room; `waker` is called when memory has been granted to it.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        waker: impl FnOnce() -> Waker,
    ) -> Result<Allowance, Place> {
        if bytes <= SMALL {
            return Ok(Allowance { answers: Arc::clone(self), bytes, counted: 0 });
        }
        let mut state = self.state();
        if state.line.is_empty() && state.fits(bytes, self.limit) {
            state.used += bytes;
            return Ok(Allowance { answers: Arc::clone(self), bytes, counted: bytes });
        }
        let granted = Arc::default();
        let place = Place(Arc::clone(&granted));
        state.line.push_back(Waiter { bytes, waker: waker(), granted });
        Err(place)
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        self.state().line.iter().any(|waiter| !waiter.waker.is_closed())
    }

    /// Takes `bytes` back and grants what is free to the first in the line.
    fn release(self: &Arc<Self>, bytes: usize) {
        let mut state = self.state();
        state.used -= bytes;
        let mut served = Vec::new();
        while let Some(waiter) = state.line.pop_front() {
            if waiter.waker.is_closed() {
                served.push(waiter);
                continue;
            }
            if !state.fits(waiter.bytes, self.limit) {
                state.line.push_front(waiter);
                break;
            }
            state.used += waiter.bytes;
            let allowance =
                Allowance { answers: Arc::clone(self), bytes: waiter.bytes, counted: waiter.bytes };
            *waiter.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(allowance);
            served.push(waiter);
        }
        // Waking, and letting go of what was granted to one who has left meanwhile, must not happen under the lock.
        drop(state);
        served.iter().for_each(|waiter| waiter.waker.wake());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, bytes: usize, limit: usize) -> bool {
        self.used == 0 || self.used + bytes <= limit
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
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.answers.release(self.counted);
        }
    }
}

/// An answer on its way back to its connection. Its memory stays reserved until the last of its pieces is gone.
#[derive(Debug)]
pub struct Reply {
    pub(crate) kind: Kind,
    /// The body, in pieces.
    pub(crate) body: Vec<Bytes>,
    /// How much was reserved for it.
    pub(crate) reserved: usize,
}

impl Reply {
    pub(crate) fn new(kind: Kind, body: Vec<u8>, allowance: Allowance) -> Self {
        Self::woven(kind, vec![body], 1, allowance)
    }

    /// An answer of so many parts of one length behind its counter, written by ranges of rows: each buffer holds a
    /// range of every part, one after the other, and the first the counter before.
    pub(crate) fn woven(kind: Kind, buffers: Vec<Vec<u8>>, parts: usize, allowance: Allowance) -> Self {
        let (reserved, allowance) = (allowance.bytes(), Arc::new(allowance));
        let hold = |buffer| Bytes::from_owner(Held { buffer, _allowance: Arc::clone(&allowance) });
        let mut buffers: Vec<Bytes> = buffers.into_iter().map(hold).collect();
        if buffers.len() == 1 {
            return Self { kind, body: buffers, reserved };
        }
        let counter = buffers.first_mut().map(|first| first.split_to(COUNTER));
        let of = |part: usize| {
            buffers.iter().map(move |buffer| {
                let length = buffer.len() / parts;
                buffer.slice(part * length..(part + 1) * length)
            })
        };
        Self { kind, body: counter.into_iter().chain((0..parts).flat_map(of)).collect(), reserved }
    }

    /// How long the body is.
    pub(crate) fn len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

struct Held {
    buffer: Vec<u8>,
    _allowance: Arc<Allowance>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("used", &self.used).field("waiting", &self.line.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use roadstead_proto::{
        Budget, Context, Done, Input, Session, connection::Connection, connection::Endpoint, host::Shared,
        ticket::Token, ticket::WakeQueue,
    };

    use super::*;

    /// Waits for memory, and for nothing else.
    struct Waits;

    impl Session for Waits {
        type Reply = ();

        fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
            Ok(())
        }
    }

    /// A connection of this name, and the waker of its session.
    fn waits(name: Token, wake_queue: &Arc<WakeQueue>) -> (Connection<Waits>, Waker) {
        let shared = Shared::new(Budget::default());
        let permit = shared.gate.admit(None).unwrap();
        let (mut connection, waker) = Connection::outgoing(Waits, ([192, 0, 2, 1], 7).into(), shared, permit);
        connection.place(name, wake_queue, Duration::ZERO);
        (connection, waker)
    }

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
        let sent = Reply::new(Kind::Fetched, vec![0; part], first).body.remove(0);
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

    #[test]
    fn memory_that_comes_free_is_for_the_first_in_the_line_who_is_told_although_less_would_have_fitted() {
        let (wake_queue, all) = (WakeQueue::new(), 8 * SMALL);
        let answers = Answers::new(all);
        let [first, second] = [Token(1), Token(2)].map(|name| waits(name, &wake_queue));
        let woken = || {
            let mut woken = Vec::new();
            wake_queue.take(&mut woken);
            woken
        };
        let half = answers.reserve(all / 2, nobody).unwrap();
        let whole = answers.reserve(all, || first.1.clone()).unwrap_err();
        let little = answers.reserve(all / 4, || second.1.clone()).unwrap_err();
        drop(half);
        assert_eq!((woken(), used(&answers)), (vec![Token(1)], all));
        assert!(little.granted().is_none());
        drop(whole.granted().unwrap());
        assert_eq!((woken(), used(&answers)), (vec![Token(2)], all / 4));
        assert!(little.granted().is_some());
        assert_eq!(used(&answers), 0);
    }

    #[test]
    fn who_is_first_stays_first_until_there_is_room_enough() {
        let (wake_queue, part) = (WakeQueue::new(), 2 * SMALL);
        let answers = Answers::new(4 * part);
        let [first, second] = [Token(1), Token(2)].map(|name| waits(name, &wake_queue));
        let [one, two] = [(); 2].map(|()| answers.reserve(2 * part, nobody).unwrap());
        let large = answers.reserve(4 * part, || first.1.clone()).unwrap_err();
        let little = answers.reserve(part, || second.1.clone()).unwrap_err();
        drop(one);
        assert!(
            large.granted().is_none() && little.granted().is_none(),
            "half is free, and the first wants all"
        );
        drop(two);
        let large = large.granted().expect("all is free");
        assert!(little.granted().is_none());
        drop(large);
        assert!(little.granted().is_some());
    }

    #[test]
    fn who_has_left_the_line_is_passed_over_and_makes_memory_short_for_nobody() {
        let (wake_queue, part) = (WakeQueue::new(), 2 * SMALL);
        let answers = Answers::new(part);
        let [gone, there] = [Token(1), Token(2)].map(|name| waits(name, &wake_queue));
        let all = answers.reserve(part, nobody).unwrap();
        let left = answers.reserve(part, || gone.1.clone()).unwrap_err();
        assert!(answers.is_short());
        drop(gone.0);
        assert!(!answers.is_short(), "the only one who waited has left");
        let next = answers.reserve(part, || there.1.clone()).unwrap_err();
        assert!(answers.is_short());
        drop(all);
        assert!(left.granted().is_none() && next.granted().is_some());
        assert_eq!(used(&answers), 0);
    }

    #[test]
    fn one_byte_more_than_there_is_waits() {
        let wake_queue = WakeQueue::new();
        let next = waits(Token(1), &wake_queue);
        let answers = Answers::new(3 * SMALL);
        let _half = answers.reserve(2 * SMALL - 1, nobody).unwrap();
        let place = answers.reserve(SMALL + 2, || next.1.clone()).unwrap_err();
        assert!(place.granted().is_none() && answers.is_short());
        assert_eq!(used(&answers), 2 * SMALL - 1);
    }

    #[test]
    fn all_who_fit_are_granted_at_once_and_each_is_told() {
        let (wake_queue, part) = (WakeQueue::new(), 2 * SMALL);
        let answers = Answers::new(2 * part);
        let waiters = [Token(1), Token(2), Token(3)].map(|name| waits(name, &wake_queue));
        let all = answers.reserve(2 * part, nobody).unwrap();
        let places = waiters.each_ref().map(|it| answers.reserve(part, || it.1.clone()).unwrap_err());
        drop(all);
        let mut woken = Vec::new();
        wake_queue.take(&mut woken);
        assert_eq!((woken, used(&answers)), (vec![Token(1), Token(2)], 2 * part));
        let granted = places.each_ref().map(Place::granted);
        assert_eq!(granted.each_ref().map(Option::is_some), [true, true, false]);
        assert!(places[0].granted().is_none(), "once is enough");
        assert_eq!(granted[1].as_ref().map(Allowance::bytes), Some(part));
    }

    /// Its session ends between the grant and the message that it is for.
    #[test]
    fn a_place_that_is_given_up_after_the_grant_passes_the_memory_on() {
        let (wake_queue, part) = (WakeQueue::new(), 2 * SMALL);
        let answers = Answers::new(part);
        let [first, second] = [Token(1), Token(2)].map(|name| waits(name, &wake_queue));
        let all = answers.reserve(part, nobody).unwrap();
        let given_up = answers.reserve(part, || first.1.clone()).unwrap_err();
        let next = answers.reserve(part, || second.1.clone()).unwrap_err();
        drop(all);
        assert!(next.granted().is_none());
        drop(first);
        drop(given_up);
        assert!(next.granted().is_some());
        assert!(!answers.is_short());
        assert_eq!(used(&answers), 0);
    }
}
