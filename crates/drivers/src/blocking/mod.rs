//! The blocking core: "do this, I wait".
//!
//! One loop per connection of receive, session, send. Who runs it is the replaceable part, a
//! [`Spawner`](server::Spawner): the thread that accepts, a thread of its own, one of a pool; or, with a parent of
//! processes, a child of its own or one of several that were forked in advance.

mod connection;
pub mod iterative;
pub mod server;
pub mod server_handle;
#[cfg(test)]
pub(crate) mod tests;
pub mod wait;
