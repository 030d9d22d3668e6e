//! A part of a file that is to be sent, and how it is read where the system cannot send it by itself.
#![forbid(unsafe_code)]

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

/// A part of a file that is to be sent.
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The open file; its cursor is neither used nor moved.
    pub file: Arc<File>,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How long the part is, in bytes.
    pub len: u64,
}

/// Reads a part of a file; it must not end where the part begins.
pub(crate) fn read_at(file: &File, part: &mut [u8], offset: u64) -> io::Result<usize> {
    match file.read_at(part, offset)? {
        0 => Err(shorter_than_promised()),
        count => Ok(count),
    }
}

/// What a file that ends too early has come to.
pub(crate) fn shorter_than_promised() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than what was promised of it")
}
