//! Why data was not shared.

use std::path::PathBuf;

use thiserror::Error;

use super::data::DataError;
use crate::{
    agreed::{files::FileError, manifest::ManifestError},
    arithmetic::quantise::QuantiseError,
};

/// Why data was not shared.
#[derive(Debug, Error)]
pub enum ShareError {
    /// There is a sharing already.
    #[error("{} exists already; choose another directory, or have it replaced (--replace)", .0.display())]
    Exists(PathBuf),
    /// The input cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An output cannot be written.
    #[error("cannot write {0}")]
    File(#[from] FileError),
    /// The shape of the input is beyond the limits.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A row whose scores would not be right.
    #[error("row {row} cannot be searched: {error}; share it for fetching only")]
    Row {
        /// Which row.
        row: usize,
        /// What is wrong with it.
        error: QuantiseError,
    },
    /// The system gave no randomness.
    #[error("the system gave no random seed: {0}")]
    Random(String),
}
