//! The exchange: messages between the servers of a cluster, for which no query waits for another. Stands on
//! `roadstead-drivers` and `roadstead-proto`.
//!
//! Every member sends its message of a (query, round) to its peers and gathers theirs. Members know each other by
//! number and address; links between them are kept, dialled again with back-off when they are lost, and carry what was
//! not confirmed once more. A gather ends with the messages of all peers, or by its deadline with the names of those
//! who are missing; what comes late or twice is dropped and counted.
//!
//! How messages travel is a [`Strategy`]: one at a time on a shared connection, on a connection of its own, on one out
//! of a pool, or all at once in parts on one connection.
//!
//! With [credentials](roadstead_proto::layer::Credentials) every link is TLS in both directions: a member talks only to
//! those who prove with a certificate of the same authority that they are who they say. Without keys nothing but
//! loopback addresses is accepted.
//!
//! The links are sessions on reactors of their own, one or several ([`Options::loops`]). A service on any model sends from its session or job, and takes a
//! ticket for what it gathers: `exchange.gather(key, patience, move |result| ticket.finish(result))`.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test may wait and measure")
)]

mod error;
#[cfg(test)]
mod flipped;
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod hub;
mod keeper;
mod link;
mod message;
mod options;
mod outbox;
mod recent;
#[cfg(test)]
mod reference;
#[cfg(feature = "sim")]
mod simulated;
mod spread;
mod stats;
mod taken;
#[cfg(test)]
mod tests;
mod trust;
mod unit;
mod wire;

// Named from here by what is played over all interleavings of its threads: the test puts its own in their place.
use roadstead_proto::{sync, ticket};

pub use error::{ExchangeError, GatherError, Missing, SendError};
pub use handle::Exchange;
pub use hub::Gathered;
pub use message::Message;
pub use options::{Key, Member, MemberId, Options, Strategy, UnknownStrategy};
#[cfg(feature = "sim")]
pub use simulated::Simulated;
pub use stats::{ExchangeStats, PeerStats};
pub use unit::Unit;
