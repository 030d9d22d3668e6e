//! A signal that a program handles and that says nothing to it: what it does is to interrupt a call.

use std::{io, sync::Arc};

use rustix::{process::Signal, thread::gettid};

// SAFETY: the C library has this function with this signature, and it takes nothing but numbers.
unsafe extern "C" {
    safe fn tgkill(process: i32, thread: i32, signal: i32) -> i32;
}

const SIGNAL: i32 = Signal::USR1.as_raw();

/// From now on this process takes the signal, and goes on.
pub fn allow() -> io::Result<()> {
    signal_hook::flag::register(SIGNAL, Arc::default()).map(drop)
}

/// Interrupts a thread in its call. Whether there still is one does not matter.
pub fn interrupt(process: i32, thread: i32) {
    tgkill(process, thread, SIGNAL);
}

/// The number of the thread that asks.
pub fn own_thread() -> i32 {
    gettid().as_raw_nonzero().get()
}
