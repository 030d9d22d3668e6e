//! Computing with shares and secrets: no file, no network, no randomness but what is handed in.

pub mod check;
pub mod digest;
pub mod dpf;
pub mod element;
pub mod field;
pub mod kernels;
pub mod lines;
pub mod mask;
pub mod oblivious;
pub mod party;
pub mod prg;
pub mod quantise;
pub mod selector;
pub mod shamir;
mod tree;
