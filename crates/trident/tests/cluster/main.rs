//! Three servers and a client over real sockets: right answers, refused ones, lost servers, hostile clients.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod exchange;
mod faults;
mod flipped;
mod frames;
mod harness;
mod hostile;
mod mesh;
mod mismatched;
mod raw;
mod relay;
mod right;
mod setting;
mod tampered;
mod trust;
mod unsent;
