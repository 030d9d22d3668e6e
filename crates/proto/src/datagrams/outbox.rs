//! What a socket has to send: datagrams in order, in one buffer, bounded.
//!
//! In most turns the system takes all of it, and the buffer is used anew: an answer costs no allocation.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, net::SocketAddr, ops::Range};

use super::path::{Local, datagrams};

/// What each counts for beside its bytes: the room that it takes in the list.
pub(super) const EACH: usize = size_of::<Entry>();
/// A buffer of this size is kept when nothing is in it.
const KEPT: usize = 64 << 10;

/// A datagram that waits to be sent; or several to the same peer, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// The address that it comes from. None: as the socket is bound.
    pub from: Option<Local>,
    /// How many hops it may go. None: as the system says.
    pub hops: Option<u8>,
    /// The bytes are several datagrams of this length, but for the last, which may be shorter. None: they are one.
    pub segment: Option<usize>,
    /// What it says.
    pub bytes: &'a [u8],
}

impl Outgoing<'_> {
    /// How many datagrams it is.
    pub fn datagrams(&self) -> usize {
        datagrams(self.bytes.len(), self.segment)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    to: SocketAddr,
    from: Option<Local>,
    hops: Option<u8>,
    segment: Option<usize>,
    bytes: Range<usize>,
}

/// What a socket has to send.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    bytes: Vec<u8>,
    /// Bytes at the front of the buffer that were sent.
    sent: usize,
}

impl Outbox {
    /// What it holds, in bytes, with what each datagram counts for beside its own.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.sent + self.entries.len() * EACH
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What waits, in the order in which it is to be sent.
    pub fn iter(&self) -> impl Iterator<Item = Outgoing<'_>> {
        self.entries.iter().map(|entry| {
            let &Entry { to, from, hops, segment, ref bytes } = entry;
            Outgoing { to, from, hops, segment, bytes: &self.bytes[bytes.clone()] }
        })
    }

    pub(super) fn push(&mut self, outgoing: Outgoing<'_>) {
        let Outgoing { to, from, hops, segment, bytes } = outgoing;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.entries.push_back(Entry { to, from, hops, segment, bytes: start..self.bytes.len() });
    }

    /// What is left of the first never will leave. Answers how many datagrams and bytes it was.
    pub(super) fn pop(&mut self) -> Option<(usize, usize)> {
        let Entry { segment, bytes, .. } = self.entries.pop_front()?;
        self.sent = bytes.end;
        self.tidy();
        Some((datagrams(bytes.len(), segment), bytes.len()))
    }

    /// So many datagrams at the front have left, if there are as many. Answers how many that was, and of how many bytes.
    pub(super) fn leave(&mut self, most: usize) -> (usize, usize) {
        let (mut left, mut length) = (0, 0);
        while left < most
            && let Some(Entry { segment, bytes, .. }) = self.entries.front_mut()
        {
            let all = datagrams(bytes.len(), *segment);
            match segment.filter(|_| all > most - left) {
                Some(segment) => {
                    length += segment * (most - left);
                    bytes.start += segment * (most - left);
                    (left, self.sent) = (most, bytes.start);
                }
                None => {
                    (left, length, self.sent) = (left + all, length + bytes.len(), bytes.end);
                    self.entries.pop_front();
                }
            }
        }
        // Once: what leaves together is not worth moving what leaves behind it.
        self.tidy();
        (left, length)
    }

    fn tidy(&mut self) {
        if self.entries.is_empty() {
            self.clear();
        } else if self.sent > self.bytes.len() / 2 {
            self.compact();
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > KEPT {
            *self = Self::default();
        }
    }

    /// Moves what waits to the front of the buffer. Each byte is moved once for each that was sent at the most.
    fn compact(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.bytes.drain(..sent);
        for Entry { bytes, .. } in &mut self.entries {
            *bytes = bytes.start - sent..bytes.end - sent;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn outgoing(port: u16, segment: Option<usize>, bytes: &[u8]) -> Outgoing<'_> {
        Outgoing { to: ([192, 0, 2, 1], port).into(), from: None, hops: None, segment, bytes }
    }

    proptest! {
        /// Of a length, or the first is gone.
        #[test]
        fn an_outbox_is_a_queue_whatever_is_sent_when(steps in vec(prop::option::of(0..3_000usize), 0..300)) {
            let (mut outbox, mut model) = (Outbox::default(), VecDeque::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(length) => {
                        let bytes = vec![number as u8; length];
                        outbox.push(outgoing(number as u16, None, &bytes));
                        model.push_back((number as u16, bytes));
                    }
                    None => {
                        let gone = model.pop_front().map(|(_, bytes)| (1, bytes.len()));
                        prop_assert_eq!(outbox.pop(), gone);
                    }
                }
                let held: usize = model.iter().map(|(_, bytes)| bytes.len() + EACH).sum();
                prop_assert_eq!(outbox.held(), held);
                prop_assert!(outbox.bytes.len() <= 2 * held + 1);
                let waits: Vec<_> = outbox.iter().map(|one| (one.to.port(), one.bytes.to_vec())).collect();
                prop_assert_eq!(waits, model.iter().cloned().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn of_several_segments_some_may_leave_before_the_others() {
        let mut outbox = Outbox::default();
        outbox.push(outgoing(1, Some(4), b"aaaabbbbcc"));
        outbox.push(outgoing(2, None, b"dddd"));
        assert_eq!(outbox.leave(2), (2, 8));
        assert_eq!(outbox.held(), 6 + 2 * EACH);
        assert_eq!(outbox.iter().map(|one| one.bytes).collect::<Vec<_>>(), [&b"cc"[..], b"dddd"]);
        assert_eq!((outbox.leave(0), outbox.leave(9), outbox.leave(1)), ((0, 0), (2, 6), (0, 0)));
        outbox.push(outgoing(1, None, b""));
        outbox.push(outgoing(2, Some(4), b"aaaabbbbcc"));
        assert_eq!((outbox.leave(2), outbox.leave(1)), ((2, 4), (1, 4)));
        assert_eq!(outbox.iter().map(|one| one.bytes).collect::<Vec<_>>(), [b"cc"]);
    }

    #[test]
    fn segments_leave_as_so_many_datagrams_and_a_large_buffer_is_not_kept() {
        let mut outbox = Outbox::default();
        let large = vec![1; 2 * KEPT];
        outbox.push(outgoing(1, Some(1_000), &large));
        outbox.push(outgoing(2, None, b""));
        assert_eq!(outbox.iter().map(|one| one.datagrams()).collect::<Vec<_>>(), [132, 1]);
        assert_eq!((outbox.pop(), outbox.pop(), outbox.pop()), (Some((132, 2 * KEPT)), Some((1, 0)), None));
        assert_eq!((outbox.held(), outbox.bytes.capacity()), (0, 0));
    }
}
