//! Jobs, the request queue they wait in, and the logic units that run them.
//!
//! A [`Discipline`] decides which task is next, and for how long; one file for each, named by [`Queue`]. With worker
//! threads the queue is shared and they take from it; without, the I/O loop runs what waits at the end of each of its
//! turns, so that everything that arrived together is waiting together; or, of a queue that slices, one slice a turn.
#![forbid(unsafe_code)]

mod counts;
mod fcfs;
mod jobs;
mod kind;
mod mlfq;
mod rr;
mod shared;
mod sjf;
#[cfg(test)]
mod states;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use counts::TIMED_EVERY;
pub use counts::{TaskCounts, TaskTimes};
pub(crate) use fcfs::Fcfs;
pub use jobs::{Jobs, Run};
pub use kind::{Queue, UnknownQueue};
pub use shared::SharedQueue;
pub use task::{Discipline, Job, Step, Task};
pub use task::{Once, Work};
