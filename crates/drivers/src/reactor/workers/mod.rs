//! Workers that do the reads and writes themselves: the other way to divide a reactor among threads.
//!
//! The I/O thread only waits. It accepts, and hears of readiness, deadlines and orders; whatever concerns a connection
//! it raises in that connection's claim, one atomic word, and who makes it queued puts it into the
//! [line](Line). A [worker](Worker) takes it out, gives it the same turn that the reactor's own loop would
//! (`LoopConnection::drive`), runs the jobs that came of it, and lets go of it: to the end of the line
//! if there is more, or news; else it has the poller tell once more, and of that only (`EPOLLONESHOT`).
//!
//! ```text
//!             ready, due, drain, stop              ┌───────────▶ worker: claim · receive, session, send · re-arm
//!  I/O thread ────────────────────────▶ claim ──▶ line ────────▶ worker            │
//!      ▲        ticket, waker ────────────┘ ▲      └───────────▶ worker            │
//!      │                                    └───────────────── run again ◀─────────┤
//!      └──────── reports: an earlier deadline, a connection opened, one ended ◀────┘
//! ```
//! A ticket or a waker needs no I/O thread: the connection's own wake queue raises its claim. The I/O thread keeps a
//! heap of deadlines, each the earliest it was told of; a deadline that moves back costs nothing, as in the loop.
//!
//! Neither part knows of threads: each takes one step when it is told to, which `roadstead-os` has threads do and the
//! simulator in the order that its seed says.
//!
//! No lock is held while a session runs but the connection's own, for which nobody waits.

mod claim;
mod claimed;
mod dispatcher;
mod io;
mod line;
mod one_shot;
mod reports;
mod worker;

pub use claimed::Claimed;
pub use dispatcher::Dispatcher;
pub use io::Io;
pub use line::Line;
pub use one_shot::OneShot;
pub use worker::{Step, Worker};
