//! The logic units of a server: threads that run its jobs, if there are any.
#![forbid(unsafe_code)]

use std::{convert::Infallible, io, sync::Arc};

use roadstead_proto::{
    guard,
    queue::{Jobs, Queue, SharedQueue},
};

use crate::{
    ending::Ending,
    threads::{STACK, Threads},
};

/// The logic units. Dropping them lets each finish the job it is at, and waits for that unless it is done in a job.
#[derive(Debug)]
pub(super) struct JobThreads<T: Send + 'static = Infallible> {
    pub(super) queue: Arc<SharedQueue<T>>,
    pub(super) threads: Threads,
}

impl JobThreads {
    /// As many as are asked for; none if the loops are to run the jobs themselves.
    pub(super) fn of(workers: usize, queue: Queue, ending: &Ending) -> io::Result<Option<Self>> {
        if workers == 0 {
            return Ok(None);
        }
        let queue = SharedQueue::new(queue.discipline());
        let bodies = (0..workers).map(|_| {
            let (queue, ending) = (Arc::clone(&queue), ending.clone());
            move || {
                queue.work(|never| match never {});
                drop(ending);
            }
        });
        let threads = Threads::start("logic", STACK, bodies, || queue.stop())?;
        Ok(Some(Self { queue, threads }))
    }

    /// What is to be told to stop when the loops have ended.
    pub(super) fn queue(job_threads: Option<&Self>) -> Option<Arc<SharedQueue>> {
        job_threads.map(|job_threads| Arc::clone(&job_threads.queue))
    }

    /// Makes what a loop puts its jobs into.
    pub(super) fn jobs(job_threads: Option<&Self>, queue: Queue) -> impl Fn() -> Jobs + use<> {
        let shared = Self::queue(job_threads);
        move || shared.as_ref().map_or_else(|| Jobs::Inline(queue.discipline()), |queue| queue.attach())
    }
}

impl<T: Send + 'static> JobThreads<T> {
    /// False if one is known to have panicked.
    pub(super) fn end(&mut self) -> bool {
        self.queue.stop();
        guard::is_inside() || self.threads.join()
    }
}

impl<T: Send + 'static> Drop for JobThreads<T> {
    fn drop(&mut self) {
        self.end();
    }
}
