//! Which seeds a test runs.

use std::env;

/// The environment variable that names the one seed to run.
pub const SEED: &str = "ROADSTEAD_SIM_SEED";
/// The environment variable that says how many seeds to run.
pub const SEEDS: &str = "ROADSTEAD_SIM_SEEDS";

/// The seeds to run: the one in the environment variable [`SEED`], else the first so many, where [`SEEDS`] overrides
/// `count`.
///
/// # Panics
/// If one of the variables is set to something that is no number.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| {
        env::var(name).ok().map(|text| match text.parse::<u64>() {
            Ok(number) => number,
            Err(_) => panic!("{name} must be a number, and not {text:?}"),
        })
    };
    match number(SEED) {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number(SEEDS).unwrap_or(count),
    }
}
