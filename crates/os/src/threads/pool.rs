//! `pool`: a fixed number of threads take connections from a queue.
//!
//! A burst costs no threads, only waiting: what is admitted and finds no thread free waits in the queue, which the
//! budget of connections bounds. A slow client occupies its thread until one of its deadlines.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use roadstead_drivers::blocking::{
    server::{LiveConnection, Spawner},
    wait::WaitingNet,
};

use crate::threads::{Threads, TooFew, each::STACK};

/// The threads of a pool whose size nobody has chosen.
pub const SIZE: usize = 64;

/// The queue's end, and the threads at its other.
pub struct Pool<N: WaitingNet>(Mutex<Option<PoolThreads<N>>>);

struct PoolThreads<N: WaitingNet> {
    queue: Option<mpsc::Sender<LiveConnection<N>>>,
    threads: Threads,
}

impl<N: WaitingNet> Pool<N> {
    /// Starts `size` threads.
    pub fn start(size: usize) -> Result<Self, TooFew> {
        let (queue, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let bodies = (0..size).map(|_| {
            let waiting = Arc::clone(&waiting);
            move || {
                while let Some(connection) = next(&waiting) {
                    connection.run();
                }
            }
        });
        let mut queue = Some(queue);
        let threads = Threads::start("pool", STACK, bodies, || queue = None)?;
        Ok(Self(Mutex::new(Some(PoolThreads { queue, threads }))))
    }
}

/// No more will come.
impl<N: WaitingNet> Drop for PoolThreads<N> {
    fn drop(&mut self) {
        self.queue = None;
        self.threads.join();
    }
}

/// The connection that has waited longest; `None` when no more will come.
fn next<N: WaitingNet>(waiting: &Mutex<mpsc::Receiver<LiveConnection<N>>>) -> Option<LiveConnection<N>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl<N: WaitingNet> Spawner<N> for Pool<N> {
    fn serve(&self, connection: LiveConnection<N>) -> io::Result<()> {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = threads.as_ref().and_then(|threads| threads.queue.as_ref());
        queue.and_then(|queue| queue.send(connection).ok()).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn end(&self) {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(threads);
    }
}
