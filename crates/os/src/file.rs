//! A file of the system's.
#![forbid(unsafe_code)]

use std::{
    any::Any,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
};

use roadstead_proto::blob::{Blob, FileRange};

/// A file of the system's that parts are sent of. Its cursor is neither used nor moved.
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
pub struct File(fs::File);

impl File {
    /// The file that a range is of, if it is one of the system's.
    pub(crate) fn of(range: &FileRange) -> Option<&Self> {
        let file: &dyn Any = range.file();
        file.downcast_ref()
    }
}

impl From<fs::File> for File {
    fn from(file: fs::File) -> Self {
        Self(file)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Blob for File {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(part, offset)
    }
}
