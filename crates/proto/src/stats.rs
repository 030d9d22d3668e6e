//! What a server counts: connections, bytes, system calls, sleeps.
//!
//! A loop counts in plain integers and adds them to its own shared ones once per turn. Each loop of a server has such
//! of its own, in cache lines that no other loop writes to.
#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::{budget::Refused, close::Closed, queue::TaskTimes};

/// The first are counted while connections come and go, all others also while they live.
macro_rules! counters {
    (
        seldom: $($(#[$seldom_doc:meta])* $seldom:ident),* ;
        often: $($(#[$often_doc:meta])* $often:ident),* $(,)?
    ) => {
        counters! {
            @all $($(#[$seldom_doc])* $seldom,)* $($(#[$often_doc])* $often,)*
            @add {
                $($often)*
            } {
                $($seldom)*
            }
        }
    };
    (
        @all $($(#[$doc:meta])* $name:ident,)*
        @add { $($often:ident)* } { $($seldom:ident)* }
    ) => {
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
            /// Connections open at that moment, and peers that datagram sessions remembered.
            pub open: usize,
            /// From how many addresses those of them came that sessions did not open.
            pub addresses: usize,
            /// Bytes that they held then.
            pub buffered: usize,
            /// Tickets that were outstanding then.
            pub tickets: usize,
            /// Jobs without a ticket that waited or were at work then.
            pub detached: usize,
            /// Jobs that were ready then: they waited in the queue. This and what follows is nothing on the models that
            /// fork, whose children have a queue each.
            pub waiting: usize,
            /// Jobs that were running then: at work.
            pub running: usize,
            /// What was blocked then: tickets that belonged to no job, so that a session waited for somebody else.
            pub blocked: usize,
            /// How often a job has given up its logic unit because its slice was over.
            pub sliced: u64,
            /// How often a session has waited for somebody else, and has held no logic unit meanwhile.
            pub awaited: u64,
            /// How long some of the jobs have waited and run.
            pub job_times: TaskTimes,
        }

        impl Stats {
            /// Adds what a loop has counted.
            pub fn add(&self, more: &Counters) {
                $(if more.$name != 0 { self.$name.fetch_add(more.$name, Relaxed); })*
            }

            /// The same where nobody else adds: without a locked instruction.
            pub(crate) fn add_alone(&self, more: &Counters) {
                let add = |count: &AtomicU64, more: u64| {
                    if more != 0 {
                        count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
                    }
                };
                $(add(&self.$often, more.$often);)*
                if more.has_seldom() {
                    $(add(&self.$seldom, more.$seldom);)*
                }
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
    seldom:
    /// Connections admitted.
    accepted,
    /// Connections turned away.
    refused,
    /// Of those, how many because as many are open as may be.
    refused_full,
    /// Of the refused, those whose address had as many open as one may have.
    refused_address,
    /// Of the refused, those for which the system had no descriptor.
    refused_descriptors,
    /// Of the refused, those that came when the server stopped.
    refused_stopped,
    /// Of the refused, those over whose session the service panicked.
    refused_panicked,
    /// Outgoing connections begun.
    connected,
    /// Connections that ended, in whatever way.
    closed,
    /// Of those, how many ended in good order.
    finished,
    /// All others.
    failed,
    /// Of the failed, those that their session or their layer refused to go on with.
    violations,
    /// Of the failed, those that passed a deadline or were too slow.
    late,
    /// Of the late, those whose first byte did not come in time.
    late_first_byte,
    /// Of the late, those that were idle for too long.
    late_idle,
    /// Of the late, those that were slower than the slowest may be.
    late_slowest,
    /// Of the late, those that did not end when it was their turn.
    late_linger,
    /// Of the late, outgoing ones that were not answered.
    late_connect,
    /// Of the failed, those that would have held more than the budget allows.
    too_large,
    /// Of the failed, those that the server's end cut off.
    stopped,
    /// Of the failed, those that the system or the network broke off, or a process that was lost.
    broken,
    /// Processes begun to serve, on the models that fork.
    children,
    /// Of those that have ended while it served, the ones that were killed or exited with a status other than 0.
    children_failed;
    often:
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
    /// Datagrams that were not sent for want of room, of a way, or because of a cap.
    datagrams_dropped,
    /// Sessions of datagram sockets that panicked, or that their service panicked over.
    datagram_panics,
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

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The budget has no room for it.
    Budget(Refused),
    /// The system has no descriptor for it.
    Descriptors,
    /// The server stopped.
    Stopped,
    /// The service panicked when it was to open a session.
    Panicked,
}

impl Counters {
    /// Counts the end of a connection.
    pub(crate) fn close(&mut self, why: &Closed) {
        self.closed += 1;
        let reason = match why {
            Closed::Finished => {
                self.finished += 1;
                return;
            }
            Closed::Violation(_) | Closed::Unread(_) | Closed::Unsendable => &mut self.violations,
            Closed::Silent => self.is_late(|counters| &mut counters.late_first_byte),
            Closed::Idle => self.is_late(|counters| &mut counters.late_idle),
            Closed::Slow(_) => self.is_late(|counters| &mut counters.late_slowest),
            Closed::Unended => self.is_late(|counters| &mut counters.late_linger),
            Closed::Unanswered => self.is_late(|counters| &mut counters.late_connect),
            Closed::TooLarge(_) | Closed::Overflow(_) | Closed::OutOfMemory(_) => &mut self.too_large,
            Closed::Stopped => &mut self.stopped,
            Closed::System(_) => &mut self.broken,
        };
        *reason += 1;
        self.failed += 1;
    }

    /// Counts the passed deadline; where late connections are counted.
    fn is_late(&mut self, deadline: fn(&mut Self) -> &mut u64) -> &mut u64 {
        *deadline(self) += 1;
        &mut self.late
    }

    /// Counts a connection that is turned away.
    pub fn refuse(&mut self, why: Refusal) {
        let reason = match why {
            Refusal::Budget(Refused::Full(_)) => &mut self.refused_full,
            Refusal::Budget(Refused::Address(_)) => &mut self.refused_address,
            Refusal::Descriptors => &mut self.refused_descriptors,
            Refusal::Stopped => &mut self.refused_stopped,
            Refusal::Panicked => &mut self.refused_panicked,
        };
        *reason += 1;
        self.refused += 1;
    }

    /// Whether a connection has come or gone.
    fn has_seldom(&self) -> bool {
        self.accepted | self.refused | self.connected | self.closed != 0
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
    fn a_good_end_is_counted_as_one_and_a_late_one_by_the_deadline_that_it_passed() {
        let mut counters = Counters::default();
        let late = [Closed::Silent, Closed::Idle, Closed::Slow(1), Closed::Unended, Closed::Unanswered];
        for (times, why) in (1..).zip(late) {
            (0..times).for_each(|_| counters.close(&why));
        }
        (0..6).for_each(|_| counters.close(&Closed::Finished));
        let Counters { late_first_byte, late_idle, late_slowest, late_linger, late_connect, .. } = counters;
        assert_eq!([late_first_byte, late_idle, late_slowest, late_linger, late_connect], [1, 2, 3, 4, 5]);
        assert_eq!((counters.late, counters.failed, counters.finished, counters.closed), (15, 15, 6, 21));
    }

    #[test]
    fn who_is_turned_away_is_counted_once_and_by_the_reason() {
        let mut counters = Counters::default();
        let reasons = [
            Refusal::Budget(Refused::Full(1)),
            Refusal::Budget(Refused::Address(1)),
            Refusal::Descriptors,
            Refusal::Stopped,
            Refusal::Panicked,
        ];
        for (times, why) in (1..).zip(reasons) {
            (0..times).for_each(|_| counters.refuse(why));
        }
        let Counters { refused_full, refused_address, refused_descriptors, .. } = counters;
        let Counters { refused_stopped, refused_panicked, refused, .. } = counters;
        let each = [refused_full, refused_address, refused_descriptors, refused_stopped, refused_panicked];
        assert_eq!((each, refused), ([1, 2, 3, 4, 5], 15));
    }

    #[test]
    fn what_a_loop_adds_alone_is_the_same_whether_somebody_came_or_went() {
        for came in [Counters::default(), Counters { accepted: 1, ..Counters::default() }] {
            for went in [Counters::default(), Counters { late_idle: 2, closed: 2, ..Counters::default() }] {
                let more = Counters { accepted: came.accepted, bytes_in: 7, waits: 1, ..went };
                let (alone, together) = (Stats::default(), Stats::default());
                (0..2).for_each(|_| alone.add_alone(&more));
                (0..2).for_each(|_| together.add(&more));
                assert_eq!(alone.snapshot(), together.snapshot());
            }
        }
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
