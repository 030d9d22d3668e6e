//! A cluster in the simulator: what is gathered is right or its senders are named, and nothing is left behind.
//!
//! `ROADSTEAD_SIM_SEEDS=n` runs `n` seeds of every test, `ROADSTEAD_SIM_SEED=s` just that one.

#![allow(clippy::unwrap_used, reason = "sessions of a test may fail it")]

mod cluster;
mod exchange;

use std::time::Duration;

/// Virtual time that no run of these tests needs.
const LIMIT: Duration = Duration::from_secs(900);

/// A number that seems random but follows from `salt` and `index`.
fn noise(salt: u64, index: u64) -> u64 {
    let mut mixed = (salt ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x1656_67b1_9e37_79f9);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}
