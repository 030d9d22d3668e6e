//! `pool`: a fixed number of threads take connections from a queue.
//!
//! A burst costs no threads, only waiting: what is admitted and finds no thread free waits in the queue, which the
//! budget of connections bounds. A slow client occupies its thread until one of its deadlines.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use super::{Begin, Core, Entry};
use crate::blocking::crew::{Living, STACK, Spawner};

/// The threads of a pool whose size nobody has chosen.
const SIZE: usize = 64;

/// What the list of models says of it.
pub(crate) const ENTRY: Entry = Entry {
    name: "pool",
    about: "fixed threads take connections from a queue",
    core: Core::Blocking,
    begin: Begin::Here(|mut parts| {
        // Its threads run their jobs themselves.
        let size = parts.take_workers().unwrap_or(SIZE);
        parts.crew(Pool::start(size)?)
    }),
};

/// The queue's end, and the threads at its other.
pub(crate) struct Pool(Mutex<Option<Hands>>);

struct Hands {
    queue: mpsc::Sender<Living>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `size` threads.
    fn start(size: usize) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = (0..size)
            .map(|number| {
                let waiting = Arc::clone(&waiting);
                let thread = thread::Builder::new().name(format!("pool-{number}")).stack_size(STACK);
                thread.spawn(move || {
                    while let Some(connection) = next(&waiting) {
                        connection.run();
                    }
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self(Mutex::new(Some(Hands { queue, threads }))))
    }
}

/// The connection that has waited longest; `None` when no more will come.
fn next(waiting: &Mutex<mpsc::Receiver<Living>>) -> Option<Living> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl Spawner for Pool {
    fn serve(&self, connection: Living) -> io::Result<()> {
        let hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = hands.as_ref().and_then(|hands| hands.queue.send(connection).ok());
        queued.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn end(&self) {
        let hands = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Hands { queue, threads }) = hands else { return };
        drop(queue);
        for thread in threads {
            // A session's panic is caught where it is called, so there is nothing to learn from a thread's end.
            let _ = thread.join();
        }
    }
}
