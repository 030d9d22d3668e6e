//! What a service is: a maker of sessions, each of which is one connection's protocol as a state machine over bytes.
//!
//! A session never touches a socket, a thread or a clock, and never blocks: it is given bytes, the time and a
//! [`Context`](crate::Context) through which it answers. That is why one definition runs on every model and in the
//! simulator.
#![forbid(unsafe_code)]

pub use crate::{
    close::{Close, Closed, Done},
    peer::{Peer, Scope},
    session::{Ready, Service, Session},
    ticket::{JobId, Lost},
};
