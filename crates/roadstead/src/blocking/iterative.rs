//! `iterative`: one client at a time; the others wait in the backlog.
//!
//! The thread that accepts serves. Nothing can go wrong between two connections, because there never are two; but a
//! client that says nothing keeps all others waiting until its time for the first byte, or its idle time, is over.
#![forbid(unsafe_code)]

use std::io;

use super::{Begin, Core, Entry};
use crate::blocking::crew::{Living, Spawner};

/// What the list of models says of it.
pub(crate) const ENTRY: Entry = Entry {
    name: "iterative",
    about: "one client at a time",
    core: Core::Blocking,
    begin: Begin::Here(|parts| parts.crew(Iterative)),
};

/// Serves on the thread that accepts.
pub(crate) struct Iterative;

impl Spawner for Iterative {
    fn serve(&self, connection: Living) -> io::Result<()> {
        connection.run();
        Ok(())
    }
}
