//! One connection as a state machine: told what happened, answers what to do next. Knows no system; everything else
//! stands on it.
//!
//! | module | holds |
//! |---|---|
//! | [`service`], [`session`], [`close`] | what a service is, through which context its sessions answer, and how they end |
//! | [`peer`], [`address`], [`identity`] | who is at the other end, where, and what it has proven |
//! | [`connection`], [`flight`] | one connection without any I/O, and its operations that are in flight |
//! | [`endpoint`] | what a loop drives: a connection, or a layer around one |
//! | [`datagrams`] | one socket's datagrams without any I/O |
//! | [`input`], `unread`, [`reading`], [`output`], [`chunk`], [`blob`] | the bytes that came and were left, the pieces that go |
//! | [`ticket`], [`queue`] | finishing something later; who runs the jobs, and in which order |
//! | [`actor`] | state that many connections use |
//! | [`budget`], `rate`, `pace`, [`host`], [`stats`] | the hard limits, what a loop lends to its connections, what is counted |
//! | [`observer`] | the same for whoever watches a server |
//! | [`layer`] | between wire and session |
//! | [`frame`] | length-prefixed messages |
//! | [`forward`] | two connections joined |
//! | [`disk`], [`journal`] | files, asked for in jobs; an append-only log that loses nothing it has acknowledged |
//! | [`guard`], [`clean`] | calls into a service that may panic; text of strangers, made fit for a log |
//! | [`tuning`] | how the system's sockets are set up |
//! | [`sync`] | what threads share things by, which a test replaces to play their interleavings |
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test may wait and measure")
)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod actor;
pub mod address;
pub mod blob;
pub mod budget;
pub mod chunk;
pub mod clean;
pub mod close;
pub mod connection;
pub mod datagrams;
pub mod disk;
pub mod endpoint;
pub mod flight;
pub mod forward;
pub mod frame;
pub mod guard;
pub mod host;
pub mod identity;
pub mod input;
pub mod journal;
pub mod layer;
pub mod observer;
pub mod output;
pub mod peer;
pub mod queue;
pub mod reading;
pub mod service;
pub mod session;
pub mod stats;
pub mod sync;
pub mod ticket;
pub mod tuning;

mod last_words;
mod pace;
mod rate;
mod reserve;
mod spare;
mod unread;

pub use actor::{Actor, Asked, AtEnd};
pub use address::{Address, UnixName};
pub use blob::Blob;
pub use budget::Budget;
pub use close::{Close, Closed, Done};
pub use datagrams::{DatagramContext, DatagramService, DatagramSession};
pub use forward::Forward;
pub use frame::Frame;
pub use identity::Identity;
pub use input::{Chunk, Input};
pub use layer::{Layer, Layers};
pub use observer::Observer;
pub use output::Output;
pub use peer::{Peer, Scope};
pub use queue::{Job, Queue, Step};
pub use reading::Reading;
pub use session::{Busy, Context, Ready, Service, Session};
pub use ticket::{JobId, Lost, Ticket, Waker};
pub use tuning::Tuning;
