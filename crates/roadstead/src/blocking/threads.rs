//! `threads`: a thread per connection.
//!
//! The budget refuses a connection before the machine has to: ten thousand threads are the wall that gave C10K its
//! name.
#![forbid(unsafe_code)]

use std::io;

use super::{
    crew::{Living, Spawner, spawn},
    wait::WaitingNet,
};

/// Starts a thread for every connection.
pub(crate) struct Threads;

impl<N: WaitingNet> Spawner<N> for Threads {
    fn serve(&self, connection: Living<N>) -> io::Result<()> {
        spawn(connection)
    }
}
