//! What the conformance tests are made of: a server as a child program in any setting, and the clients it meets. Stands
//! on `roadstead` and `roadstead-keys`.
//!
//! The scenarios are in `tests/conformance/`, the program under test in `src/bin/conformance/`. All that is known of a
//! server is what its clients see, what it writes, and what the system tells of its processes: so one scenario holds
//! for every model, also for those that fork.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod asks;
pub mod chance;
pub mod child;
pub mod client;
pub mod far;
pub mod foreign;
pub mod interrupt;
pub mod setting;
pub mod udp;
pub mod wire;

/// Longer than anything takes that happens at all.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(25);
