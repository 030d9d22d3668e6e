//! The turns of the real loops that are one thread.

use std::{io, time::Duration};

use super::{
    sockets::{Sockets, Watcher},
    turns::Turns,
};
use crate::{
    proactor::{Proactor, emulated::Emulated},
    reactor::Reactor,
};

impl Turns for Reactor<Sockets, Watcher> {
    fn timeout(&mut self) -> Option<Duration> {
        self.timeout()
    }
    fn turn(&mut self) -> io::Result<bool> {
        self.turn()
    }
}

impl Turns for Proactor<Emulated<Sockets, Watcher>> {
    fn timeout(&mut self) -> Option<Duration> {
        self.timeout()
    }
    fn turn(&mut self) -> io::Result<bool> {
        self.turn()
    }
}
