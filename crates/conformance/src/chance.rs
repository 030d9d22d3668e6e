//! Chance that follows from a seed, so that it can be had again: numbers, and bytes cut anywhere.

use std::{mem, time::Duration};

/// Numbers that nobody would guess. G. Marsaglia, "Xorshift RNGs", 2003.
pub struct Chance(u64);

/// What is sent, piece by piece, with a rest before each.
pub type Pieces = Vec<(Duration, Vec<u8>)>;

impl Chance {
    /// Those of a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0, and below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// One of `all`.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Cuts `bytes` into pieces, each no longer than one of `lengths`. A rest is shorter than twice `rest`
    /// microseconds.
    pub fn cut(&mut self, mut bytes: Vec<u8>, lengths: &[u64], rest: u64) -> Pieces {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let most = self.one_of(lengths);
            let left = bytes.split_off(bytes.len().min(1 + self.below(most) as usize));
            let rest = Duration::from_micros(self.below(3) * self.below(rest));
            pieces.push((rest, mem::replace(&mut bytes, left)));
        }
        pieces
    }
}
