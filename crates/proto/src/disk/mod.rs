//! What a service keeps its files on: a [`Disk`], which the system has (`os`) and the simulator plays (`sim`).
//!
//! **Every call may wait**, so no session makes one: a job does, and its reply comes to the session. Where the loop runs
//! its jobs itself, all its connections wait with it: a server with a disk has a worker (`Server::workers`).
//!
//! ```
//! # use roadstead_proto as roadstead;
//! # use roadstead::{Context, Done, Input, JobId, Lost, Session, disk::{Disk, Name, Opening}};
//! # use std::{io, sync::Arc};
//! struct Sizes { disk: Arc<dyn Disk> }
//!
//! impl Session for Sizes {
//!     type Reply = io::Result<u64>;
//!     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
//!         let name = Name::new(String::from_utf8_lossy(input.bytes()));
//!         input.consume(usize::MAX);
//!         let (disk, name) = (Arc::clone(&self.disk), name.map_err(|error| roadstead::Close::violation(error.to_string()))?);
//!         let asked = cx.run(1, move || disk.open(&name, Opening::Read)?.size());
//!         asked.map(drop).map_err(|busy| roadstead::Close::violation(busy.to_string()))
//!     }
//!     fn reply(&mut self, _: JobId, size: Result<io::Result<u64>, Lost>, cx: &mut Context<'_, Self>) -> Done {
//!         cx.output().write(format!("{size:?}\n").as_bytes());
//!         Ok(())
//!     }
//! }
//! ```
//!
//! **What is durable** is what survives the loss of power, and it is what was synced, no more:
//!
//! | to have durable | sync | until then, after a loss of power |
//! |---|---|---|
//! | the bytes of a file, and how many | the file | each sector of 512 bytes is the old or the new one, and the length any between; what was never synced may be anything |
//! | that a name was made, renamed or removed | its directory | any of these may have happened or not, in any order; one rename happens whole or not at all |
//!
//! A file that is synced is not found unless its directory was synced too. To replace a file: write a new one beside it,
//! sync that, rename it, sync the directory; the name is that of the old or of the new one at every moment.
//!
//! **A failed sync is final.** The system may forget that there was something to write, and the next sync would succeed
//! without having written it. So the file answers nothing but errors from then on. Opened anew, it may read well from
//! memory and be something else after a loss of power: whoever relies on it writes again what is in doubt, as the
//! [journal](crate::journal) does.
//!
//! **Names** are relative to the disk's root, and [`Name`] is checked when it is made. A disk does not leave its root
//! either way, also where a directory below it is a symbolic link.
#![forbid(unsafe_code)]

mod name;

use std::{any::Any, fmt, io, ops::ControlFlow, sync::Arc};

use crate::blob::Blob;

pub use name::{Name, NameError};

/// A directory of files, and what can be asked of it. See the [module](self) for what is durable when.
///
/// Errors are the system's: `NotFound`, `PermissionDenied`, `StorageFull`, whatever it says.
#[allow(clippy::missing_errors_doc, reason = "the same for all of them, and said above")]
pub trait Disk: Send + Sync + 'static {
    /// Opens a regular file. What else has that name (a directory, a pipe, a device) is an error.
    fn open(&self, name: &Name, opening: Opening) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, and replaces who has it.
    fn rename(&self, from: &Name, to: &Name) -> io::Result<()>;

    /// Removes a file. Who has it open can still use it.
    fn remove(&self, name: &Name) -> io::Result<()>;

    /// Makes durable which names a directory has; `None` is the root. [`Name::parent`] is the directory of a name.
    fn sync_dir(&self, dir: Option<&Name>) -> io::Result<()>;

    /// Tells what a directory has, in no order, until it is told to stop; `None` is the root.
    fn list(&self, dir: Option<&Name>, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> io::Result<()>;

    /// Locks `name`, which is made if it is not there, for as long as the answer is kept. The lock is exclusive, also
    /// within this process, and ends with the process, however that ends. It says nothing to those who do not ask for
    /// it.
    ///
    /// # Errors
    /// `WouldBlock` if another has it: nobody waits for a lock.
    fn lock(&self, name: &Name) -> io::Result<Lock>;
}

/// A file of a [`Disk`]. As a [`Blob`] it can be sent from where it lies.
#[allow(clippy::missing_errors_doc, reason = "the same for all of them, and said at `Disk`")]
pub trait DiskFile: Blob {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Writes at `offset`. Answers how many bytes were taken, which may be fewer than there are.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes behind the last byte, wherever that is. Answers how many bytes were taken.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts it off there, or fills it up with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes durable what is written. If it fails, every other call does from then on.
    fn sync(&self) -> io::Result<()>;
}

impl dyn DiskFile {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The disk's; some of the bytes may be written then.
    pub fn write_all_at(&self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        whole(bytes, |rest| {
            let count = self.write_at(rest, offset)?;
            offset += count as u64;
            Ok(count)
        })
    }

    /// Writes all of `bytes` behind the last byte.
    ///
    /// # Errors
    /// The disk's; some of the bytes may be written then.
    pub fn append_all(&self, bytes: &[u8]) -> io::Result<()> {
        whole(bytes, |rest| self.append(rest))
    }
}

/// Has `write` take all of `bytes`, part by part.
fn whole(bytes: &[u8], mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How a file is opened. A new one belongs to its owner alone (mode 0600).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// One that is there, to be read.
    Read,
    /// One that is there, to be read and written.
    Write,
    /// One that is not there yet, to be read and written.
    New,
}

/// What a directory has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it can be opened as; `None` if its name cannot be a [`Name`], because it is no text.
    pub name: Option<Name>,
    /// What it is.
    pub kind: Kind,
}

/// What a name stands for. A symbolic link is [`Kind::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Something else.
    Other,
}

/// A lock that is held until this is dropped.
#[must_use]
pub struct Lock(#[allow(dead_code, reason = "it is kept to be dropped")] Box<dyn Any + Send + Sync>);

impl Lock {
    /// One that ends when `held` is dropped.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// What a file that could not be synced answers from then on.
pub fn unsynced() -> io::Error {
    io::Error::other("a sync of this file has failed, so nobody knows what it has: open it anew")
}
