//! A dispatcher and its workers, each on a thread of its own.
#![forbid(unsafe_code)]

use std::{io, sync::Arc};

use roadstead_drivers::{
    net::Net,
    reactor::{
        Poller,
        workers::{Claimed, Dispatcher, Line, OneShot},
    },
};
use roadstead_proto::host::Host;

use crate::threads::{STACK, Threads};

/// The loop of the I/O thread, and the threads of its workers, which are at work from the beginning. Dropping it waits
/// until each of them has ended.
pub struct IoWorkers<N: Net<Stream: Send + 'static>, P, O> {
    dispatcher: Dispatcher<N, P, O>,
    _workers: WorkerThreads<Claimed<N::Stream>>,
}

impl<N, P, O> IoWorkers<N, P, O>
where
    N: Net<Stream: Send + 'static> + Send + 'static,
    P: Poller<N>,
    O: OneShot<N> + Send + 'static,
{
    /// One worker for each of `parts`.
    pub fn start(
        dispatcher: Dispatcher<N, P, O>,
        parts: impl ExactSizeIterator<Item = (N, O, Host)>,
    ) -> io::Result<Self> {
        let bodies = parts.map(|(net, one_shot, host)| {
            let worker = dispatcher.worker(net, one_shot, host);
            move || worker.run()
        });
        let line = Arc::clone(&dispatcher.line);
        let threads = Threads::start("worker", STACK, bodies, || line.end())?;
        Ok(Self { dispatcher, _workers: WorkerThreads { line, threads } })
    }

    /// Runs until the server has drained or is stopped, and no connection is left.
    pub fn run(&mut self) -> io::Result<()> {
        self.dispatcher.run()
    }
}

struct WorkerThreads<M> {
    line: Arc<Line<M>>,
    threads: Threads,
}

impl<M> Drop for WorkerThreads<M> {
    fn drop(&mut self) {
        self.line.end();
        self.threads.join();
    }
}
