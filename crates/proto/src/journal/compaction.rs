//! A new file for a journal: written beside the one that is there, and put in its place when it is whole.
#![forbid(unsafe_code)]

use std::{io, sync::Arc};

use super::{
    error::JournalError,
    record::{self, HEAD, Limits, START},
};
use crate::disk::{Disk, DiskFile, Name, Opening};

/// How much is written at once.
const PIECE: usize = 64 << 10;

/// The new file of a journal that is compacted: see [`Journal::compact`](super::Journal::compact).
pub struct Compaction {
    disk: Arc<dyn Disk>,
    name: Name,
    beside: Name,
    file: Arc<dyn DiskFile>,
    limits: Limits,
    salt: u64,
    /// Where the next record begins.
    end: u64,
    /// What is not written yet.
    piece: Vec<u8>,
    /// Why it will never be whole.
    failed: Option<JournalError>,
}

impl Compaction {
    /// An empty journal beside `name`, in place of any that was left there.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
        name: &Name,
        limits: Limits,
        salt: u64,
    ) -> Result<Self, JournalError> {
        let beside = name.beside(".new")?;
        let made = remove(&**disk, &beside).and_then(|()| disk.open(&beside, Opening::New));
        let file = made.map_err(failed(name, "making a new log"))?;
        let (disk, name, piece) = (Arc::clone(disk), name.clone(), record::start(salt).into());
        Ok(Self { disk, name, beside, file, limits, salt, end: START, piece, failed: None })
    }

    /// Keeps a record, behind those before it.
    ///
    /// # Errors
    /// [`TooLarge`](JournalError::TooLarge) or [`Full`](JournalError::Full), and the record is left out; or the disk's
    /// error, after which it takes nothing more.
    pub fn append(&mut self, record: &[u8]) -> Result<(), JournalError> {
        self.limits.admit(record.len())?;
        let size = self.end + (HEAD + record.len()) as u64;
        if size > self.limits.file {
            return Err(JournalError::Full { size, limit: self.limits.file });
        }
        // All that is before a record is durable when the file takes its place: each is a batch of its own.
        self.piece.extend_from_slice(&record::Head::new(record, 0).bytes(self.end, self.salt));
        self.piece.extend_from_slice(record);
        self.end = size;
        if self.piece.len() >= PIECE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), JournalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let written = self.file.append_all(&self.piece);
        self.piece.clear();
        written.map_err(|error| self.failed.insert(failed(&self.name, "writing a new log")(error)).clone())
    }

    /// Has all of it written and durable, under its own name.
    pub(crate) fn finish(&mut self) -> Result<(), JournalError> {
        self.write()?;
        self.file.sync().map_err(failed(&self.name, "syncing a new log"))
    }

    /// Takes the place of the file that is there. Answers the new one, and where its next record begins. Whether a crash
    /// brings back the old one is open until the directory is synced.
    pub(crate) fn replace(self) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        self.disk.rename(&self.beside, &self.name)?;
        Ok((self.file, self.end))
    }

    /// Takes away what is not to be.
    pub(crate) fn abandon(disk: &dyn Disk, name: &Name) {
        // Where that fails, the next to begin or to open tries again.
        let _ = name.beside(".new").map(|beside| remove(disk, &beside));
    }
}

/// Removes a file if it is there.
pub(crate) fn remove(disk: &dyn Disk, name: &Name) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The disk failed at `what`, and nothing has changed.
pub(crate) fn failed(name: &Name, what: &'static str) -> impl Fn(io::Error) -> JournalError {
    move |error| JournalError::Disk { name: name.clone(), what, error: Arc::new(error) }
}
