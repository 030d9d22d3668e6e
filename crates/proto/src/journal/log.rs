//! A journal that is open.
#![forbid(unsafe_code)]

use std::{fmt, io, sync::Arc};

use super::{
    compaction::{Compaction, failed, remove},
    error::JournalError,
    record::{self, BATCH, HEAD, Limits, START, Unlike},
    replay::{self, Broken, Ending},
    window::Window,
};
use crate::{
    blob,
    disk::{Disk, DiskFile, Lock, Name, Opening},
};

/// What is copied at once.
const BLOCK: usize = 64 << 10;

/// An append-only log that is open. Its [module](super) says what it promises.
///
/// ```
/// # use roadstead_proto as roadstead;
/// use std::sync::Arc;
/// use roadstead::{disk::{Disk, Name}, journal::{Journal, JournalError, Limits}};
///
/// fn note(disk: Arc<dyn Disk>, salt: u64) -> Result<(), JournalError> {
///     let mut berths = Vec::new();
///     let take = |record: &[u8]| { berths.push(record.to_vec()); Ok(()) };
///     let (mut journal, replayed) = Journal::open(disk, Name::new("berths.log")?, Limits::default(), salt, take)?;
///     println!("{} records, {} bytes cut off", replayed.records, replayed.cut);
///
///     journal.append(&[&b"the Reede took berth 4"[..], b"the Oever left"])?;     // Both are durable now.
///     journal.compact(|kept| berths.iter().try_for_each(|record| kept.append(record)))
/// }
/// ```
pub struct Journal {
    disk: Arc<dyn Disk>,
    name: Name,
    limits: Limits,
    salt: u64,
    file: Arc<dyn DiskFile>,
    /// Where the next record begins.
    end: u64,
    /// Why nothing is taken any more.
    failed: Option<JournalError>,
    _lock: Lock,
}

/// What a journal had when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// How many records.
    pub records: u64,
    /// How many bytes were cut off behind them: what a crash had torn.
    pub cut: u64,
}

impl Journal {
    /// Opens the log of that name, or makes one, whose salt is to be random, and gives each of its records to `each`,
    /// from the first. An error that `each` answers ends that, and is for a record that it does not understand.
    ///
    /// # Errors
    /// [`Locked`](JournalError::Locked), [`Damaged`](JournalError::Damaged), [`Foreign`](JournalError::Foreign), or what
    /// else is wrong.
    pub fn open(
        disk: Arc<dyn Disk>,
        name: Name,
        limits: Limits,
        salt: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(Self, Replayed), JournalError> {
        let lock = disk.lock(&name.beside(".lock")?).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => JournalError::Locked { name: name.clone() },
            _ => failed(&name, "locking it")(error),
        })?;
        remove(&*disk, &name.beside(".new")?).map_err(failed(&name, "removing a new log"))?;
        let file = match disk.open(&name, Opening::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut empty = Compaction::begin(&disk, &name, limits, salt)?;
                empty.finish()?;
                empty.replace().map_err(failed(&name, "naming a new log"))?.0
            }
            opened => opened.map_err(failed(&name, "opening it"))?,
        };
        let (salt, ending, size) = read(&*file, &name, limits, &mut each)?;
        let cut = size - ending.end;
        if cut > 0 {
            tracing::warn!("{name}: {cut} bytes at the end were torn by a crash, and are cut off");
        }
        settle(&*file, ending, cut).map_err(failed(&name, "writing its end again"))?;
        disk.sync_dir(name.parent().as_ref()).map_err(failed(&name, "syncing its directory"))?;
        let journal = Self { disk, name, limits, salt, file, end: ending.end, failed: None, _lock: lock };
        Ok((journal, Replayed { records: ending.records, cut }))
    }

    /// Appends records, all in one piece. They are durable when this returns; if it is an error, none is there, but for
    /// [`Failed`](JournalError::Failed), after which nobody knows.
    ///
    /// # Errors
    /// [`TooLarge`](JournalError::TooLarge), [`TooMany`](JournalError::TooMany) or [`Full`](JournalError::Full), with
    /// nothing done; [`Disk`](JournalError::Disk) or [`Failed`](JournalError::Failed).
    pub fn append(&mut self, records: &[impl AsRef<[u8]>]) -> Result<(), JournalError> {
        let mut batch = Vec::with_capacity(self.admit(records)?);
        for record in records {
            record::encode(&mut batch, record.as_ref(), self.end, self.salt);
        }
        if let Err(error) = self.file.append_all(&batch) {
            return Err(self.cut_back(error));
        }
        self.file.sync().map_err(|error| self.fail("a sync", error))?;
        self.end += batch.len() as u64;
        Ok(())
    }

    /// How many bytes they will take, if they may.
    fn admit(&self, records: &[impl AsRef<[u8]>]) -> Result<usize, JournalError> {
        self.usable()?;
        records.iter().try_for_each(|record| self.limits.admit(record.as_ref().len()))?;
        let length = records.iter().map(|record| HEAD + record.as_ref().len()).sum();
        if length > BATCH {
            return Err(JournalError::TooMany { length });
        }
        let (size, limit) = (self.end + length as u64, self.limits.file);
        if size > limit { Err(JournalError::Full { size, limit }) } else { Ok(length) }
    }

    /// A write has failed: what there is of it is taken away, also from the disk, so that it is not found one day.
    fn cut_back(&mut self, error: io::Error) -> JournalError {
        match self.file.set_size(self.end).and_then(|()| self.file.sync()) {
            Ok(()) => failed(&self.name, "writing")(error),
            Err(error) => self.fail("taking back what was not written whole", error),
        }
    }

    /// Replaces all records by those that `keep` appends. After an error, also one of `keep`, the log is as it was, but
    /// for [`Failed`](JournalError::Failed).
    ///
    /// # Errors
    /// The first that `keep` answers, [`Disk`](JournalError::Disk) or [`Failed`](JournalError::Failed).
    pub fn compact(
        &mut self,
        keep: impl FnOnce(&mut Compaction) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        self.usable()?;
        let begun = Compaction::begin(&self.disk, &self.name, self.limits, self.salt);
        let finished = begun.and_then(|mut compaction| {
            keep(&mut compaction)?;
            compaction.finish()?;
            Ok(compaction)
        });
        let compaction = finished.inspect_err(|_| Compaction::abandon(&*self.disk, &self.name))?;
        // From here on a crash may bring back the old one, without what is appended to the new.
        let replaced = compaction.replace().map_err(|error| self.fail("naming a new log", error))?;
        (self.file, self.end) = replaced;
        let synced = self.disk.sync_dir(self.name.parent().as_ref());
        synced.map_err(|error| self.fail("syncing its directory", error))
    }

    /// Its length in bytes, which its [`Limits`] bound.
    pub fn size(&self) -> u64 {
        self.end
    }

    fn usable(&self) -> Result<(), JournalError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// From now on nothing is taken: nobody knows what is durable.
    fn fail(&mut self, what: &'static str, error: io::Error) -> JournalError {
        let error = JournalError::Failed { name: self.name.clone(), what, error: Arc::new(error) };
        tracing::error!("{error}");
        self.failed.insert(error).clone()
    }
}

