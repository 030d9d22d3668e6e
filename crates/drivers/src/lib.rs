//! The three loops around a connection: blocking, reactor, proactor; and the one of datagrams. Generic over what a
//! socket is and how news of it comes; stands on `roadstead-proto`.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test may wait and measure")
)]
// They panic where nobody can be told any more.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod accept;
pub mod blocking;
pub mod connections;
pub mod datagrams;
pub mod failed;
pub mod free;
pub mod handover;
mod loop_state;
pub mod net;
pub mod orders;
pub mod proactor;
pub mod reactor;
mod read;

// Named from here by the files whose threads are played over all interleavings: the test puts its own in their place.
use roadstead_proto::{budget, connection, service, sync, ticket};
