//! A file of a simulated disk that a process has open.

use std::{
    io,
    sync::{
        MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use roadstead_proto::{
    blob::Blob,
    disk::{self, DiskFile},
};

use super::{
    process::Process,
    state::{Fate, State},
};

/// A file that a process has open.
pub(super) struct SimulatedFile {
    process: Process,
    number: u64,
    writable: bool,
    /// A sync has failed.
    failed: AtomicBool,
}

impl SimulatedFile {
    pub(super) fn new(process: Process, number: u64, writable: bool) -> Self {
        Self { process, number, writable, failed: AtomicBool::new(false) }
    }

    fn begin(&self, fails: impl Fn(&State) -> f64) -> io::Result<(MutexGuard<'_, State>, Fate)> {
        if self.failed.load(Relaxed) {
            return Err(disk::unsynced());
        }
        self.process.begin(fails)
    }

    fn begin_write(&self) -> io::Result<(MutexGuard<'_, State>, Fate)> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.begin(|state| state.faults.write)
    }

    /// Writes what there is room for, `at` of the length that it has.
    fn write(&self, bytes: &[u8], at: impl FnOnce(usize) -> u64) -> io::Result<usize> {
        let (mut state, fate) = self.begin_write()?;
        if fate == Fate::Done {
            state.interrupt()?;
        }
        let room = state.room();
        let size = state.contents.get(&self.number).map_or(0, |content| content.bytes().len());
        let offset = at(size);
        let most = (size as u64).max(offset).saturating_add(room).saturating_sub(offset);
        let mut count = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        count = match fate {
            Fate::Done => state.part(count),
            Fate::FailsDone => state.dice.below(count + 1),
            Fate::Fails => 0,
        };
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if count > 0
            && let Some(content) = state.change(self.number)
        {
            content.write(&bytes[..count], offset);
        }
        state.end(fate)?;
        Ok(count)
    }
}

impl Blob for SimulatedFile {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, fate) = self.begin(|state| state.faults.read)?;
        state.end(fate)?;
        state.interrupt()?;
        let most = state.part(part.len());
        let Some(content) = state.contents.get(&self.number) else { return Ok(0) };
        let rest = usize::try_from(offset).ok().and_then(|offset| content.bytes().get(offset..));
        let rest = rest.unwrap_or_default();
        let count = most.min(rest.len());
        part[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        let (state, fate) = self.begin(|state| state.faults.read)?;
        state.end(fate)?;
        Ok(state.contents.get(&self.number).map_or(0, |content| content.bytes().len() as u64))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write(bytes, |_| offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes, |size| size as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let (mut state, fate) = self.begin_write()?;
        let room = state.room();
        if fate != Fate::Fails
            && let Some(content) = state.change(self.number)
        {
            let size = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
            if size.saturating_sub(content.bytes().len()) as u64 > room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content.set_size(size);
        }
        state.end(fate)
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, fate) = self.begin(|state| state.faults.sync)?;
        let State { contents, dice, .. } = &mut *state;
        if let Some(content) = contents.get_mut(&self.number) {
            match fate {
                Fate::Done => content.sync(),
                _ => content.fail_sync(dice),
            }
        }
        state.end(fate).inspect_err(|_| self.failed.store(true, Relaxed))
    }
}
