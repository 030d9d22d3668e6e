//! What a server counts: connections, bytes, system calls, sleeps.
//!
//! A loop counts in plain integers and adds them to its own shared ones once per turn. Each loop of a server has such
//! of its own, in cache lines that no other loop writes to.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::close::Closed;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One loop's counts since it last reported.
        #[derive(Debug, Default, Clone)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        /// The counts of a server, or of one of its loops; readable at any time. Aligned so that no two of them share a
        /// cache line, or a pair of lines that is fetched together.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Stats {
            $($name: AtomicU64,)*
            /// What its loop has in reserve, in bytes.
            pub(crate) reserved: AtomicUsize,
        }

        /// What a server had counted at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections open at that moment.
            pub open: usize,
            /// From how many addresses those of them came that were accepted.
            pub addresses: usize,
            /// Bytes that they held then.
            pub buffered: usize,
            /// Tickets that were outstanding then.
            pub tickets: usize,
            /// Jobs without a ticket that waited or were at work then.
            pub detached: usize,
        }

        impl Stats {
            /// Adds what a loop has counted.
            pub fn add(&self, more: &Counters) {
                $(if more.$name != 0 { self.$name.fetch_add(more.$name, Relaxed); })*
            }

            /// The same where nobody else adds: without a locked instruction.
            pub(crate) fn add_alone(&self, more: &Counters) {
                $(if more.$name != 0 {
                    self.$name.store(self.$name.load(Relaxed).wrapping_add(more.$name), Relaxed);
                })*
            }

            /// The counts now, of what is held then nothing.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed),)* ..Snapshot::default() }
            }
        }

        impl Snapshot {
            /// Adds what another loop has counted, and nothing of what is held.
            pub(crate) fn add(&mut self, other: &Snapshot) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Connections admitted.
    accepted,
    /// Connections turned away by the budget.
    refused,
    /// Outgoing connections begun.
    connected,
    /// Connections that ended, in whatever way.
    closed,
    /// Of those, how many did not end in good order.
    failed,
    /// Of the failed, those that their session or their layer refused to go on with.
    violations,
    /// Of the failed, those that passed a deadline or were too slow.
    late,
    /// Of the failed, those that would have held more than the budget allows.
    too_large,
    /// Of the failed, those that the server's end cut off.
    stopped,
    /// Of the failed, those that the system or the network broke off, or a process that was lost.
    broken,
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
    /// Datagrams received.
    datagrams_in,
    /// Of those, how many were longer than the place for them.
    datagrams_truncated,
    /// Datagrams sent.
    datagrams_out,
    /// Datagrams that were not sent, because they would have made more of a forged request than it was.
    datagrams_withheld,
    /// Datagrams that were not sent for want of room, or of a way.
    datagrams_dropped,
    /// System calls made for receiving.
    receives,
    /// System calls made for sending.
    sends,
    /// System calls made to wait.
    waits,
    /// How many of the waits slept.
    sleeps,
    /// Jobs and detached tasks queued.
    jobs,
}

impl Counters {
    /// Counts the end of a connection.
    pub(crate) fn close(&mut self, why: &Closed) {
        self.closed += 1;
        let reason = match why {
            Closed::Finished => return,
            Closed::Violation(_) | Closed::Unread(_) | Closed::Unsendable => &mut self.violations,
            Closed::Silent | Closed::Idle | Closed::Slow(_) | Closed::Unended | Closed::Unanswered => {
                &mut self.late
            }
            Closed::TooLarge(_) | Closed::Overflow(_) | Closed::OutOfMemory(_) => &mut self.too_large,
            Closed::Stopped => &mut self.stopped,
            Closed::System(_) => &mut self.broken,
        };
        *reason += 1;
        self.failed += 1;
    }

    /// Counts connections that nobody could count who served them.
    pub fn lose(&mut self, count: u64) {
        self.closed += count;
        self.failed += count;
        self.broken += count;
    }
}

/// Where several processes count together.
pub trait Counted: Send + Sync + fmt::Debug {
    /// What all processes have counted.
    fn stats(&self) -> &Stats;
    /// The same, and what they hold.
    fn snapshot(&self) -> Snapshot;
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What an end is counted as beside being one: failed, violations, late, too large, stopped, broken.
    fn counted(why: &Closed) -> [u64; 6] {
        let mut counters = Counters::default();
        counters.close(why);
        assert_eq!(counters.closed, 1, "{why}");
        let Counters { failed, violations, late, too_large, stopped, broken, .. } = counters;
        [failed, violations, late, too_large, stopped, broken]
    }

    #[test]
    fn every_end_is_counted_for_what_it_was() {
        assert_eq!(counted(&Closed::Finished), [0; 6]);
        for why in [Closed::Violation("".into()), Closed::Unread(1), Closed::Unsendable] {
            assert_eq!(counted(&why), [1, 1, 0, 0, 0, 0], "{why:?}");
        }
        for why in [Closed::Silent, Closed::Idle, Closed::Slow(1), Closed::Unended, Closed::Unanswered] {
            assert_eq!(counted(&why), [1, 0, 1, 0, 0, 0], "{why:?}");
        }
        for why in [Closed::TooLarge(1), Closed::Overflow(1), Closed::OutOfMemory(1)] {
            assert_eq!(counted(&why), [1, 0, 0, 1, 0, 0], "{why:?}");
        }
        assert_eq!(counted(&Closed::Stopped), [1, 0, 0, 0, 1, 0]);
        assert_eq!(counted(&Closed::System(io::ErrorKind::ConnectionReset.into())), [1, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_is_added_is_added_to_its_own_count_and_what_is_lost_is_broken() {
        let stats = Stats::default();
        let mut counters = Counters { accepted: 5, bytes_in: 7, ..Counters::default() };
        counters.lose(2);
        stats.add(&counters);
        stats.add(&counters);
        let twice =
            Snapshot { accepted: 10, closed: 4, failed: 4, broken: 4, bytes_in: 14, ..Snapshot::default() };
        assert_eq!(stats.snapshot(), twice);
    }
}
