//! `process`: a child process for each connection. fork(2).
//!
//! The parent accepts, and hands the connection over by forking. A child that crashes takes its own connection with it
//! and nothing else; what it does to its memory no other sees. The price is a fork for every connection.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use roadstead_drivers::{
    accept::{self, Taken},
    net::REST,
};

use roadstead_proto::stats::Refusal;

use crate::processes::parent::{Forking, ParentProcess};

/// There are never more processes than that, whatever the budget: proc(5), `pid_max`.
pub const PROCESSES: usize = 1 << 22;

/// A child for each connection.
#[derive(Default)]
pub struct Process {
    /// The system had no room for another connection.
    resting: Option<Instant>,
}

impl Forking for Process {
    fn accepts(&self) -> bool {
        self.resting.is_none()
    }

    fn tend(&mut self, parent: &mut ParentProcess) -> Option<Instant> {
        self.resting = self.resting.filter(|&until| until > Instant::now());
        if self.resting.is_some() {
            return self.resting;
        }
        // One of each: the parent has no connections of its own that an accept could keep waiting, only signals, and
        // next to a fork it costs nothing to look for those every time.
        for listener in 0..parent.listeners.len() {
            match accept::take(&mut parent.net, &parent.listeners[listener]) {
                Taken::One(stream, peer) => parent.admit(stream, peer),
                Taken::Shed => parent.host.count.refuse(Refusal::Descriptors),
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
