//! The exchange: messages between the servers of a cluster, for which no query waits for another.
//!
//! Every member sends its message of a (query, round) to its peers and gathers theirs. Members know each other by number
//! and address; links between them are kept, dialled again with back-off when they are lost, and carry what was not
//! confirmed once more. A gather ends with the messages of all peers, or by its deadline with the names of those who
//! are missing; what comes late or twice is dropped and counted.
//!
//! How messages travel is a [`Strategy`]: one at a time on a shared connection, on a connection of its own, on one out
//! of a pool, or all at once in parts on one connection.
//!
//! With [`Keys`](crate::tls::Keys) every link is TLS in both directions: a member talks only to those who prove with a
//! certificate of the same authority that they are who they say. Without keys nothing but loopback addresses is accepted.
//!
//! The links are sessions on a reactor of their own. A service on any model sends from its session or job, and takes a
//! ticket for what it gathers: `exchange.gather(key, patience, move |result| ticket.finish(result))`.
//!
//! ```
//! use std::{sync::mpsc, time::Duration};
//! use roadstead::exchange::{self, Key, Member, MemberId, Options};
//!
//! let listeners = [exchange::listen("127.0.0.1:0".parse()?)?, exchange::listen("127.0.0.1:0".parse()?)?];
//! let members: Vec<Member> = (1..).zip(&listeners)
//!     .map(|(id, listener)| Member::new(id, listener.address()))
//!     .collect();
//! let [first, second] = listeners;
//! let first = exchange::start(MemberId(1), &members, first, None, Options::default())?;
//! let second = exchange::start(MemberId(2), &members, second, None, Options::default())?;
//!
//! let (key, (tell, told)) = (Key { query: 42, round: 0 }, mpsc::channel());
//! first.send(MemberId(2), key, "ahoy")?;
//! second.gather(key, Duration::from_secs(5), move |result| tell.send(result).unwrap());
//! let messages = told.recv()??;
//! assert_eq!((messages[0].0, &messages[0].1[..]), (MemberId(1), &b"ahoy"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
#[cfg(test)]
mod flipped;
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod hub;
mod keeper;
mod link;
mod memory;
mod message;
mod options;
mod outbox;
#[cfg(test)]
mod reference;
mod simulated;
mod start;
mod stats;
mod taken;
#[cfg(test)]
mod tests;
mod trust;
mod unit;
mod wire;

pub use error::{ExchangeError, GatherError, Missing, SendError};
pub use handle::Exchange;
pub use hub::Gathered;
pub use message::Message;
pub use options::{Key, Member, MemberId, Options, Strategy, UnknownStrategy};
pub use simulated::Simulated;
pub use start::{Listener, listen, start};
pub use stats::{ExchangeStats, PeerStats};
