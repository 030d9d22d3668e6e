//! What an output knows of what it has lent last.
#![forbid(unsafe_code)]

/// What an output has lent last.
#[derive(Debug, Default)]
pub(super) struct Loan {
    /// Which loan it is.
    pub(super) number: u32,
    /// What was not sent of it, in bytes; and how many of them are no file's.
    pub(super) unsent: u64,
    pub(super) held: usize,
}

impl Loan {
    /// Whether a part of a file was not sent.
    pub(super) fn has_file(&self) -> bool {
        self.unsent > self.held as u64
    }
}
