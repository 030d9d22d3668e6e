//! Sets of vectors, and files of them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::agreed::manifest::{MAX_DIM, MAX_ROWS};

/// A set of vectors that can be read in any order.
pub trait Rows {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Elements of a row.
    fn dim(&self) -> usize;

    /// Reads whole rows, from row `first` on, until `out` is full.
    ///
    /// # Errors
    /// What the file reports, or that it is malformed at these rows.
    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError>;

    /// Reads all rows.
    ///
    /// # Errors
    /// As [`Rows::read`].
    fn read_all(&mut self) -> Result<Vec<Vec<f32>>, DataError> {
        let dim = self.dim();
        (0..self.rows())
            .map(|row| {
                let mut out = vec![0.0; dim];
                self.read(row, &mut out).map(|()| out)
            })
            .collect()
    }
}

/// Why vectors cannot be read.
#[derive(Debug, Error)]
pub enum DataError {
    /// The system refused.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not what its name says.
    #[error("{}: {what}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// A file of rows of one length.
pub(super) struct RowFile {
    pub(super) source: Source,
    /// Bytes before the first row.
    start: u64,
    /// Bytes before the elements of a row.
    prefix: usize,
    floats: bool,
    pub(super) rows: usize,
    dim: usize,
    bytes: Vec<u8>,
}

impl RowFile {
    /// Rows of `dim` elements from byte `start` to the end of the file.
    pub(super) fn new(
        source: Source,
        start: u64,
        prefix: usize,
        floats: bool,
        dim: usize,
    ) -> Result<Self, DataError> {
        if dim == 0 || dim > MAX_DIM {
            return Err(source.malformed(format!("has {dim} elements a row, wanted are 1 to {MAX_DIM}")));
        }
        let row = (prefix + dim * if floats { 4 } else { 1 }) as u64;
        let length = source.length.saturating_sub(start);
        if length == 0 {
            return Err(source.malformed("holds no rows"));
        }
        if !length.is_multiple_of(row) {
            return Err(source.malformed(format!(
                "holds {length} bytes of rows; wanted are whole rows, of {row} bytes each"
            )));
        }
        let rows = usize::try_from(length / row).unwrap_or(usize::MAX);
        if rows > MAX_ROWS {
            return Err(source.malformed(format!("holds {rows} rows, wanted are 1 to {MAX_ROWS}")));
        }
        Ok(Self { source, start, prefix, floats, rows, dim, bytes: Vec::new() })
    }
}

impl Rows for RowFile {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        let row = self.prefix + self.dim * if self.floats { 4 } else { 1 };
        self.bytes.resize(out.len() / self.dim * row, 0);
        self.source.read_at(self.start + first as u64 * row as u64, &mut self.bytes)?;
        for (at, (bytes, out)) in self.bytes.chunks_exact(row).zip(out.chunks_exact_mut(self.dim)).enumerate()
        {
            let (prefix, bytes) = bytes.split_at(self.prefix);
            if !prefix.is_empty() && prefix != (self.dim as u32).to_le_bytes() {
                return Err(self.source.malformed(format!(
                    "row {} is not of dimension {}",
                    first + at,
                    self.dim
                )));
            }
            if self.floats {
                for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            } else {
                for (value, byte) in out.iter_mut().zip(bytes) {
                    *value = f32::from(*byte);
                }
            }
        }
        Ok(())
    }
}

/// An open file that knows its name, for errors.
pub(super) struct Source {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let io = |error| DataError::Io { path: path.into(), error };
        if !fs::metadata(path).map_err(io)?.is_file() {
            // Rows are read in any order, which a pipe cannot give; and it would be waited for.
            return Err(io(io::Error::other("it is not a regular file, in which one can go back")));
        }
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Ok(Self { file, path: path.into(), length })
    }

    pub(super) fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        if self.length == 0 {
            return Err(self.malformed("is empty"));
        }
        if at.saturating_add(bytes.len() as u64) > self.length {
            return Err(
                self.malformed(format!("ends after {} bytes, in the middle of something", self.length))
            );
        }
        let mut read = || self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(bytes));
        read().map_err(|error| DataError::Io { path: self.path.clone(), error })
    }

    pub(super) fn malformed(&self, what: impl Into<String>) -> DataError {
        DataError::Format { path: self.path.clone(), what: what.into() }
    }
}
