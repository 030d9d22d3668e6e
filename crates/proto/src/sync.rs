//! What threads share things by: the standard library's. A test that plays all interleavings of a file's threads
//! includes that file, and brings a `sync` of its own.
#![forbid(unsafe_code)]

pub use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

/// What is shared without a lock.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
}
