//! One function, [`on_system`]: a [`Host`] whose wall clock and randomness are the system's.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::Arc,
    time::{Instant, SystemTime},
};

use rand::{TryRng, rngs::SysRng};

use roadstead_proto::{
    host::{Host, Shared},
    queue::Jobs,
};

/// What a loop on this system lends to its connections: the system's clock and randomness.
pub fn on_system(shared: Arc<Shared>, jobs: Jobs) -> Host {
    // Asked each time instead of once for the seed of a generator: a generator is part of the memory that a fork, or
    // a snapshot of a virtual machine that is resumed twice, copies, and each copy would draw the same nonces.
    shared.tasks.time_by(|| {
        let epoch = Instant::now();
        move || epoch.elapsed()
    });
    let random = |bytes: &mut [u8]| SysRng.try_fill_bytes(bytes).map_err(io::Error::other);
    Host::new(shared, random, SystemTime::now, jobs)
}
