//! `threads`: a thread per connection.
//!
//! The budget refuses a connection before the machine has to: ten thousand threads are the wall that gave C10K its
//! name.
#![forbid(unsafe_code)]

use std::io;

use super::{Begin, Core, Entry};
use crate::blocking::crew::{Living, Spawner, spawn};

/// What the list of models says of it.
pub(crate) const ENTRY: Entry = Entry {
    name: "threads",
    about: "a thread per connection",
    core: Core::Blocking,
    begin: Begin::Here(|parts| parts.crew(Threads)),
};

/// Starts a thread for every connection.
pub(crate) struct Threads;

impl Spawner for Threads {
    fn serve(&self, connection: Living) -> io::Result<()> {
        spawn(connection)
    }
}
