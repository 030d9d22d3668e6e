//! What private vector search computes with: shares, selection keys, masks, checks, and the loops over all rows. It
//! knows no file and no network, and no randomness but what it is given.

#![deny(unsafe_code)]
// It panics where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

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