/// Reads a journal: its salt, where it ends, and how long the file is.
fn read(
    file: &dyn DiskFile,
    name: &Name,
    limits: Limits,
    each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(u64, Ending, u64), JournalError> {
    let disk = failed(name, "reading it");
    let foreign = |why| JournalError::Foreign { name: name.clone(), why };
    let mut window = Window::new(file).map_err(&disk)?;
    let head = window.get(0, START as usize).map_err(&disk)?.and_then(|head| head.try_into().ok());
    let salt = head.map_or(Err(Unlike::Foreign), record::salt).map_err(|unlike| match unlike {
        Unlike::Foreign => foreign("it does not begin like one".to_owned()),
        Unlike::Version(version) => foreign(format!("it is of version {version}, and this is 1")),
        Unlike::Damaged => JournalError::Damaged { name: name.clone(), at: 0 },
    })?;
    let ending = replay::replay(&mut window, salt, limits, each).map_err(|broken| match broken {
        Broken::Damaged(at) => JournalError::Damaged { name: name.clone(), at },
        Broken::TooLarge(length) => JournalError::TooLarge { length, limit: limits.record },
        Broken::Refused(at, why) => JournalError::Refused { name: name.clone(), at, why },
        Broken::Disk(error) => disk(error),
    })?;
    Ok((salt, ending, window.size()))
}

/// Cuts off what is torn, and makes durable what was read: the last batch may have been written by somebody whose sync
/// failed, and then be in memory only, where no sync would find anything to do.
fn settle(file: &dyn DiskFile, ending: Ending, cut: u64) -> io::Result<()> {
    if cut > 0 {
        file.set_size(ending.end)?;
    }
    let mut block = vec![0; BLOCK.min((ending.end - ending.batch) as usize)];
    let mut at = ending.batch;
    while at < ending.end {
        let most = block.len().min((ending.end - at) as usize);
        let count = match file.read_at(&mut block[..most], at) {
            Ok(0) => return Err(blob::shorter_than_promised()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        file.write_all_at(&block[..count], at)?;
        at += count as u64;
    }
    file.sync()
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, limits, end, failed, .. } = self;
        f.debug_struct("Journal")
            .field("name", name)
            .field("limits", limits)
            .field("end", end)
            .field("failed", failed)
            .finish_non_exhaustive()
    }
}
