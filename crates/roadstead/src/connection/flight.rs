//! The two operations that move a connection's bytes: which is in flight, and which rests.
//!
//! The system may have no room for one (`ENOBUFS`, `ENOMEM`). That is nobody's fault and soon over, so the operation is
//! asked for again after a rest, and all that is lost is time.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::accept::REST;

/// One of the two operations that move bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
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
    rests: Rests,
    until: Option<Duration>,
}

#[derive(Debug, Default)]
struct Rests {
    receive: bool,
    send: bool,
}

impl Flight {
    /// The system had no room for `transfer`, which rests.
    pub(crate) fn rest(&mut self, transfer: Transfer, now: Duration) {
        match transfer {
            Transfer::Receive => self.rests.receive = true,
            Transfer::Send => self.rests.send = true,
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
            let Rests { receive, send } = std::mem::take(&mut self.rests);
            self.receiving &= !receive;
            self.sending &= !send;
        }
    }
}
