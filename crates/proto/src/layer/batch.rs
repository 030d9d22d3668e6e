//! What a layer seals at once: a bounded part of what its connection has to send. Of a file as much is read at once.
#![forbid(unsafe_code)]

use std::io::IoSlice;

use bytes::BytesMut;

use crate::{flight::BLOCK, output::Output};

/// The most plaintext that is sealed at once, in bytes.
pub(crate) const BATCH: usize = BLOCK;

/// The bytes that come next in `output`, up to the first file.
pub(super) fn next_batch(output: &Output) -> BytesMut {
    let mut slices = [IoSlice::new(&[]); 16];
    let (count, _) = output.gather(&mut slices);
    let all: usize = slices[..count].iter().map(|slice| slice.len()).sum();
    let mut batch = BytesMut::with_capacity(all.min(BATCH));
    for slice in &slices[..count] {
        let room = BATCH - batch.len();
        batch.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    batch
}

#[cfg(test)]
mod tests {
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
            assert_eq!(next_batch(&output).len(), length, "{pieces:?}");
        }
    }
}
