//! How a connection keeps to its caps: it asks for leave to send, in portions, and waits until that begins.
//!
//! Its send is not asked for before; a deadline wakes it then. The peer is not at fault for the wait: none of its
//! deadlines runs meanwhile, and those that ran before go on where they were. Nothing is here of a connection without a
//! cap.
#![forbid(unsafe_code)]

use std::{mem, time::Duration};

use super::{Connection, Phase};
use crate::session::Session;

impl<S: Session> Connection<S> {
    /// Takes leave to send what is there, if there is a cap and it has none.
    #[inline]
    pub(super) fn take_leave(&mut self, now: Duration) {
        if self.pace.is_some() {
            self.ask_leave(now);
        }
    }

    #[cold]
    fn ask_leave(&mut self, now: Duration) {
        let Some(pace) = &mut self.pace else { return };
        if self.phase != Phase::Open || self.flight.sending || self.output.is_empty() {
            return;
        }
        if pace.leave == 0 {
            let waits = if self.output.has_file() { u64::MAX } else { self.output.buffered() as u64 };
            pace.ask(waits, now, &self.shared);
        }
        if self.waits {
            pace.give_way(&self.shared);
        }
        if now < pace.from {
            if !mem::replace(&mut self.waits, true) {
                pace.since = now;
            }
            return;
        }
        self.output.allow(pace.leave);
        if mem::take(&mut self.waits) {
            let waited = now.saturating_sub(pace.since);
            (self.active, self.control.resumed) = (now, now);
            self.burden = self.burden.map(|slow| slow.saturating_add(waited));
        }
    }

    /// So many bytes were sent, or none ever will be.
    #[inline]
    pub(super) fn use_leave(&mut self, count: u64, now: Duration) {
        if let Some(pace) = &mut self.pace {
            pace.sent(count, now, &self.shared);
        }
    }
}
