//! The unread bytes of a connection, and received buffers that can be kept and sent on without a copy.
#![forbid(unsafe_code)]

use std::{fmt, ops::Deref, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};

use crate::budget::{Charge, Meter};

/// The unread bytes of a connection, in the order they came.
///
/// The session consumes what it can use and leaves the rest; what it leaves is kept (and counted) by the engine and
/// shown again together with what comes next.
pub struct Input<'a> {
    block: &'a mut BytesMut,
    need: &'a mut usize,
    meter: &'a Arc<Meter>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(block: &'a mut BytesMut, need: &'a mut usize, meter: &'a Arc<Meter>) -> Self {
        Self { block, need, meter }
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
        self.block.advance(count.min(self.block.len()));
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
    /// that a few kept bytes never pin a large buffer. Charged to the server's budget until dropped; `None` if that
    /// has no room.
    pub fn take(&mut self, count: usize) -> Option<Chunk> {
        let count = count.min(self.block.len());
        let capacity = self.block.capacity();
        if count * 2 >= capacity {
            let charge = self.meter.charge(capacity)?;
            Some(Chunk { bytes: self.block.split_to(count).freeze(), _charge: charge })
        } else {
            let charge = self.meter.charge(count)?;
            let bytes = Bytes::copy_from_slice(&self.block[..count]);
            self.block.advance(count);
            Some(Chunk { bytes, _charge: charge })
        }
    }
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("len", &self.len()).finish()
    }
}

/// Received bytes that are kept: charged to the budget until dropped, cheap to send on.
#[derive(Debug)]
pub struct Chunk {
    pub(crate) bytes: Bytes,
    _charge: Charge,
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
