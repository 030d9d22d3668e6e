//! Where a server's search shares are: in memory, or on disk and read in every pass.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::{
    agreed::{
        files::FileError,
        integrity::{Blocks, Contents, Directory},
        layout::SEARCH_FILE,
        manifest::Manifest,
        reading::{StoreError, open_exact},
    },
    arithmetic::{
        field::P,
        lines::{self, LINE, Line},
    },
};

/// Where search shares are during a pass.
pub(crate) enum Shares {
    Memory(Vec<Line>),
    File { file: File, path: PathBuf, blocks: Blocks },
}

impl Shares {
    /// Loads them, or compares them where they stay.
    pub(crate) fn open(
        mut files: Directory<'_>,
        dir: &Path,
        manifest: &Manifest,
        memory_limit: u64,
    ) -> Result<Self, StoreError> {
        let (path, count) = (dir.join(SEARCH_FILE), manifest.search_lines());
        if (count * LINE) as u64 <= memory_limit {
            let lines = files.lines(Contents::Search, count)?;
            let elements = lines.iter().flat_map(|line| line.0).fold(true, |all, word| all & (word < P));
            return if elements { Ok(Self::Memory(lines)) } else { Err(StoreError::Element { path }) };
        }
        let mut elements = true;
        files.read(Contents::Search, |bytes| {
            let words = bytes.as_chunks().0.iter();
            elements &= words.fold(true, |all, word| all & (u32::from_le_bytes(*word) < P));
        })?;
        let file = open_exact(&path, (count * LINE) as u64)?;
        match files.into_blocks(Contents::Search) {
            Some(blocks) if elements => Ok(Self::File { file, path, blocks }),
            _ => Err(StoreError::Element { path }),
        }
    }

    /// Lines `start..start + length`, a block: from memory or read into `lines`. Numbers that are not below p would
    /// break the kernels; a block whose digest is right has none, as all were looked at when they were loaded.
    pub(crate) fn run<'a>(
        &'a self,
        start: usize,
        length: usize,
        lines: &'a mut Vec<Line>,
        bytes: &mut Vec<u8>,
    ) -> Result<&'a [Line], StoreError> {
        match self {
            Self::Memory(all) => Ok(&all[start..start + length]),
            Self::File { file, path, blocks } => {
                lines.resize(length, Line::default());
                bytes.resize(length * LINE, 0);
                let at = (start * LINE) as u64;
                read_at(file, at, bytes).map_err(FileError::at(path))?;
                blocks.compare(at, bytes, path)?;
                lines::decode(bytes, lines);
                Ok(lines)
            }
        }
    }
}

/// Reads at a place without moving the file's own, so that passes do not wait for each other.
fn read_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, at);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], at + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}
