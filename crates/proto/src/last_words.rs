//! What may still be written by a session that has finished sending: replies to the tickets that were out then.
#![forbid(unsafe_code)]

use crate::{budget::give_back, ticket::JobId};

/// Which replies may still write, and how many of them are awaited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastWords {
    /// Those to tickets of lower numbers.
    before: u64,
    awaited: usize,
}

impl LastWords {
    /// Of a session that has `awaited` tickets out, the next of which is to have the number `before`.
    pub(crate) fn new(before: u64, awaited: usize) -> Self {
        Self { before, awaited }
    }

    /// A ticket has come back, and its reply is about to be heard.
    pub(crate) fn comes_back(&mut self, id: JobId) {
        if id.0 < self.before {
            give_back(&mut self.awaited, 1);
        }
    }

    /// Whether nothing may be written any more.
    pub(crate) fn are_said(&self) -> bool {
        self.awaited == 0
    }
}
