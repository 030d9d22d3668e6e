//! What an output knows of what it has lent.
#![forbid(unsafe_code)]

/// What an output has lent.
#[derive(Debug, Default)]
pub(super) struct Loan {
    /// Which loan was the last.
    pub(super) number: u32,
    /// What was not sent of it, in bytes; and how many of them are no file's.
    pub(super) unsent: u64,
    pub(super) held: usize,
    /// The sizes of all buffers that are lent, each counted whole until it comes home.
    pub(super) reserved: usize,
}

impl Loan {
    /// So many bytes at the front were sent. A file is the last of what is lent at once.
    pub(super) fn advance(&mut self, count: u64) {
        debug_assert!(count <= self.unsent, "no more is sent than was lent");
        self.unsent = self.unsent.saturating_sub(count);
        self.held = self.held.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    }
}
