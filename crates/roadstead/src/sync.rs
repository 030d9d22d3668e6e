//! What threads share things by: the standard library's. A test that plays all interleavings of a file's threads
//! includes that file, and brings a `sync` of its own.
#![forbid(unsafe_code)]

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
}
