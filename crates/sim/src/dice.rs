//! What a seed decides: every choice of a run comes out of one of these.

use std::{io, time::Duration};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use roadstead_proto::host;

/// A generator that gives the same choices for the same seed on every machine.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// An independent generator.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// What a node's sessions draw their randomness from; each draw fails with this probability.
    pub(crate) fn random(&mut self, fails: f64) -> impl FnMut(&mut [u8]) -> io::Result<()> + Send + use<> {
        let seed = self.0.next_u64();
        let (mut random, mut fate) = (host::seeded(seed), Self::new(seed));
        move |bytes| {
            if fate.chance(fails) { Err(io::Error::other("the pool is empty")) } else { random(bytes) }
        }
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // Nothing is drawn for what never happens, so that a run without faults costs nothing for them.
        probability > 0.0 && ((self.0.next_u64() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A number below `end`, which is not zero. The bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }

    /// A number from `low` to `high`, each power of two as likely as the next: small cases are the cruel ones.
    pub(super) fn scale(&mut self, low: u64, high: u64) -> u64 {
        let bits = |number: u64| u64::BITS - number.leading_zeros();
        let (least, most) = (bits(low), bits(high.max(low)));
        let drawn = least + self.below((most - least + 1) as usize) as u32;
        let top = 1u64.checked_shl(drawn.wrapping_sub(1)).unwrap_or(0);
        (top | self.0.next_u64() & top.saturating_sub(1)).clamp(low, high.max(low))
    }

    /// A time between the two, by [`Dice::scale`].
    pub(crate) fn time(&mut self, (low, high): (Duration, Duration)) -> Duration {
        Duration::from_nanos(self.scale(low.as_nanos() as u64, high.as_nanos() as u64))
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
