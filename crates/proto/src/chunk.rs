//! Received buffers that can be kept, and sent on without a copy.
#![forbid(unsafe_code)]

use std::ops::Deref;

use bytes::Bytes;

use crate::budget::Charge;

/// Received bytes that are kept: charged to the budget until dropped, cheap to send on.
#[derive(Debug)]
pub struct Chunk {
    pub(crate) bytes: Bytes,
    _charge: Charge,
}

impl Chunk {
    /// `charge` is what keeping `bytes` keeps from others.
    #[doc(hidden)]
    pub fn new(bytes: Bytes, charge: Charge) -> Self {
        Self { bytes, _charge: charge }
    }
}

impl Deref for Chunk {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
