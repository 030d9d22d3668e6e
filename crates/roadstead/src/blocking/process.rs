//! `process`: a child process for each connection. fork(2).
//!
//! The parent accepts, and hands the connection over by forking. A child that crashes takes its own connection with it
//! and nothing else; what it does to its memory no other sees. The price is a fork for every connection.
#![forbid(unsafe_code)]

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use super::{Begin, Core, Entry};
use crate::{
    accept::{self, Taken},
    blocking::family::{Family, Strategy},
    budget::Refused,
    net::{Net, REST},
    service::Peer,
};

/// There are never more processes than that, whatever the budget: proc(5), `pid_max`.
const PROCESSES: usize = 1 << 22;

/// What the list of models says of it.
pub(crate) const ENTRY: Entry = Entry {
    name: "process",
    about: "a child process per connection",
    core: Core::Blocking,
    begin: Begin::Forking {
        size: |budget, _| budget.connections.min(PROCESSES),
        strategy: |size| Box::new(Process::new(size)),
    },
};

/// A child for each connection.
pub(crate) struct Process {
    size: usize,
    /// The system had no room for another connection.
    resting: Option<Instant>,
}

impl Process {
    /// At most so many at once.
    fn new(size: usize) -> Self {
        Self { size, resting: None }
    }

    /// Asks the budget about a connection, and begins its child.
    fn admit(&self, family: &mut Family, stream: OwnedFd, peer: Peer) {
        let full = Refused::Full(self.size);
        let slot = family.free_slot().ok_or(full).and_then(|slot| {
            family.ledger.occupy(slot);
            family.ledger.admit(slot, peer.address.ip(), &family.plan.budget).map(|()| slot)
        });
        match slot {
            Ok(slot) => hand_over(family, slot, stream, peer),
            Err(why) => {
                accept::refused(peer, why);
                family.host.count.refused += 1;
                family.net.close(stream, true);
            }
        }
    }
}

impl Strategy for Process {
    fn accepts(&self) -> bool {
        self.resting.is_none()
    }

    fn tend(&mut self, family: &mut Family) -> Option<Instant> {
        self.resting = self.resting.filter(|&until| until > Instant::now());
        if self.resting.is_some() {
            return self.resting;
        }
        // One of each: the parent has no connections of its own that an accept could keep waiting, only signals, and next
        // to a fork it costs nothing to look for those every time.
        for listener in 0..family.listeners.len() {
            match accept::take(&mut family.net, &family.listeners[listener]) {
                Taken::One(stream, peer) => self.admit(family, stream, peer),
                Taken::Shed => family.host.count.refused += 1,
                Taken::Lost | Taken::Empty => {}
                Taken::Exhausted => {
                    self.resting = Some(Instant::now() + REST);
                    return self.resting;
                }
            }
        }
        None
    }

    fn ended(&mut self, _: usize, _: Duration) {}
}

/// Begins the child of one connection. If the system has no process left the connection is closed.
fn hand_over(family: &mut Family, slot: usize, stream: OwnedFd, peer: Peer) {
    // Counted before there is a child that could count its end.
    family.host.count.accepted += 1;
    family.host.report();
    let mut one = Some((stream, peer));
    if let Err(error) = family.begin(slot, "connection", &mut one) {
        tracing::warn!(%error, "no process could be had for a connection; it is closed");
        one.into_iter().for_each(|(stream, _)| family.net.close(stream, true));
        family.lost(slot);
    }
}
