//! What threads share, played over the interleavings of those who share it, with loom.
//!
//! Each module includes files of the engine as they are; what these take from `crate::sync` is loom's here.
//!
//! | shared | played in |
//! |---|---|
//! | `proto/actor/mailbox.rs`: whose an actor is, and what waits for it | `actor` |
//! | `proto/ticket/`: mailbox, wake flag, wake queue, and how a loop falls asleep and is interrupted | `ticket` |
//! | `drivers/orders.rs`: what others ask of a loop, and who is handed to it | `orders` |
//! | `drivers/handover/inbox.rs`: connections that one loop hands to another | `handover` |
//! | `drivers/reactor/workers/claim.rs`: whose a connection is, and the line of those that are due a turn | `workers` |
//! | `exchange/taken.rs`: what was taken of what came on a link | `exchange` |
//! | `proto/queue/shared.rs`: jobs, and the threads that work for them | `queue`, `workers` |
//!
//! What else threads share needs no such play:
//!
//! - *One read-modify-write each, with nothing beside it to be in order with*: `proto/budget.rs` (`Meter`), `os/log.rs`
//!   (a kind's lines in a second; what was lost, which is swapped out and added back), the numbers of `proto/queue/`
//!   (`loops`) and `exchange/link.rs`, and of Trident's client (`trios`, `thirds.rs`).
//! - *Statistics*: `proto/stats.rs`, `proto/queue/counts.rs`, read at any time and promised to be exact at none but the end.
//! - *Set once and for all, read until it is seen*: `drivers/blocking/server.rs` (`ordered`, behind which threads are
//!   called), `os/ending.rs` (why a loop broke, behind which a byte goes into a pipe), signals and stops of the `cli`,
//!   `load` and `conformance`.
//! - *All under one lock, and whoever waits is notified after every change*: `exchange/hub.rs`,
//!   `drivers/blocking/server.rs` (`live`, `left`), what `drivers/reactor/workers/claimed.rs` has beside the claim, Trident's `trio.rs`, `batch.rs`, `answers.rs`, `outages.rs`.
//! - *The standard library's own channels*: `os/threads/`, Trident's `trio.rs`, `bench`.
//! - *Between processes*: `os/processes/ledger.rs`, whose sums are sequentially consistent over several words, which
//!   loom does not play.
//! - *By one thread only*: `drivers/free.rs`, and the simulator's clock and jobs, atomic because what holds them may be
//!   sent.
//! - *The system's*: the descriptor of `os/wake_fd.rs`, whose part a flag and a condition variable play here.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "what is included is public where it belongs")]

mod actor;
mod exchange;
mod handover;
mod orders;
mod queue;
mod sync;
mod ticket;
mod workers;

/// What the included files name of others, as far as they need it.
mod connection {
    pub(crate) trait Endpoint: std::fmt::Debug + Send {}
}

mod accept {
    pub(crate) struct Open;
}

mod budget {
    pub(crate) struct Permit;
}

mod service {
    #[derive(Clone, Copy)]
    pub(crate) struct Peer;
}

/// Plays `threads` over all interleavings in which a thread is interrupted at most so often where it need not be.
fn play(interruptions: usize, threads: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(interruptions);
    model.check(threads);
}
