//! The bytes a session has left, in a buffer that is never much larger than they are.
//!
//! A view into a buffer keeps the whole of it alive, so what is charged to the budget is the size of the buffer. It
//! grows with the bytes that come and not with what a peer announces.
#![forbid(unsafe_code)]

use bytes::BytesMut;

/// Unread bytes and the size of the buffer they lie in.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    pub(crate) bytes: BytesMut,
    pub(crate) size: usize,
}

impl Unread {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends `more`. The buffer grows by doubling, to `most` bytes and beyond that only to what is there.
    pub(crate) fn append(&mut self, more: &[u8], most: usize) {
        let len = self.bytes.len() + more.len();
        if len > self.bytes.capacity() {
            self.replace(len.next_power_of_two().min(most).max(len));
        }
        self.bytes.extend_from_slice(more);
    }

    /// The session has consumed some: lets go of a buffer that has become far too large for the rest.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            *self = Self::default();
        } else if self.bytes.len() < self.size / 4 {
            self.replace(self.bytes.len().next_power_of_two());
        }
    }

    fn replace(&mut self, size: usize) {
        let mut bytes = BytesMut::with_capacity(size);
        bytes.extend_from_slice(&self.bytes);
        *self = Self { bytes, size };
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn a_few_bytes_never_keep_a_large_buffer() {
        let mut unread = Unread::default();
        unread.append(&[7; 5000], 6000);
        assert_eq!(unread.size, 6000);
        unread.bytes.advance(4990);
        unread.shrink();
        assert_eq!((&unread.bytes[..], unread.size), (&[7; 10][..], 16));
        unread.bytes.advance(10);
        unread.shrink();
        assert_eq!(unread.size, 0);
    }

    #[test]
    fn the_size_is_that_of_the_buffer_however_it_was_filled_and_emptied() {
        let mut unread = Unread::default();
        let mut expected = Vec::new();
        for round in 0..2000usize {
            let more = vec![round as u8; round * 7 % 311];
            unread.append(&more, 1 << 14);
            expected.extend_from_slice(&more);
            let eaten = (round * 13 % 290).min(expected.len());
            unread.bytes.advance(eaten);
            expected.drain(..eaten);
            unread.shrink();
            assert_eq!(unread.bytes, expected);
            assert!(unread.bytes.capacity() <= unread.size);
            assert!(unread.size <= (8 * expected.len()).max(512), "{} for {}", unread.size, expected.len());
        }
    }
}
