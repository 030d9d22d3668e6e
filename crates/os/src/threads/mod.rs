//! Several threads: as many as were asked for, or none and why.
#![forbid(unsafe_code)]

pub mod datagrams;
pub mod each;
mod jobs;
mod kept;
mod loops;
pub mod pool;
pub mod server;

use std::{
    io,
    sync::mpsc,
    thread::{Builder, JoinHandle},
};

use crate::sockets;

/// What the system may not have enough of for a server to start.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system gives {had} of the {wanted} {what} that were asked for ({source}): ask for fewer, or raise its limits \
     (ulimit -u and -v; pids.max and memory.max of a cgroup)"
)]
pub struct TooFew {
    /// Threads or processes.
    pub what: &'static str,
    /// How many were asked for.
    pub wanted: usize,
    /// How many there were when there was no other. They have been taken back.
    pub had: usize,
    /// What the system said.
    pub source: io::Error,
}

impl From<TooFew> for io::Error {
    fn from(few: TooFew) -> Self {
        Self::new(few.source.kind(), few)
    }
}

/// The stack of a thread that nobody has chosen another for, in bytes.
pub(crate) const STACK: usize = 2 << 20;
/// What a thread needs beside its stack before it can say anything, in bytes: guard pages, and a stack for signals.
const BESIDE: usize = 256 << 10;

/// Threads that have begun.
#[derive(Debug)]
pub struct Threads {
    all: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts a thread for each of `bodies`, with stacks of that size.
    ///
    /// # Errors
    /// [`TooFew`], after `take_back` has been called, which tells those that have begun to end, and they have.
    pub fn start<B: FnOnce() + Send + 'static>(
        name: &str,
        stack: usize,
        bodies: impl ExactSizeIterator<Item = B>,
        take_back: impl FnOnce(),
    ) -> Result<Self, TooFew> {
        let (mut threads, wanted) = (Self { all: Vec::new() }, bodies.len());
        for (number, body) in bodies.enumerate() {
            match begin(format!("{name}-{number}"), stack, body) {
                Ok(thread) => threads.all.push(thread),
                Err(source) => {
                    take_back();
                    threads.join();
                    return Err(TooFew { what: "threads", wanted, had: number, source });
                }
            }
        }
        Ok(threads)
    }

    /// Waits until each has ended. False if one panicked.
    pub(crate) fn join(&mut self) -> bool {
        let panicked = self.all.drain(..).filter_map(|thread| thread.join().err()).count();
        if panicked > 0 {
            tracing::error!("a thread of the server's panicked");
        }
        panicked == 0
    }

    /// Leaves them to themselves.
    pub fn leave(&mut self) {
        self.all.clear();
    }
}

/// One after the other, and only where there is room: a thread that has its stack and then finds no room for what it
/// needs beside that ends the process.
fn begin(name: String, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    sockets::try_map(stack + BESIDE)?;
    let (begun, has_begun) = mpsc::channel();
    let thread = Builder::new().name(name).stack_size(stack).spawn(move || {
        // Nobody is gone who waits for it.
        let _ = begun.send(());
        drop(begun);
        body();
    })?;
    has_begun.recv().map_err(|_| io::ErrorKind::OutOfMemory)?;
    Ok(thread)
}
