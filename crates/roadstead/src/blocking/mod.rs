//! The blocking core: "do this, I wait".
//!
//! One loop per connection of receive, session, send. Who runs it is the replaceable part, a [`Spawner`](crew::Spawner):
//! the thread that accepts, a thread of its own, one of a pool; or, with a [`Family`](family::Family) of processes, a
//! child of its own or one of several that were forked in advance.

pub(crate) mod child;
pub(crate) mod company;
mod connection;
pub(crate) mod crew;
pub(crate) mod family;
pub(crate) mod iterative;
pub(crate) mod pool;
pub(crate) mod prefork;
pub(crate) mod process;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
pub(crate) mod wait;
