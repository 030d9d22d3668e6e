//! What a server counts: connections, bytes, system calls, sleeps.
//!
//! A loop counts in plain integers and adds them to the shared ones once per turn.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One loop's counts since it last reported.
        #[derive(Debug, Default, Clone)]
        pub(crate) struct Counters { $(pub(crate) $name: u64,)* }

        /// A server's counts, readable at any time.
        #[derive(Debug, Default)]
        pub struct Stats { $($name: AtomicU64,)* }

        /// What a server had counted at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            pub(crate) fn add(&self, more: &Counters) {
                $(if more.$name != 0 { self.$name.fetch_add(more.$name, Relaxed); })*
            }

            /// The counts now.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed),)* }
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
    /// Bytes received.
    bytes_in,
    /// Bytes sent.
    bytes_out,
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
