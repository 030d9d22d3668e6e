//! The turns of the real loops that are one thread.

use std::{io, time::Duration};

use roadstead_drivers::{
    proactor::{Proactor, emulated::Emulated},
    reactor::Reactor,
};

use crate::{
    sockets::{Sockets, Watcher},
    turns::Turns,
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
