//! `threads`: a thread per connection.
//!
//! The budget refuses a connection before the machine has to: ten thousand threads are the wall that gave C10K its
//! name.
#![forbid(unsafe_code)]

use std::{io, thread};

use roadstead_drivers::blocking::{
    server::{LiveConnection, Spawner},
    wait::WaitingNet,
};

/// The stack of a connection's thread, in bytes: small, because a session does not recurse; memory only once touched.
pub(crate) const STACK: usize = 256 << 10;

/// Starts a thread for every connection.
pub struct Threads;

impl<N: WaitingNet> Spawner<N> for Threads {
    fn serve(&self, connection: LiveConnection<N>) -> io::Result<()> {
        let thread = thread::Builder::new().name("connection".into()).stack_size(STACK);
        thread.spawn(move || connection.run()).map(drop)
    }
}
