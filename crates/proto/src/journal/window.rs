//! A file that is read from its beginning to its end, with a bounded part of it in memory.
#![forbid(unsafe_code)]

use std::io;

use crate::{blob, disk::DiskFile};

/// What is read at once, unless more is asked for.
const BLOCK: usize = 64 << 10;

/// The part of a file that is in memory.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    /// As long as it was in the beginning.
    size: u64,
    /// Where the part begins.
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self { file, size: file.size()?, begin: 0, bytes: Vec::new() })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The `count` bytes at `offset`, or `None` if the file ends before them. What is before `offset` is let go.
    pub(crate) fn get(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if self.size.checked_sub(offset).is_none_or(|rest| rest < count as u64) {
            return Ok(None);
        }
        let behind = offset.checked_sub(self.begin).filter(|behind| *behind <= self.bytes.len() as u64);
        let mut from = match behind {
            Some(behind) => behind as usize,
            None => {
                self.bytes.clear();
                self.begin = offset;
                0
            }
        };
        if self.bytes.len() - from < count {
            self.bytes.drain(..from);
            (self.begin, from) = (offset, 0);
            self.fill(count)?;
        }
        Ok(self.bytes.get(from..from + count))
    }

    /// Reads on until there are `count` bytes.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        let mut filled = self.bytes.len();
        let room = (self.size - self.begin).min(count.max(BLOCK) as u64);
        self.bytes.resize(room as usize, 0);
        while filled < count {
            match self.file.read_at(&mut self.bytes[filled..], self.begin + filled as u64) {
                Ok(0) => return Err(blob::shorter_than_promised()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
