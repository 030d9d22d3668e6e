//! What a layer seals at once: a bounded part of what its connection has to send. Of a file as much is read at once.
#![forbid(unsafe_code)]

use std::io::IoSlice;

use crate::{flight::BLOCK, output::Output, spare::Spare};

/// The most plaintext that is sealed at once, in bytes.
pub(crate) const BATCH: usize = BLOCK;

/// Has `seal` see the bytes that come next in `output`, up to the first file: one piece where it lies, several together in
/// a buffer that is taken out of `spare`.
pub(super) fn with_next_batch<T>(output: &Output, spare: &mut Spare, seal: impl FnOnce(&[u8]) -> T) -> T {
    let mut slices = [IoSlice::new(&[]); 16];
    let (count, _) = output.gather(&mut slices);
    if let [one] = &slices[..count] {
        return seal(&one[..one.len().min(BATCH)]);
    }
    let all: usize = slices[..count].iter().map(|slice| slice.len()).sum();
    let mut batch = spare.take(all.min(BATCH));
    for slice in &slices[..count] {
        let room = BATCH - batch.len();
        batch.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    let (sealed, size) = (seal(&batch), batch.capacity());
    spare.put(batch, size);
    sealed
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
            let seen = with_next_batch(&output, &mut Spare::default(), <[u8]>::len);
            assert_eq!(seen, length, "{pieces:?}");
        }
    }
}
