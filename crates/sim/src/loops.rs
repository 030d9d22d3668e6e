//! The turns of the real loops that are one thread.

use std::{io, time::Duration};

use roadstead_drivers::{proactor::Proactor, reactor::Reactor};

use crate::{
    contrary::Contrary,
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

impl Turns for Proactor<Contrary> {
    fn timeout(&mut self) -> Option<Duration> {
        self.timeout()
    }
    fn turn(&mut self) -> io::Result<bool> {
        self.turn()
    }
}
