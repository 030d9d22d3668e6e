//! A connection's operations: which is in flight, and which rests.
//!
//! The system may have no room for one (`ENOBUFS`, `ENOMEM`). That is nobody's fault and soon over, so the operation is
//! asked for again after a rest, and all that is lost is time. A connection that is being opened is tried again so
//! until its time is over. Ports that are used up (`EADDRNOTAVAIL`, `EAGAIN`: connect(2)) come back in minutes, or when
//! who opens connections closes some: that is for them to know.
#![forbid(unsafe_code)]

use std::{mem, time::Duration};

/// The most a connection is given at once, in bytes: the size of the block a loop receives into.
pub const BLOCK: usize = 64 << 10;

/// How long an operation pauses when the system has no memory for it.
pub const REST: Duration = Duration::from_millis(50);

/// What the system may have no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The connection is begun.
    Connect,
    /// Bytes come.
    Receive,
    /// Bytes go.
    Send,
}

/// What is in flight. An operation that rests counts as being so: nothing else may be asked for meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    pub(crate) receiving: bool,
    pub(crate) sending: bool,
    /// The connection is to be begun again.
    pub(crate) redials: bool,
    rests: Rests,
    until: Option<Duration>,
}

#[derive(Debug, Default)]
struct Rests {
    connect: bool,
    receive: bool,
    send: bool,
}

impl Flight {
    /// The system had no room for `operation`, which rests.
    pub(crate) fn rest(&mut self, operation: Operation, now: Duration) {
        match operation {
            Operation::Connect => self.rests.connect = true,
            Operation::Receive => self.rests.receive = true,
            Operation::Send => self.rests.send = true,
        }
        self.until = Some(now.saturating_add(REST));
    }

    /// When the rest is over, if there is one.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.until
    }

    /// Lets what has rested long enough be asked for again.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            let Rests { connect, receive, send } = mem::take(&mut self.rests);
            self.redials = connect;
            self.receiving &= !receive;
            self.sending &= !send;
        }
    }

    /// Whether the connection is to be begun again; true once.
    pub(crate) fn redials(&mut self) -> bool {
        mem::take(&mut self.redials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_is_asked_for_again_when_the_last_rest_is_over_and_what_does_not_is_not() {
        let mut flight = Flight { receiving: true, sending: true, ..Flight::default() };
        flight.rest(Operation::Send, Duration::ZERO);
        assert_eq!(flight.deadline(), Some(REST));
        flight.tick(REST - Duration::from_nanos(1));
        assert!(flight.sending, "it rests");
        flight.tick(REST);
        assert_eq!(
            (flight.receiving, flight.sending, flight.redials(), flight.deadline()),
            (true, false, false, None)
        );
        flight.rest(Operation::Receive, REST);
        flight.rest(Operation::Connect, REST * 2);
        assert_eq!(flight.deadline(), Some(REST * 3));
        flight.tick(REST * 2);
        assert!(flight.receiving && !flight.redials(), "both rest");
        flight.tick(REST * 3);
        assert_eq!((flight.receiving, flight.redials(), flight.redials()), (false, true, false), "once");
        flight.receiving = true;
        flight.tick(REST * 9);
        assert!(flight.receiving && flight.deadline().is_none(), "what has rested is forgotten");
    }
}
