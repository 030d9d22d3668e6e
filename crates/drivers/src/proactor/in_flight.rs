//! Which of a connection's operations are in flight. A completion of any other is ignored: it would be taken for the
//! end of one that still works on the connection's memory.
#![forbid(unsafe_code)]

use std::mem;

use roadstead_proto::connection::Operation;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(crate) connect: bool,
    pub(crate) receive: bool,
    pub(crate) send: Sending,
}

/// How far a send is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    #[default]
    Idle,
    Works,
    /// Its peer has no room: it waits for that.
    Full,
}

impl InFlight {
    pub(crate) fn is_empty(&self) -> bool {
        !self.connect && !self.receive && self.send == Sending::Idle
    }

    /// Takes note of an operation's end. False if it was not in flight.
    pub(crate) fn end(&mut self, operation: Operation) -> bool {
        match operation {
            Operation::Connect => mem::take(&mut self.connect),
            Operation::Receive => mem::take(&mut self.receive),
            Operation::Send => mem::take(&mut self.send) != Sending::Idle,
        }
    }
}
