//! What a layer seals at once: a bounded part of what its connection has to send.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};

use crate::{connection::BLOCK, os, output::Output};

/// The most plaintext that is sealed at once, in bytes.
pub(super) const BATCH: usize = BLOCK;

/// What comes next in `output`: bytes, or the next part of a file.
///
/// # Errors
/// If the file cannot be read, or is shorter than what was promised of it.
pub(super) fn next_batch(output: &Output) -> io::Result<Bytes> {
    if let Some(range) = output.front_file() {
        let mut part = vec![0; range.len.min(BATCH as u64) as usize];
        let count = os::read_at(&range.file, &mut part, range.offset)?;
        part.truncate(count);
        return Ok(part.into());
    }
    let mut slices = [IoSlice::new(&[]); 16];
    let (count, _) = output.gather(&mut slices);
    let all: usize = slices[..count].iter().map(|slice| slice.len()).sum();
    let mut batch = BytesMut::with_capacity(all.min(BATCH));
    for slice in &slices[..count] {
        let room = BATCH - batch.len();
        batch.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    Ok(batch.freeze())
}
