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
    crew::{Living, Spawner},
    wait::WaitingNet,
};

use crate::threads::each::STACK;
use crate::threads::{Threads, TooFew};

/// The threads of a pool whose size nobody has chosen.
pub const SIZE: usize = 64;

/// The queue's end, and the threads at its other.
pub struct Pool<N: WaitingNet>(Mutex<Option<Hands<N>>>);

struct Hands<N: WaitingNet> {
    queue: Option<mpsc::Sender<Living<N>>>,
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
        Ok(Self(Mutex::new(Some(Hands { queue, threads }))))
    }
}

/// No more will come.
impl<N: WaitingNet> Drop for Hands<N> {
    fn drop(&mut self) {
        self.queue = None;
        self.threads.join();
    }
}

/// The connection that has waited longest; `None` when no more will come.
fn next<N: WaitingNet>(waiting: &Mutex<mpsc::Receiver<Living<N>>>) -> Option<Living<N>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

impl<N: WaitingNet> Spawner<N> for Pool<N> {
    fn serve(&self, connection: Living<N>) -> io::Result<()> {
        let hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = hands.as_ref().and_then(|hands| hands.queue.as_ref());
        queue.and_then(|queue| queue.send(connection).ok()).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    fn end(&self) {
        let hands = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(hands);
    }
}
