//! The unread bytes of a connection.
#![forbid(unsafe_code)]

use std::{fmt, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};

pub use crate::chunk::Chunk;
use crate::{budget::Meter, output::Output};

/// The unread bytes of a connection, in the order they came.
///
/// The session consumes what it can use and leaves the rest; what it leaves is kept (and counted) by the engine and
/// shown again together with what comes next.
pub struct Input<'a> {
    block: &'a mut BytesMut,
    /// The size of the buffer that the block is a part of.
    size: usize,
    need: &'a mut usize,
    meter: &'a Arc<Meter>,
}

impl<'a> Input<'a> {
    /// What of `block`, a part of a buffer of `size` bytes, was not read. What the session asks for goes into `need`;
    /// what it keeps is charged to `meter`.
    #[doc(hidden)]
    pub fn new(block: &'a mut BytesMut, size: usize, need: &'a mut usize, meter: &'a Arc<Meter>) -> Self {
        Self { block, size, need, meter }
    }

    /// All unread bytes.
    pub fn bytes(&self) -> &[u8] {
        self.block
    }

    /// How many bytes are unread.
    pub fn len(&self) -> usize {
        self.block.len()
    }

    /// Whether nothing is unread.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Marks the first `count` bytes as used; more than there are means all of them.
    pub fn consume(&mut self, count: usize) {
        if count < self.block.len() {
            self.block.advance(count);
        } else {
            // Its room is free for what comes next.
            self.block.clear();
        }
    }

    /// Nothing useful can be done before `count` bytes are unread: do not call again earlier.
    ///
    /// More than the connection may buffer closes it, before anything is allocated.
    pub fn need(&mut self, count: usize) {
        *self.need = count;
    }

    /// Takes the first `count` bytes (or all, if there are fewer) out of the input, to keep or to send on.
    ///
    /// A piece that fills at least half of the received buffer is taken without a copy; a smaller one is copied, so
    /// that a few kept bytes never pin a large buffer. What it pins is charged to the server's budget until dropped;
    /// `None` if that has no room.
    pub fn take(&mut self, count: usize) -> Option<Chunk> {
        let count = count.min(self.block.len());
        if count * 2 >= self.size {
            let charge = self.meter.charge(self.size)?;
            Some(Chunk::new(self.block.split_to(count).freeze(), charge))
        } else {
            let charge = self.meter.charge(count)?;
            let bytes = Bytes::copy_from_slice(&self.block[..count]);
            self.consume(count);
            Some(Chunk::new(bytes, charge))
        }
    }
}

impl Input<'_> {
    /// Sends the first `count` bytes (or all, if there are fewer) on: a large piece without a copy, a small one without
    /// the cost of keeping a buffer.
    pub fn forward(&mut self, count: usize, output: &mut Output) {
        let count = count.min(self.block.len());
        if count * 2 >= self.size
            && let Some(chunk) = self.take(count)
        {
            return output.forward(chunk);
        }
        output.write(&self.block[..count]);
        self.consume(count);
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_at_the_end_of_a_large_buffer_do_not_pin_it() {
        let (meter, mut need) = (Meter::new(1 << 20), 0);
        let mut block = BytesMut::from(&[1; 1000][..]);
        let mut input = Input::new(&mut block, 1000, &mut need, &meter);
        input.consume(990);
        let few = input.take(10).unwrap();
        assert_eq!((few.len(), meter.used()), (10, 10));
        assert!(block.try_reclaim(1000), "nothing else holds the buffer");
    }

    #[test]
    fn half_a_buffer_is_taken_without_a_copy_and_charged_whole() {
        for (count, charged) in [(499, 499), (500, 1000), (501, 1000)] {
            let (meter, mut need) = (Meter::new(1000), 0);
            let mut block = BytesMut::from(&[1; 1000][..]);
            let chunk = Input::new(&mut block, 1000, &mut need, &meter).take(count).unwrap();
            assert_eq!((chunk.len(), block.len(), meter.used()), (count, 1000 - count, charged));
            drop(chunk);
            assert_eq!(meter.used(), 0);
        }
        let (meter, mut need) = (Meter::new(999), 0);
        let mut block = BytesMut::from(&[1; 1000][..]);
        assert!(Input::new(&mut block, 1000, &mut need, &meter).take(500).is_none());
        assert_eq!(block.len(), 1000, "what could not be taken is still unread");
    }
}
