//! Buffers that a loop keeps for its connections, each for as long as one of them is served.
//!
//! What passes through a connection without staying there needs a buffer for a moment. To allocate it for every message
//! would cost more than many a message does, and to keep it with the connection would hold memory for who says nothing.
#![forbid(unsafe_code)]

use std::{fmt, mem};

use bytes::BytesMut;

use crate::flight::BLOCK;

/// The largest buffer that is kept, in bytes: what comes at once, what had come of it before, and what sealing adds.
const LARGEST: usize = 3 * BLOCK;

/// The buffers of one loop.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    /// For what a layer opens, and for pieces that it is to seal together.
    pub(crate) opened: Spare,
    /// For what a layer has sealed.
    pub(crate) sealed: Spare,
    /// For what a session writes.
    pub(crate) written: Spare,
}

/// One buffer that is taken and put back; for two who need it at once it is allocated.
#[derive(Default)]
pub(crate) struct Spare(BytesMut);

impl Spare {
    /// An empty buffer with room for so many bytes.
    pub(crate) fn take(&mut self, room: usize) -> BytesMut {
        let mut buffer = mem::take(&mut self.0);
        buffer.reserve(room);
        buffer
    }

    /// Keeps a buffer of `size` bytes whose content nobody needs any more, unless there is a larger one, or somebody has
    /// kept a part of it.
    pub(crate) fn put(&mut self, mut buffer: BytesMut, size: usize) {
        buffer.clear();
        if size > self.0.capacity() && size <= LARGEST && buffer.try_reclaim(size) {
            self.0 = buffer;
        }
    }
}

/// Without the bytes: what was in it may be a secret.
impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spare").field(&self.0.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn what_was_put_back_is_taken_again_with_all_its_room_and_empty() {
        let mut spare = Spare::default();
        let mut buffer = spare.take(1000);
        let (size, place) = (buffer.capacity(), buffer.as_ptr());
        buffer.extend_from_slice(&[7; 1000]);
        buffer.advance(900);
        spare.put(buffer, size);
        let again = spare.take(1000);
        assert_eq!((again.len(), again.capacity(), again.as_ptr()), (0, size, place));
    }

    #[test]
    fn what_somebody_keeps_a_part_of_or_is_too_large_or_smaller_than_what_there_is_is_not_kept() {
        let mut spare = Spare::default();
        let mut shared = BytesMut::from(&[7; 1000][..]);
        let part = shared.split_to(600).freeze();
        spare.put(shared, 1000);
        assert_eq!((spare.0.capacity(), &part[..]), (0, &[7; 600][..]));
        for (size, kept) in [(LARGEST + 1, 0), (LARGEST, LARGEST), (100, LARGEST)] {
            spare.put(BytesMut::with_capacity(size), size);
            assert_eq!(spare.0.capacity(), kept);
        }
    }
}
