//! A directory of the system's as a disk.
#![forbid(unsafe_code)]

mod beneath;
#[cfg(test)]
mod tests;

use std::{
    ffi::CStr,
    io,
    ops::ControlFlow,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use roadstead_proto::disk::{Disk, DiskFile, Entry, Kind, Lock, Name, Opening};
use rustix::{
    fs::{self, AtFlags, Dir, FileType, FlockOperation, OFlags},
    io::{Errno, retry_on_intr},
};

use self::beneath::Root;
use crate::file::File;

/// A [`Disk`] that is a directory of the system's, with all that is below it and nothing else.
///
/// Names are resolved by openat2(2) with `RESOLVE_BENEATH`, so a symbolic link that leads out is an error, also one that
/// is put there meanwhile; one that stays below is followed. On systems without that call (Linux before 5.6, or one
/// that is not allowed here) each directory of a name is opened by itself and no link is followed. What is to be a
/// [file](Disk::open) is a regular one: nobody waits for a pipe.
///
/// A file is synced by fdatasync(2): what there is to read, its length included, but not when it was changed. Appending
/// needs Linux 4.16. A lock is flock(2)'s, which a process that forks shares with its children.
///
/// ```
/// # mod roadstead { pub use roadstead_os::disk::Directory; pub use roadstead_proto::disk; }
/// use roadstead::{Directory, disk::{Disk, Name, Opening}};
///
/// # let home = tempfile::tempdir()?;
/// # let path = home.path();
/// let disk = Directory::open(path)?;
/// let (name, beside) = (Name::new("manifest")?, Name::new("manifest.new")?);
/// let file = disk.open(&beside, Opening::New)?;
/// file.append_all(b"4 crates of rope\n")?;
/// file.sync()?;
/// disk.rename(&beside, &name)?;
/// disk.sync_dir(None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Directory(Root);

impl Directory {
    /// The directory at `path`.
    ///
    /// # Errors
    /// If there is none, or it may not be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(Root::open(path.as_ref())?))
    }

    /// Opens a regular file.
    fn file(&self, name: &Name, flags: OFlags) -> io::Result<OwnedFd> {
        // A pipe without a writer would be waited for, and a terminal could become this process's.
        let file = self.0.open_at(name.as_str(), flags | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    }

    fn dir(&self, dir: Option<&Name>, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::DIRECTORY;
        Ok(match dir {
            Some(dir) => self.0.open_at(dir.as_str(), flags)?,
            None => self.0.open_at(".", flags)?,
        })
    }

    /// The directory of a name, in which only its last part is looked at.
    fn parent(&self, name: &Name) -> io::Result<OwnedFd> {
        self.dir(name.parent().as_ref(), OFlags::PATH)
    }
}

impl Disk for Directory {
    fn open(&self, name: &Name, opening: Opening) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match opening {
            Opening::Read => OFlags::RDONLY,
            Opening::Write => OFlags::RDWR,
            Opening::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        Ok(Arc::new(File::from(std::fs::File::from(self.file(name, flags)?))))
    }

    fn rename(&self, from: &Name, to: &Name) -> io::Result<()> {
        let (there, here) = (self.parent(from)?, self.parent(to)?);
        Ok(fs::renameat(there, from.last(), here, to.last())?)
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        Ok(fs::unlinkat(self.parent(name)?, name.last(), AtFlags::empty())?)
    }

    fn sync_dir(&self, dir: Option<&Name>) -> io::Result<()> {
        let dir = self.dir(dir, OFlags::RDONLY)?;
        Ok(retry_on_intr(|| fs::fsync(&dir))?)
    }

    fn list(&self, dir: Option<&Name>, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> io::Result<()> {
        let dir = self.dir(dir, OFlags::RDONLY)?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            // What is gone meanwhile is not there.
            let Some(kind) = kind(&dir, name, entry.file_type())? else { continue };
            let name = name.to_str().ok().and_then(|part| Name::within(None, part).ok());
            if each(Entry { name, kind }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn lock(&self, name: &Name) -> io::Result<Lock> {
        let file = self.file(name, OFlags::RDWR | OFlags::CREATE)?;
        retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Lock::new(file))
    }
}

/// What `name` is in `dir`; `None` if it is not there any more. Not every file system tells with the name.
fn kind(dir: impl AsFd, name: &CStr, told: FileType) -> io::Result<Option<Kind>> {
    let kind = match told {
        FileType::Unknown => match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => FileType::from_raw_mode(stat?.st_mode),
        },
        told => told,
    };
    Ok(Some(match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    }))
}
