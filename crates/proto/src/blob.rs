//! What is sent from where it lies, a part at a time: a file, or whatever can be read like one.
#![forbid(unsafe_code)]

use std::{any::Any, io, sync::Arc};

use bytes::BytesMut;

use crate::guard::{self, Guarded};

/// What can be read at any place, like a file, and is sent from there: see [`Output::file`](crate::Output::file).
///
/// A `File` is the system's own. A service may have others.
///
/// ```
/// # use roadstead_proto as roadstead;
/// use std::{io, sync::Arc};
/// use roadstead::{Blob, Output};
///
/// struct Zeros;
///
/// impl Blob for Zeros {
///     fn read_at(&self, part: &mut [u8], _: u64) -> io::Result<usize> {
///         part.fill(0);
///         Ok(part.len())
///     }
/// }
///
/// fn answer(output: &mut Output) {
///     output.file(Arc::new(Zeros), 0, 1 << 40);
/// }
/// ```
pub trait Blob: Any + Send + Sync {
    /// Reads what begins at `offset` into `part`. Answers how many bytes these are, at most as many as there is room
    /// for and zero only where it ends.
    ///
    /// Called in the thread that drives the connection. Where that is a loop, its other connections wait meanwhile.
    ///
    /// # Errors
    /// Why it cannot be read, which closes the connection. That there is nothing *yet* is no answer: it waits.
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// A part of a file that is to be sent.
#[derive(Debug, Clone)]
pub struct FileRange {
    file: Guarded<Arc<dyn Blob>>,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How long the part is, in bytes.
    pub len: u64,
}

impl FileRange {
    /// `len` bytes of `file`, from `offset` on; no file has more than `i64::MAX`.
    pub fn new(file: Arc<dyn Blob>, offset: u64, len: u64) -> Self {
        Self { file: Guarded::new(file), offset, len: len.min(i64::MAX as u64) }
    }

    /// What it is a part of.
    pub fn file(&self) -> &dyn Blob {
        &**self.file
    }

    /// Its first bytes: as many as are read at once, and `most` of them at most.
    ///
    /// # Errors
    /// If they cannot be read, or the file ends before them.
    pub fn read(&self, most: usize) -> io::Result<BytesMut> {
        let mut part = BytesMut::zeroed(self.len.min(most as u64) as usize);
        let read = guard::call(|| self.file.read_at(&mut part, self.offset));
        part.truncate(read.unwrap_or_else(|| Err(io::Error::other("the file panicked when it was read")))?);
        some(part)
    }
}

/// What was read of a file where there had to be something.
///
/// # Errors
/// If there was nothing.
pub fn some(part: BytesMut) -> io::Result<BytesMut> {
    if part.is_empty() { Err(shorter_than_promised()) } else { Ok(part) }
}

/// What a file that ends too early has come to.
pub fn shorter_than_promised() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than what was promised of it")
}

#[cfg(test)]
impl Blob for Vec<u8> {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(part.len());
        part[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_from_its_place_and_no_further_than_it_goes_or_the_file_does() {
        let content: Vec<u8> = (0..100).collect();
        let file: Arc<dyn Blob> = Arc::new(content.clone());
        for (offset, len, most, expected) in [
            (0, 100, 200, Some(0..100)),
            (10, 50, 20, Some(10..30)),
            (10, 5, 20, Some(10..15)),
            (90, u64::MAX, 1000, Some(90..100)),
            (100, 1, 1000, None),
            (u64::MAX, 1, 1000, None),
        ] {
            let read = FileRange::new(Arc::clone(&file), offset, len).read(most);
            let kind = read.as_ref().err().map(io::Error::kind);
            assert_eq!(
                read.ok().as_deref(),
                expected.clone().map(|part| &content[part]),
                "{offset} {len} {most}"
            );
            assert_eq!(kind, expected.is_none().then_some(io::ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn a_file_that_panics_ends_its_own_range_only() {
        struct Bomb;
        impl Blob for Bomb {
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
                panic!("a file of the test that is meant to panic");
            }
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a drop of the test that is meant to panic");
            }
        }
        let range = FileRange::new(Arc::new(Bomb), 0, 1);
        assert_eq!(range.read(1).unwrap_err().to_string(), "the file panicked when it was read");
        drop((range.clone(), range));
    }
}
