//! Panics of one socket's sessions: all are counted, and few are said.
//!
//! A stranger who has found a datagram that a session panics over sends it again and again, and each would be a line.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::host::Host;

/// From one line to the next.
const QUIET: Duration = Duration::from_secs(60);

/// The panics that nothing was said of yet, and when something may be said again.
#[derive(Debug, Default)]
pub(super) struct Panics {
    unsaid: u64,
    quiet_until: Duration,
}

impl Panics {
    /// Another one. Answers how many a line is to speak of; `None`: say nothing.
    pub(super) fn count(&mut self, now: Duration, host: &mut Host) -> Option<u64> {
        host.count.datagram_panics += 1;
        self.unsaid += 1;
        if now < self.quiet_until {
            return None;
        }
        self.quiet_until = now.saturating_add(QUIET);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, host::Shared};

    #[test]
    fn the_first_is_said_at_once_and_those_of_the_next_minute_together() {
        let mut host = Host::alone(Shared::new(Budget::default()), 1);
        let mut panics = Panics::default();
        let mut count = |seconds| panics.count(Duration::from_secs(seconds), &mut host);
        assert_eq!([5, 5, 64, 65, 66, 125].map(&mut count), [Some(1), None, None, Some(3), None, Some(2)]);
        assert_eq!(host.count.datagram_panics, 6);
    }
}
