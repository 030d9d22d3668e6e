//! The owner: vectors in, the directories of a sharing out.

pub mod data;
mod error;
mod outputs;
pub mod share;
mod splitter;
