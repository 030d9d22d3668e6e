//! A message that came, until it is taken.
#![forbid(unsafe_code)]

use std::ops::Deref;

use bytes::Bytes;

use roadstead_proto::budget::Charge;

use crate::{options::cost, taken::Taken};

/// A message of another member. Its memory is charged to that member until this is dropped.
#[derive(Debug)]
pub struct Message {
    bytes: Bytes,
    _charges: [Charge; 2],
    taken: Taken,
}

impl Message {
    pub(crate) fn new(bytes: Bytes, charges: [Charge; 2], taken: Taken) -> Self {
        Self { bytes, _charges: charges, taken }
    }
}

impl Deref for Message {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.taken.add(cost(self.bytes.len()) as u64);
    }
}
