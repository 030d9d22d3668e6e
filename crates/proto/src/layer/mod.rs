//! A layer between the wire and a session, such as TLS: a transformation of bytes without any I/O.
//!
//! A [`Layer`] turns what came from the wire into what the session reads, and what the session writes into what goes
//! to the wire. The engine puts it between a loop and a connection, so every session can speak through it on every
//! model, and connections without one pay nothing for it.
#![forbid(unsafe_code)]

mod batch;
mod contract;
mod layered;
mod phase;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod through;

pub use crate::identity::Identity;
pub use contract::reload;
pub use contract::{Credentials, End, Layer, Layers, Unfit};
pub use through::through;
