//! Ready services: each a module of sessions, none of which knows a socket, a thread or a clock.
#![forbid(unsafe_code)]

pub mod admin;
pub mod discard;
pub mod echo;
pub mod proxy;
