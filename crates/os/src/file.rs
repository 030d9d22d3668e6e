//! A file of the system's.
#![forbid(unsafe_code)]

use std::{
    any::Any,
    fs,
    io::{self, IoSlice},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use roadstead_proto::{
    blob::{Blob, FileRange},
    disk::{self, DiskFile},
};
use rustix::io::{ReadWriteFlags, pwritev2};

/// A file of the system's: parts of it are sent, and what a [`Directory`](crate::disk::Directory) opens can be written.
/// Its cursor is neither used nor moved.
///
/// ```
/// # mod roadstead { pub use roadstead_os::file::File; pub use roadstead_proto::Blob; }
/// # use std::sync::Arc;
/// use roadstead::{Blob, File};
/// # let path = "/dev/null";
/// let page: Arc<dyn Blob> = Arc::new(File::from(std::fs::File::open(path)?));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct File {
    file: fs::File,
    /// A sync has failed.
    failed: AtomicBool,
}

impl File {
    /// The file that a range is of, if it is one of the system's.
    pub(crate) fn of(range: &FileRange) -> Option<&Self> {
        let file: &dyn Any = range.file();
        file.downcast_ref()
    }

    /// The file, unless nobody knows what it has.
    fn known(&self) -> io::Result<&fs::File> {
        if self.failed.load(Relaxed) { Err(disk::unsynced()) } else { Ok(&self.file) }
    }
}

impl From<fs::File> for File {
    fn from(file: fs::File) -> Self {
        Self { file, failed: AtomicBool::new(false) }
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Blob for File {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        self.known()?.read_at(part, offset)
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.known()?.metadata()?.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.known()?.write_at(bytes, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(pwritev2(self.known()?, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.known()?.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.synced(self.known()?.sync_data())
    }
}

impl File {
    /// What a sync has come to, from which there may be no way back: the system may hold what it could not write for
    /// written, and the next sync would have nothing to do.
    fn synced(&self, outcome: io::Result<()>) -> io::Result<()> {
        outcome.inspect_err(|_| self.failed.store(true, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_is_the_last_thing_that_a_file_says() {
        let file = File::from(tempfile::tempfile().unwrap());
        file.append(b"cargo").unwrap();
        file.sync().unwrap();
        assert!(file.synced(Err(io::Error::other("no disk"))).is_err());
        let said = [
            file.read_at(&mut [0; 5], 0).map(drop),
            file.write_at(b"c", 0).map(drop),
            file.append(b"c").map(drop),
            file.size().map(drop),
            file.set_size(0),
            file.sync(),
        ];
        let unsynced = disk::unsynced().to_string();
        assert!(said.into_iter().all(|said| said.unwrap_err().to_string() == unsynced));
    }
}
