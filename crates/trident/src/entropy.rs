//! Where the generators of this crate have their seeds from.

use std::io;

use chacha20::ChaCha20Rng;
use rand::{SeedableRng, TryRng, rngs::SysRng};
use zeroize::Zeroizing;

/// Fills a seed with what nobody can guess, or says why there is none.
pub(crate) type Entropy = fn(&mut [u8; 32]) -> io::Result<()>;

/// The system's.
pub(crate) fn system(seed: &mut [u8; 32]) -> io::Result<()> {
    SysRng.try_fill_bytes(seed).map_err(io::Error::other)
}

/// A generator for one purpose. Seeded anew for each: a copy of this memory that is resumed draws something else.
///
/// # Errors
/// When there is no seed: then there is no generator either.
pub(crate) fn generator(entropy: Entropy) -> io::Result<ChaCha20Rng> {
    let mut seed = Zeroizing::new([0; 32]);
    entropy(&mut seed)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::Rng;

    use super::*;

    /// A system without randomness, which leaves half of a seed behind.
    pub(crate) fn none(seed: &mut [u8; 32]) -> io::Result<()> {
        seed[..16].fill(7);
        Err(io::Error::other("the pool is empty"))
    }

    /// A seed that is zero but for one byte.
    fn with<const AT: usize>(seed: &mut [u8; 32]) -> io::Result<()> {
        seed[AT] = 1;
        Ok(())
    }

    #[test]
    fn without_a_seed_there_is_no_generator() {
        assert_eq!(generator(none).err().map(|error| error.to_string()), Some("the pool is empty".into()));
    }

    #[test]
    fn every_bit_of_a_seed_is_used_and_no_two_of_the_system_are_alike() {
        let first = |entropy| generator(entropy).map(|mut generator| generator.next_u64()).ok();
        let mut seen = std::collections::HashSet::from([first(|_| Ok(()))]);
        let changed: [Entropy; 4] = [with::<0>, with::<15>, with::<16>, with::<31>];
        for entropy in changed.into_iter().chain([system as Entropy; 100]) {
            assert!(seen.insert(first(entropy)));
        }
    }
}
