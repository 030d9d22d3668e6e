//! Who is ready: one file for each way the system has of telling.

pub mod epoll;
pub mod poll;
pub mod select;
pub mod signal;
pub mod spin;
