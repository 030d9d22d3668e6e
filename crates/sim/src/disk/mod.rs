//! A disk that one seed decides about: what it takes, what it refuses, and what is left when the power fails.
//!
//! It keeps two of everything: what a process reads, and what is durable. A sync carries one over to the other. When the
//! power fails, each sector of 512 bytes that was written since is the new one or the old one, or, where the file had not
//! been so long, zeros or anything; the length is one that it has had since; and names that were made, renamed or
//! removed since their directory was synced have been, or have not. What was written and taken back before a sync may
//! be there as well. After a sync that has failed nothing is left to be synced, whatever reached the disk.
#![forbid(unsafe_code)]

mod asked;
mod content;
mod faults;
mod file;
mod names;
mod process;
mod state;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roadstead_proto::disk::{Disk, Name};

use crate::dice::Dice;
use content::Content;
pub use faults::DiskFaults;
use process::Process;
use state::State;

/// A machine's disk in memory.
///
/// ```
/// # mod roadstead { pub use roadstead_proto::*; pub use roadstead_sim as sim; }
/// use roadstead::{disk::{Disk, Name}, journal::{Journal, Limits}, sim::{DiskFaults, SimulatedDisk}};
///
/// let machine = SimulatedDisk::new(4711);
/// let open = || Journal::open(machine.start(), Name::new("log").unwrap(), Limits::default(), 7, |_| Ok(()));
/// if let Ok((mut journal, _)) = open() {
///     let noted = journal.append(&[b"cargo"]);
///     machine.lose_power();
///     machine.set_faults(DiskFaults::none());
///     let (_, replayed) = open().unwrap();
///     assert!(replayed.records == 1 || noted.is_err());
/// }
/// ```
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// An empty disk that `seed` decides about, also about how unkind it is.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let faults = DiskFaults::draw(&mut dice);
        Self(Arc::new(Mutex::new(State::new(dice, faults))))
    }

    /// From now on it is as unkind as this, instead of what the seed says.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state().faults = faults;
    }

    /// The disk as a process that begins now has it, until [it is killed](Self::kill_processes).
    pub fn start(&self) -> Arc<dyn Disk> {
        Arc::new(Process::new(Arc::clone(&self.0)))
    }

    /// How often it was asked for something that may fail, so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets all processes end in the midst of this operation, counted as [`Self::operations`] does: it is done, in part
    /// or not, and nothing after it. What happens then is [`Self::kill_processes`] or [`Self::lose_power`].
    pub fn end_at(&self, operation: u64) {
        self.state().last = operation;
    }

    /// Ends all processes, as `kill -9` does. What they have written can be read, and is no more durable than it was.
    pub fn kill_processes(&self) {
        self.state().kill();
    }

    /// Ends all processes, and leaves of what was not synced whatever the seed says.
    pub fn lose_power(&self) {
        let mut state = self.state();
        state.kill();
        state.lose_power();
    }

    /// Makes a directory, durably. A disk begins with its root.
    pub fn make_dir(&self, name: &Name) {
        self.state().dirs.insert(name.as_str().to_owned());
    }

    /// What a file reads like now.
    pub fn read(&self, name: &Name) -> Option<Vec<u8>> {
        let state = self.state();
        state.find(name).map(|content| content.bytes().to_vec())
    }

    /// Replaces a file, durably, by these bytes.
    pub fn put(&self, name: &Name, bytes: &[u8]) {
        let mut state = self.state();
        let number = state.number();
        state.contents.insert(number, Content::durable(bytes));
        state.names.put(name, number);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimulatedDisk")
            .field("faults", &state.faults)
            .field("operations", &state.operations)
            .finish_non_exhaustive()
    }
}
