//! The queue that several threads take from: every job is run, and when it stops all threads end and nothing is kept.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../proto/src/queue/shared.rs"]
pub(crate) mod shared;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use loom::{
    sync::{Condvar, Mutex},
    thread::JoinHandle,
};
use shared::SharedQueue;

use crate::play;

/// A job of so many slices, which counts itself when it is done.
pub(crate) struct Task(u32, Arc<Done>);

#[derive(Default)]
struct Done(Mutex<u32>, Condvar);

impl Task {
    fn run(mut self, _: Duration) -> Option<Self> {
        self.0 -= 1;
        if self.0 > 0 {
            return Some(self);
        }
        *self.1.0.lock().unwrap() += 1;
        self.1.1.notify_one();
        None
    }
}

pub(crate) trait Discipline: Send {
    fn push(&mut self, task: Task);
    fn pop(&mut self) -> Option<(Task, Duration)>;
    fn is_ready(&self) -> bool;
}

impl Discipline for VecDeque<Task> {
    fn push(&mut self, task: Task) {
        self.push_back(task);
    }
    fn pop(&mut self) -> Option<(Task, Duration)> {
        Some((self.pop_front()?, Duration::MAX))
    }
    fn is_ready(&self) -> bool {
        !self.is_empty()
    }
}

#[allow(dead_code, reason = "nobody attaches here")]
pub(crate) enum Jobs {
    Shared { push: Box<dyn Fn(Task) + Send>, home: u64 },
}

/// A queue, and so many threads that work for it.
fn working(count: usize) -> (Arc<SharedQueue>, Vec<JoinHandle<()>>) {
    let queue = SharedQueue::new(Box::<VecDeque<Task>>::default());
    let worker = |_| {
        let queue = Arc::clone(&queue);
        loom::thread::spawn(move || queue.work(|never| match never {}))
    };
    let threads = (0..count).map(worker).collect();
    (queue, threads)
}

#[test]
fn every_job_is_run_and_the_threads_end() {
    play(2, || {
        let done = Arc::<Done>::default();
        let (queue, threads) = working(2);
        queue.push(Task(2, Arc::clone(&done)));
        queue.push(Task(1, Arc::clone(&done)));
        let mut count = done.0.lock().unwrap();
        while *count < 2 {
            count = done.1.wait(count).unwrap();
        }
        drop(count);
        queue.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn nothing_is_kept_of_a_queue_that_stops_at_any_moment() {
    play(3, || {
        let done = Arc::<Done>::default();
        let (queue, threads) = working(1);
        let pushing = {
            let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
            loom::thread::spawn(move || {
                queue.push(Task(2, Arc::clone(&done)));
                queue.push(Task(1, done));
            })
        };
        queue.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        pushing.join().unwrap();
        assert_eq!(Arc::strong_count(&done), 1, "a task that nobody will run");
    });
}
