//! One connection's messages without its socket: what is to be sent, what came back, and whether it is right.

use std::collections::VecDeque;

use super::fault::Fault;
use super::pattern::{CHUNK, PERIOD, Pattern};

/// How one message ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    /// Whether every byte was right.
    pub(super) right: bool,
    /// Nanoseconds from the time it counts from to its last byte.
    pub(super) latency: u64,
}

/// Messages are consecutive pieces of the [`Pattern`], so three positions say everything.
pub(super) struct Stream {
    /// Where in the pattern this connection begins: no two send the same at the same time.
    origin: u64,
    size: u64,
    /// Messages begun.
    issued: u64,
    /// Bytes sent.
    sent: u64,
    /// Bytes received.
    received: u64,
    /// How many of them belong to the message that is arriving.
    arrived: u64,
    /// Whether one of those was wrong.
    spoilt: bool,
    /// The times that the messages in flight count from, oldest first.
    since: VecDeque<u64>,
}

impl Stream {
    pub(super) fn new(connection: usize, size: usize, depth: usize) -> Self {
        Self {
            origin: connection as u64 * 40_503 % PERIOD as u64,
            size: size as u64,
            issued: 0,
            sent: 0,
            received: 0,
            arrived: 0,
            spoilt: false,
            since: VecDeque::with_capacity(depth),
        }
    }

    pub(super) fn issued(&self) -> u64 {
        self.issued
    }

    pub(super) fn in_flight(&self) -> usize {
        self.since.len()
    }

    /// Begins a message whose latency counts from `since`.
    pub(super) fn issue(&mut self, since: u64) {
        self.since.push_back(since);
        self.issued += 1;
    }

    /// The next bytes to send; empty when every message begun is sent.
    pub(super) fn unsent<'p>(&self, pattern: &'p Pattern) -> &'p [u8] {
        let left = self.issued * self.size - self.sent;
        pattern.at(self.origin + self.sent, left.min(CHUNK as u64) as usize)
    }

    /// `count` of the unsent bytes have been sent.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// Takes bytes that came back at `now` and reports every message that they complete.
    pub(super) fn receive(
        &mut self,
        pattern: &Pattern,
        bytes: &[u8],
        now: u64,
        mut answered: impl FnMut(Answer),
    ) -> Result<(), Fault> {
        let owed = (self.sent - self.received).min(bytes.len() as u64) as usize;
        let (mut rest, unasked) = bytes.split_at(owed);
        while !rest.is_empty() {
            let missing = (self.size - self.arrived).min(CHUNK as u64) as usize;
            let (piece, after) = rest.split_at(missing.min(rest.len()));
            self.spoilt |= piece != pattern.at(self.origin + self.received, piece.len());
            self.received += piece.len() as u64;
            self.arrived += piece.len() as u64;
            rest = after;
            if self.arrived < self.size {
                continue;
            }
            if let Some(since) = self.since.pop_front() {
                answered(Answer { right: !self.spoilt, latency: now.saturating_sub(since) });
            }
            self.arrived = 0;
            self.spoilt = false;
        }
        if unasked.is_empty() { Ok(()) } else { Err(Fault::Unasked) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends all that may be sent, as one piece.
    fn send(stream: &mut Stream, pattern: &Pattern) -> Vec<u8> {
        let mut wire = Vec::new();
        loop {
            let chunk = stream.unsent(pattern);
            if chunk.is_empty() {
                return wire;
            }
            wire.extend_from_slice(chunk);
            stream.advance(chunk.len());
        }
    }

    #[test]
    fn an_answer_before_its_message_was_sent_is_unasked() {
        let pattern = Pattern::new();
        let mut stream = Stream::new(0, 4, 1);
        stream.issue(0);
        let bytes = stream.unsent(&pattern).to_vec();
        stream.advance(3);
        let outcome = stream.receive(&pattern, &bytes, 1, |_| panic!("not all was sent"));
        assert_eq!(outcome, Err(Fault::Unasked));
    }

    #[test]
    fn exchanged_messages_are_both_wrong() {
        let pattern = Pattern::new();
        let mut stream = Stream::new(3, 64, 2);
        stream.issue(0);
        stream.issue(0);
        let mut wire = send(&mut stream, &pattern);
        wire.rotate_left(64);
        let mut rights = Vec::new();
        stream.receive(&pattern, &wire, 9, |answer| rights.push(answer.right)).unwrap();
        assert_eq!(rights, [false, false]);
    }

    proptest! {
        /// However the answer is cut and whichever byte is changed: that message is wrong and no other.
        #[test]
        fn exactly_the_changed_message_is_wrong(
            size in prop_oneof![1_usize..300, 65_000_usize..140_000], count in 1_usize..8, connection in 0_usize..9,
            changed in any::<Option<prop::sample::Index>>(), flip in 1_u8.., cuts in prop::collection::vec(1_usize..70_000, 1..9),
        ) {
            let pattern = Pattern::new();
            let mut stream = Stream::new(connection, size, count);
            for index in 0..count {
                stream.issue(index as u64);
            }
            let mut wire = send(&mut stream, &pattern);
            prop_assert_eq!(wire.len(), size * count);
            let bad = changed.map(|place| {
                let place = place.index(wire.len());
                wire[place] ^= flip;
                place / size
            });
            let mut answers = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                stream.receive(&pattern, piece, 100, |answer| answers.push(answer)).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> = (0..count)
                .map(|index| Answer { right: bad != Some(index), latency: 100 - index as u64 })
                .collect();
            prop_assert_eq!(answers, expected);
            prop_assert_eq!(stream.in_flight(), 0);
            prop_assert_eq!(stream.receive(&pattern, &[0], 101, |_| ()), Err(Fault::Unasked));
        }
    }
}
