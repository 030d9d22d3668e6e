//! What several test files need: seeded randomness and a test of uniformity.

#![allow(dead_code, unreachable_pub)]

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// Fails when counts are unlikely to be of a uniform choice among as many values.
///
/// For k degrees of freedom the statistic has mean k and deviation sqrt(2k); the Laurent-Massart bound says that it
/// exceeds `k + 2*sqrt(k*x) + 2*x` with probability below exp(-x). With x = 14 that is below 10^-6.
pub fn chi_square(counts: &[u64]) {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    assert!(expected >= 5.0, "too few samples for the test to mean anything");
    let statistic: f64 = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    let (freedom, x) = ((counts.len() - 1) as f64, 14.0f64);
    let bound = freedom + 2.0 * (freedom * x).sqrt() + 2.0 * x;
    assert!(statistic < bound, "chi-square {statistic} above {bound} for {freedom} degrees of freedom");
}

/// Fails when bytes are unlikely to be uniform.
pub fn chi_square_bytes(bytes: &[u8]) {
    let mut counts = [0; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    chi_square(&counts);
}
