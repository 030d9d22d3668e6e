//! The queue that several threads take from: every job is run, and when it stops all threads end and nothing is kept.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/queue/shared.rs"]
mod workers;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use loom::sync::{Condvar, Mutex};
use workers::Workers;

use crate::play;

/// A job of so many slices, which counts itself when it is done.
struct Task(u32, Arc<Done>);

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

trait Discipline: Send {
    fn push(&mut self, task: Task);
    fn pop(&mut self) -> Option<(Task, Duration)>;
}

impl Discipline for VecDeque<Task> {
    fn push(&mut self, task: Task) {
        self.push_back(task);
    }
    fn pop(&mut self) -> Option<(Task, Duration)> {
        Some((self.pop_front()?, Duration::MAX))
    }
}

struct Queue;

impl Queue {
    fn discipline(&self) -> Box<dyn Discipline> {
        Box::new(VecDeque::new())
    }
}

#[allow(dead_code, reason = "nobody attaches here")]
enum Jobs {
    Workers { push: Box<dyn Fn(Task) + Send>, home: u64 },
}

#[test]
fn every_job_is_run_and_the_threads_end() {
    play(2, || {
        let done = Arc::<Done>::default();
        let (workers, mut threads) = Workers::start(2, Queue, &()).unwrap();
        workers.push(Task(2, Arc::clone(&done)));
        workers.push(Task(1, Arc::clone(&done)));
        let mut count = done.0.lock().unwrap();
        while *count < 2 {
            count = done.1.wait(count).unwrap();
        }
        drop(count);
        workers.stop();
        threads.join();
    });
}

#[test]
fn nothing_is_kept_of_a_queue_that_stops_at_any_moment() {
    play(3, || {
        let (done, alive) = (Arc::<Done>::default(), Arc::new(()));
        let (workers, mut threads) = Workers::start(1, Queue, &alive).unwrap();
        let alive = Arc::downgrade(&{ alive });
        let pushing = {
            let (workers, done) = (Arc::clone(&workers), Arc::clone(&done));
            loom::thread::spawn(move || {
                workers.push(Task(2, Arc::clone(&done)));
                workers.push(Task(1, done));
            })
        };
        workers.stop();
        threads.join();
        pushing.join().unwrap();
        assert_eq!(Weak::strong_count(&alive), 0, "what the threads held");
        assert_eq!(Arc::strong_count(&done), 1, "a task that nobody will run");
    });
}
