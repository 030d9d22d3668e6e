//! The append-only log on simulated disks: what was acknowledged is there, and what was torn is not read.
//!
//! `ROADSTEAD_SIM_SEEDS=n` runs `n` seeds of every test that has some, `ROADSTEAD_SIM_SEED=s` just that one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damaged;
mod killed;
mod limits;
mod model;
mod sessions;
mod shared;

use std::sync::Arc;

use roadstead_proto::{
    disk::{Disk, Name},
    journal::{Journal, JournalError, Limits, Replayed},
};
use roadstead_sim::{DiskFaults, SimulatedDisk};

const SALT: u64 = 0x5a17;

/// Where the log of these tests is.
fn log() -> Name {
    Name::new("log").unwrap()
}

/// A disk that does all it is asked.
fn kind_disk(seed: u64) -> SimulatedDisk {
    let machine = SimulatedDisk::new(seed);
    machine.set_faults(DiskFaults::none());
    machine
}

/// Opens it, and answers what was in it.
fn open(disk: Arc<dyn Disk>, limits: Limits) -> Result<(Journal, Replayed, Vec<Vec<u8>>), JournalError> {
    let mut records = Vec::new();
    let take = |record: &[u8]| {
        records.push(record.to_vec());
        Ok(())
    };
    let (journal, replayed) = Journal::open(disk, log(), limits, SALT, take)?;
    assert_eq!(replayed.records, records.len() as u64);
    Ok((journal, replayed, records))
}

/// A generator of a test's own.
struct Chance(u64);

impl Chance {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    /// A record that is like no other.
    fn record(&mut self) -> Vec<u8> {
        let length = [0, 8, 40, 300, 520, 3_000][self.below(6) as usize];
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}
