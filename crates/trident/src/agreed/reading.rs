//! Reads the files of a directory, and says why it cannot be used.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{self, FileError};
use super::manifest::{self, Manifest, ManifestError, RESTORE};
use crate::arithmetic::party::Party;

/// Reads the manifest of a directory.
pub(crate) fn read_manifest(dir: &Path) -> Result<Manifest, StoreError> {
    let path = dir.join(manifest::FILE);
    let mut json = Vec::new();
    let file = files::open(&path)?;
    file.take(manifest::MAX_BYTES as u64 + 1).read_to_end(&mut json).map_err(FileError::at(&path))?;
    Manifest::parse(&json).map_err(|error| StoreError::Manifest { path, error })
}

/// Opens a file that must have `want` bytes.
pub(crate) fn open_exact(path: &Path, want: u64) -> Result<File, StoreError> {
    let file = files::open(path)?;
    let got = file.metadata().map_err(FileError::at(path))?.len();
    if got == want { Ok(file) } else { Err(StoreError::Length { path: path.into(), got, want }) }
}

/// Why a directory cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file cannot be read.
    #[error("cannot read {0}; is this a directory that share has made?")]
    File(#[from] FileError),
    /// The manifest cannot be used.
    #[error("{}: {error}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// The directory is another's.
    #[error("{} is the directory of {}, not of {}", path.display(), holder_name(*holder), holder_name(*wanted))]
    Party {
        /// Which directory.
        path: PathBuf,
        /// Whose it is; nobody's for a client's.
        holder: Option<Party>,
        /// Whose it should be.
        wanted: Option<Party>,
    },
    /// A file's length does not fit the manifest.
    #[error("{} has {got} bytes, its manifest asks for {want}; {RESTORE}", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// Length found.
        got: u64,
        /// Length required.
        want: u64,
    },
    /// Scales that no collection has.
    #[error("{} is no file of scales: it is damaged; share the data again", path.display())]
    Scales {
        /// Which file.
        path: PathBuf,
    },
    /// A part of a file is not what the owner wrote.
    #[error("{} is damaged in block{} of {blocks} (bytes {} to {}); {RESTORE}", path.display(), span(*first, *last), bytes.start, bytes.end.saturating_sub(1))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The first damaged block of a run, from 1.
        first: usize,
        /// The last of the run.
        last: usize,
        /// Blocks of the file.
        blocks: usize,
        /// Where in the file the run is.
        bytes: Range<u64>,
    },
    /// A file that has to be in memory does not fit.
    #[error("this machine has no {} MiB of memory for {}", bytes.div_ceil(1 << 20), path.display())]
    Memory {
        /// Which file.
        path: PathBuf,
        /// What it would take.
        bytes: u64,
    },
    /// Search shares that are no field elements.
    #[error("{} holds numbers that are not below p: it is damaged; share the data again", path.display())]
    Element {
        /// Which file.
        path: PathBuf,
    },
}

impl StoreError {
    /// The file or directory that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(FileError { path, .. })
            | Self::Manifest { path, .. }
            | Self::Party { path, .. }
            | Self::Length { path, .. }
            | Self::Damaged { path, .. }
            | Self::Memory { path, .. }
            | Self::Scales { path }
            | Self::Element { path } => path,
        }
    }
}

/// Whose a directory is, for people.
pub fn holder_name(holder: Option<Party>) -> String {
    holder.map_or("a client".into(), |party| party.to_string())
}

fn span(first: usize, last: usize) -> String {
    if first == last { format!(" {first}") } else { format!("s {first} to {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_directory_is_said_with_what_was_found_and_what_is_wanted() {
        let path = || PathBuf::from("shares/file");
        let damaged =
            |first, last| StoreError::Damaged { path: path(), first, last, blocks: 9, bytes: 10..20 };
        let [one, two, _] = Party::ALL.map(Some);
        for (error, said) in [
            (
                StoreError::Party { path: path(), holder: one, wanted: two },
                format!("shares/file is the directory of {}, not of {}", Party::ALL[0], Party::ALL[1]),
            ),
            (
                StoreError::Party { path: path(), holder: None, wanted: one },
                format!("shares/file is the directory of a client, not of {}", Party::ALL[0]),
            ),
            (
                StoreError::Length { path: path(), got: 3, want: 4 },
                format!("shares/file has 3 bytes, its manifest asks for 4; {RESTORE}"),
            ),
            (damaged(5, 5), format!("shares/file is damaged in block 5 of 9 (bytes 10 to 19); {RESTORE}")),
            (
                damaged(5, 7),
                format!("shares/file is damaged in blocks 5 to 7 of 9 (bytes 10 to 19); {RESTORE}"),
            ),
            (
                StoreError::Memory { path: path(), bytes: (3 << 20) + 1 },
                "this machine has no 4 MiB of memory for shares/file".into(),
            ),
        ] {
            assert_eq!((error.to_string(), error.path()), (said, path().as_path()));
        }
    }

    #[test]
    fn a_file_has_exactly_the_bytes_that_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "four").unwrap();
        for want in 0..8 {
            match open_exact(&path, want) {
                Ok(_) => assert_eq!(want, 4),
                Err(StoreError::Length { got: 4, want: wanted, .. }) => assert!(wanted == want && want != 4),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_manifest_that_is_too_long_is_said_to_be_and_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        for (length, too_long) in
            [(manifest::MAX_BYTES, false), (manifest::MAX_BYTES + 1, true), (1 << 20, true)]
        {
            std::fs::write(dir.path().join(manifest::FILE), vec![b' '; length]).unwrap();
            let Err(StoreError::Manifest { error, .. }) = read_manifest(dir.path()) else {
                panic!("{length}")
            };
            let most = manifest::MAX_BYTES + 1;
            assert_eq!(matches!(error, ManifestError::TooLong(read) if read == most), too_long, "{error}");
        }
    }
}
