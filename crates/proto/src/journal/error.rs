//! What a journal refuses, and whose fault it is.
#![forbid(unsafe_code)]

use std::{io, sync::Arc};

use super::record::{BATCH, HEAD, Limits};
use crate::disk::{Name, NameError};

/// Why a journal does not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The caller's name leaves no room for those beside it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The caller's record is too large, or in the log is one that is larger than it now may be.
    #[error("a record of {length} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Of the record.
        length: usize,
        /// What is accepted.
        limit: usize,
    },
    /// The caller's records together are more than one batch.
    #[error("{length} bytes of records at once; at most {BATCH} are written in one piece")]
    TooMany {
        /// Of all of them, with their heads.
        length: usize,
    },
    /// The log has reached its limit; nothing of this was written.
    #[error("the log would have {size} bytes, and may have {limit}: compact it, or raise its limit")]
    Full {
        /// What it would have.
        size: u64,
        /// What it may have.
        limit: u64,
    },
    /// What is there is no journal, or one that this version cannot read.
    #[error("{name} is no log of ours: {why}")]
    Foreign {
        /// The file.
        name: Name,
        /// What is wrong with its head.
        why: String,
    },
    /// A record that was durable cannot be read any more. Nothing was changed.
    #[error("{name} is damaged at byte {at}, and goes on behind it: restore it from a copy")]
    Damaged {
        /// The file.
        name: Name,
        /// Where the record begins that cannot be read.
        at: u64,
    },
    /// Whoever reads the records does not understand one. Nothing was changed.
    #[error("{name} has a record at byte {at} that is not understood: {why}")]
    Refused {
        /// The file.
        name: Name,
        /// Where it begins.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Another process, or this one, has it open.
    #[error("{name} is in use: end the process that has it open")]
    Locked {
        /// The file.
        name: Name,
    },
    /// The disk's fault: what was asked is not done, and the journal is as it was.
    #[error("{name}: {what} failed: {error}")]
    Disk {
        /// The file.
        name: Name,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        error: Arc<io::Error>,
    },
    /// The disk's fault, and whether it was done nobody knows: the journal takes nothing more.
    #[error("{name} takes nothing more since {what} failed: {error}; open it anew")]
    Failed {
        /// The file.
        name: Name,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        error: Arc<io::Error>,
    },
}

impl Limits {
    /// Whether a record of `length` bytes may be appended.
    pub(crate) fn admit(&self, length: usize) -> Result<(), JournalError> {
        let limit = self.record.min(BATCH - HEAD);
        if length > limit { Err(JournalError::TooLarge { length, limit }) } else { Ok(()) }
    }
}
