//! What a layer seals at once: a bounded part of what its connection has to send.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};

use crate::{flight::BLOCK, output::Output};

/// The most plaintext that is sealed at once, in bytes.
pub(crate) const BATCH: usize = BLOCK;

/// What comes next in `output`: bytes, or the next part of a file.
///
/// # Errors
/// If the file cannot be read, or is shorter than what was promised of it.
pub(super) fn next_batch(output: &Output) -> io::Result<Bytes> {
    if let Some(range) = output.front_file() {
        return Ok(range.read(BATCH)?.freeze());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_batch_is_no_larger_than_one_whatever_there_is_to_send() {
        for (pieces, length) in [
            (vec![BATCH - 1], BATCH - 1),
            (vec![3 * BATCH], BATCH),
            (vec![BATCH - 10, 300], BATCH),
            (vec![300, 400], 700),
            (vec![1000; 20], 16 * 1000),
        ] {
            let mut output = Output::new(usize::MAX);
            pieces.iter().for_each(|&piece| output.send(vec![7; piece]));
            assert_eq!(next_batch(&output).unwrap().len(), length, "{pieces:?}");
        }
    }

    #[test]
    fn a_part_of_a_file_goes_on_where_the_last_has_ended() {
        let content: Vec<u8> = (0..2 * BATCH + 100).map(|at| (at / 5) as u8).collect();
        let mut output = Output::new(usize::MAX);
        output.file(Arc::new(content.clone()), 3, 2 * BATCH as u64);
        let mut read = Vec::new();
        while !output.is_empty() {
            let part = next_batch(&output).unwrap();
            // Not all of it leaves at once.
            let sent = part.len().div_ceil(2);
            read.extend_from_slice(&part[..sent]);
            output.advance(sent as u64);
        }
        assert!(read == content[3..][..2 * BATCH]);
    }
}
