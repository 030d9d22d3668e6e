//! Which of a connection's operations are in flight. A completion of any other is ignored: it would be taken for the
//! end of one that still works on the connection's memory.
#![forbid(unsafe_code)]

use std::mem;

use roadstead_proto::connection::Operation;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(crate) connect: bool,
    /// Up to so many bytes may still come.
    pub(crate) receive: Option<usize>,
    pub(crate) send: Sending,
    /// A part of a file is being read, into so many pages.
    pub(super) read: Option<usize>,
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
        !self.connect && self.receive.is_none() && self.send == Sending::Idle && self.read.is_none()
    }

    /// Takes note of a receive's end, or if there may be more of it of a part. False if it was not in flight.
    pub(super) fn received(&mut self, count: usize, more: bool) -> bool {
        let Some(credit) = self.receive else { return false };
        debug_assert!(count < credit || count == credit && !more, "no more comes than was asked for");
        self.receive = more.then(|| credit.saturating_sub(count));
        true
    }

    /// Takes note of an operation's end. False if it was not in flight.
    pub(crate) fn end(&mut self, operation: Operation) -> bool {
        match operation {
            Operation::Connect => mem::take(&mut self.connect),
            Operation::Receive => self.receive.take().is_some(),
            Operation::Send => mem::take(&mut self.send) != Sending::Idle,
        }
    }
}
