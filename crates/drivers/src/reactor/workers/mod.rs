//! Workers that do the reads and writes themselves: the other way to divide a reactor among threads.
//!
//! The loop stays as it is, and so does a connection's turn; but between them stands a queue. The loop waits, accepts,
//! dials, closes and keeps the deadlines; what it hears of a connection it only raises in that connection's
//! [claim](Claimed). A [worker](Worker) takes the connection out of the [line](Line), gives it its turn
//! (`LoopConnection::drive`), and lets go of it.
//!
//! ```text
//!                ready, due, drain, stop              ┌────────▶ worker: receive, session, send
//!  the loop ───────────────────────▶ claim ──▶ line ──┼────────▶ worker
//!    ▲               ticket, waker ────┘ ▲      ▲     └────────▶ worker: a slice of a job
//!    │                                   │      └─ jobs that sessions defer ─┤
//!    │                                   └──────── more to do, or news ──────┤
//!    └──── an earlier deadline, a connection to be opened, dialled, closed ──┘
//! ```
//! The line is the request queue. Turns come before jobs, but for one in so many, and a job holds no connection: while
//! it runs, its own hears of bytes, replies and deadlines as any other.
//!
//! A connection is registered with the poller once, for changes. Whoever changes it while a worker has it is noted in
//! the claim and queues nothing, and the worker that ends looks there: no event is lost, no connection had twice.
//!
//! A ticket or a waker raises its connection itself. The loop is called for what only it can do, and for a deadline
//! that is earlier than the earliest it knows of; one that moves back costs nothing, as in the loop.
//!
//! Nothing here knows of threads: a worker takes one step when it is told to, which `roadstead-os` has threads do and
//! the simulator in the order that its seed says.

mod claim;
mod claimed;
#[cfg(test)]
mod tests;
mod worker;

pub use claimed::{Claimed, Line};
pub use worker::Worker;

/// Who receives and sends, of a server on `Model::Epoll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Io {
    /// The I/O thread; worker threads run deferred jobs, if there are any.
    #[default]
    Loop,
    /// Worker threads, which run their connections' sessions and jobs too. The I/O thread only tells them of readiness.
    Workers,
}
