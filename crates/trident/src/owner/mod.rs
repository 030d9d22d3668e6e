//! The owner: vectors in, the directories of a sharing out.

pub mod data;
pub(crate) mod error;
pub(crate) mod outputs;
pub mod share;
pub(crate) mod splitter;
