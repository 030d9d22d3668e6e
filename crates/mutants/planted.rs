//! Which planted fault this process has: the one that `ROADSTEAD_PLANT` names, or none.
//!
//! This file becomes the crate `planted` in a planted copy of the tree, and is part of nothing else.
#![forbid(unsafe_code)]

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Where the environment names the fault. Children inherit it, and so have the same.
pub const CHOICE: &str = "ROADSTEAD_PLANT";

/// Nobody has looked yet.
const UNKNOWN: u64 = 0;
static CHOSEN: AtomicU64 = AtomicU64::new(UNKNOWN);

/// The number of a name, never that of [`UNKNOWN`]. FNV-1a.
pub const fn id(name: &str) -> u64 {
    let (bytes, mut at, mut hash) = (name.as_bytes(), 0, 0xcbf2_9ce4_8422_2325_u64);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash | 1
}

/// Whether the fault of this number was chosen. The environment is read once.
#[inline]
pub fn is(id: u64) -> bool {
    let chosen = CHOSEN.load(Relaxed);
    id == if chosen == UNKNOWN { look() } else { chosen }
}

#[cold]
fn look() -> u64 {
    let chosen = id(&env::var(CHOICE).unwrap_or_default());
    CHOSEN.store(chosen, Relaxed);
    chosen
}

/// Whether the fault of this name was chosen.
#[macro_export]
macro_rules! is {
    ($name:literal) => {
        $crate::is(const { $crate::id($name) })
    };
}
