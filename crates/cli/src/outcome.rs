//! What a command comes to.

use std::error::Error;

/// What a command came to, apart from errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All was right.
    Done,
    /// The report is written, but it reports something wrong or failed.
    Wrong,
}

pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
