//! What is done: operations that the system, or its library, completes by itself.

pub mod aio;
pub mod uring;
