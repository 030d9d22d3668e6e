//! `threads`: a thread per connection.
//!
//! The budget refuses a connection before the machine has to: ten thousand threads are the wall that gave C10K its
//! name.
#![forbid(unsafe_code)]

use std::io;

use super::crew::{Living, Spawner, spawn};

/// Starts a thread for every connection.
pub(crate) struct Threads;

impl Spawner for Threads {
    fn serve(&self, connection: Living) -> io::Result<()> {
        spawn(connection)
    }
}
