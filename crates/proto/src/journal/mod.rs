//! An append-only log on a [`Disk`](crate::disk): what was acknowledged is there after a crash at any moment, and what
//! was only half written is not read.
//!
//! ```text
//! file:    head, records
//! head:    magic "RDSJ" (4), version 1 (4), salt (8), CRC-32 of these (4)                     little-endian
//! record:  length of the payload (4), back (4), CRC-32 of the payload (4), CRC-32 of the head (4), payload
//!          its head's checksum covers the salt and the record's place too
//! ```
//!
//! **When it is durable.** [`Journal::append`] takes any number of records, writes them in one piece and syncs once. All
//! of them are durable when it returns, or it is an error. That is the only policy: who wants fewer syncs appends more
//! at once, as [`SharedJournal`] does with all that waits together. What one call writes is a *batch*; nothing of the
//! next is written before the sync of the last has succeeded.
//!
//! **What is torn, and what is damaged.** `back` says how far before the record its batch begins; all before that was
//! durable when the record was written. A record that cannot be read, where no later one says that it was durable, was
//! torn by a crash, and nobody was told that it is there: the log is cut off in front of it, which is logged and
//! [told](Replayed::cut). If a later one does, something has happened to the disk: that is an
//! [error](JournalError::Damaged) that says where, and nothing is cut. (Of the last batch nothing says whether its sync
//! had succeeded, so damage to that looks like a crash.) A batch has at most [`BATCH`] bytes, so no more than these can
//! be torn, and who looks for a later record looks no further.
//!
//! The salt makes it impossible that what a stranger had us write, in the midst of a torn record, is taken for a later
//! one: draw it at random. It is read back from a log that is there.
//!
//! **What is bounded.** A record, and the log, by its [`Limits`]: [`Full`](JournalError::Full) tells that it is time to
//! [compact](Journal::compact) it. No length from the file is believed before its checksum, nor memory allocated for one
//! above the limit. Opening reads with one record and one block in memory.
//!
//! **What goes wrong.** A disk that is full refuses the batch; the log is cut back to where it was, and usable. When a
//! sync fails nobody knows what is durable: the journal then [fails](JournalError::Failed) for good. Opening it anew
//! writes the last batch again, because all of it may be in memory only, and syncs it and its directory.
//!
//! **Compaction** writes what is still worth keeping into a new file, syncs it, renames it and syncs the directory. A
//! crash leaves the old or the new one.
//!
//! Beside `NAME` there are `NAME.lock`, which whoever has it open holds locked, and, for a time, `NAME.new`.
//!
//! There is no thread and no clock here, and every call waits for the disk: it is used in jobs, or by [`SharedJournal`],
//! whose sessions wait for nothing.
#![forbid(unsafe_code)]

mod compaction;
mod error;
mod log;
mod record;
mod replay;
mod shared;
mod window;

pub use compaction::Compaction;
pub use error::JournalError;
pub use log::{Journal, Replayed};
pub use record::{BATCH, Limits};
pub use shared::SharedJournal;
