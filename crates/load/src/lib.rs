//! Load generation, measuring and reports. Stands on `roadstead`.
//!
//! - [`generator`] drives any TCP echo server, ours or not, and checks every byte that comes back;
//! - [`measure`] records latencies; [`process`] reads what a process costs; [`machine`] says where it ran;
//! - [`relay`] puts a network's delay between two programs on one machine;
//! - [`report`] writes results as JSON and as a table; [`chart`] draws them.
//!
//! Latencies are in milliseconds in everything that leaves this crate, memory in bytes, time in seconds.
//! A figure that could not be measured is NaN: JSON shows it as `null`, a table as `-`.

#![forbid(unsafe_code)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod chart;
pub mod generator;
mod itself;
pub mod machine;
pub mod measure;
pub mod process;
pub mod relay;
pub mod report;
