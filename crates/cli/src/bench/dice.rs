//! What a measurement leaves to chance, drawn from a seed, so that it can be had again.

use blake3::OutputReader;

pub(super) struct Dice(OutputReader);

impl Dice {
    /// The dice of one of the parts of a measurement, of which none follows from another.
    pub(super) fn new(what: &str, seed: u64, part: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(what.as_bytes()).update(&seed.to_le_bytes()).update(&part.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// From 0, and below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0, and below `end`, which is far below what a number can be, so that none is likelier than another.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
