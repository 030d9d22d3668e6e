//! What a simulated disk has, and whether its next operation is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use roadstead_proto::disk::Name;

use super::{content::Content, faults::DiskFaults, names::Names};
use crate::dice::Dice;

/// How often something reaches the disk before it is synced.
const WRITE_BACK_ONE_IN: usize = 8;

/// What a simulated disk has.
pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) faults: DiskFaults,
    pub(super) operations: u64,
    /// The last operation that is begun.
    pub(super) last: u64,
    /// Processes of before are dead.
    pub(super) generation: u64,
    pub(super) contents: BTreeMap<u64, Content>,
    pub(super) names: Names,
    pub(super) dirs: BTreeSet<String>,
    pub(super) locks: BTreeSet<Name>,
    numbers: u64,
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// It is an error: done all the same, or in part.
    FailsDone,
    /// It is an error, and nothing is done.
    Fails,
}

impl State {
    pub(super) fn new(dice: Dice, faults: DiskFaults) -> Self {
        Self {
            dice,
            faults,
            operations: 0,
            last: u64::MAX,
            generation: 0,
            contents: BTreeMap::new(),
            names: Names::default(),
            dirs: BTreeSet::new(),
            locks: BTreeSet::new(),
            numbers: 0,
        }
    }

    /// A process of `generation` begins an operation that fails so often.
    pub(super) fn begin(&mut self, generation: u64, fails: f64) -> io::Result<Fate> {
        if generation != self.generation {
            return Err(io::Error::other("the process that asks was killed"));
        }
        if self.operations >= self.last {
            return Err(ended());
        }
        self.operations += 1;
        Ok(match (self.operations == self.last || self.dice.chance(fails), self.dice.below(2)) {
            (false, _) => Fate::Done,
            (true, 0) => Fate::Fails,
            (true, _) => Fate::FailsDone,
        })
    }

    /// What an operation answers that is done like this.
    pub(super) fn end(&self, fate: Fate) -> io::Result<()> {
        match fate {
            Fate::Done => Ok(()),
            _ if self.operations >= self.last => Err(ended()),
            _ => Err(io::Error::other("the simulated disk fails here")),
        }
    }

    /// How much is read or written at once of what was asked for.
    pub(super) fn part(&mut self, count: usize) -> usize {
        if count > 1 && self.dice.chance(self.faults.short) { 1 + self.dice.below(count - 1) } else { count }
    }

    /// An error, if the call is interrupted.
    pub(super) fn interrupt(&mut self) -> io::Result<()> {
        match self.dice.chance(self.faults.interrupted) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// How many bytes more there is room for.
    pub(super) fn room(&self) -> u64 {
        let sizes = self.names.iter().filter_map(|(_, file)| self.contents.get(&file));
        let used: u64 = sizes.map(|content| content.bytes().len() as u64).sum();
        self.faults.room.saturating_sub(used)
    }

    /// The content of a file that is about to change. What was written before may reach the disk just then.
    pub(super) fn change(&mut self, file: u64) -> Option<&mut Content> {
        let content = self.contents.get_mut(&file)?;
        if self.dice.below(WRITE_BACK_ONE_IN) == 0 {
            content.write_back(&mut self.dice);
        }
        Some(content)
    }

    pub(super) fn find(&self, name: &Name) -> Option<&Content> {
        self.contents.get(&self.names.get(name)?)
    }

    /// The number of the next file.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// An error, unless there is this directory.
    pub(super) fn expect_dir(&self, dir: Option<&Name>) -> io::Result<()> {
        match dir {
            Some(dir) if !self.dirs.contains(dir.as_str()) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn kill(&mut self) {
        self.generation += 1;
        self.last = u64::MAX;
        self.locks.clear();
    }

    pub(super) fn lose_power(&mut self) {
        self.names.lose_power(&mut self.dice);
        let named: BTreeSet<u64> = self.names.iter().map(|(_, file)| file).collect();
        self.contents.retain(|file, _| named.contains(file));
        self.contents.values_mut().for_each(|content| content.lose_power(&mut self.dice));
    }
}

fn ended() -> io::Error {
    io::Error::other("the simulated machine has ended here")
}
