//! The bytes that are sent: one endless stream whose every place is known, so that nothing sent need be kept.

/// Most bytes that are sent, received or compared at once.
pub(super) const CHUNK: usize = 64 * 1024;

/// The stream repeats after this many bytes: a prime, so that messages of any usual size differ from their
/// neighbours and a lost, doubled or exchanged one is seen.
pub(super) const PERIOD: usize = 65_521;

/// One period of the stream and a chunk more, so that any chunk of it is one slice.
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new() -> Self {
        // SplitMix64 (Steele, Lea, Flood, 2014): fixed, so that every run sends the same.
        let mut state = 0_u64;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z >> 56) as u8
        })
        .take(PERIOD)
        .collect();
        while bytes.len() < PERIOD + CHUNK {
            let more = (PERIOD + CHUNK - bytes.len()).min(PERIOD);
            bytes.extend_from_within(..more);
        }
        Self(bytes)
    }

    /// `length` bytes of the stream from `position` on; at most [`CHUNK`].
    pub(super) fn at(&self, position: u64, length: usize) -> &[u8] {
        let start = (position % PERIOD as u64) as usize;
        &self.0[start..][..length.min(CHUNK)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_a_piece_of_one_endless_stream() {
        let pattern = Pattern::new();
        let period = PERIOD as u64;
        for position in [0, 1, period - 1, period, period + 1, 7 * period - 3] {
            let chunk = pattern.at(position, CHUNK);
            assert_eq!(chunk.len(), CHUNK);
            for offset in [0, 1, 2, 3, 1_000, CHUNK - 1] {
                assert_eq!(chunk[offset], pattern.at(position + offset as u64, 1)[0]);
            }
        }
        assert_eq!(pattern.at(5, usize::MAX).len(), CHUNK);
    }

    #[test]
    fn neighbouring_messages_differ() {
        let pattern = Pattern::new();
        for size in [8_u64, 64, 128, 1_024, 4_096] {
            for index in 0..1_000 {
                let (this, next) = (index * size, (index + 1) * size);
                assert_ne!(pattern.at(this, size as usize), pattern.at(next, size as usize));
            }
        }
    }
}
