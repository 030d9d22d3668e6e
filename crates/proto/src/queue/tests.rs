//! What holds for every discipline, and tasks that say which they are.
#![allow(clippy::unwrap_used)]

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    budget::Meter,
    guard,
    service::JobId,
    ticket::{Mailbox, Ticket, Token},
};

thread_local! {
    /// The task that ran last on this thread.
    static RAN: Cell<usize> = const { Cell::new(usize::MAX) };
    /// How many have run.
    static RAN_ALL: Cell<usize> = const { Cell::new(0) };
}

struct Numbered {
    number: usize,
    slices: usize,
}

impl Job for Numbered {
    type Reply = ();
    fn run(&mut self, _: Duration) -> Step<()> {
        RAN.set(self.number);
        RAN_ALL.set(RAN_ALL.get() + 1);
        self.slices -= 1;
        if self.slices > 0 { Step::More } else { Step::Done(()) }
    }
}

/// A task of one slice.
pub(crate) fn task(number: usize, owner: u64, cost: u64) -> Task {
    Task::detached(Token(owner), cost, Numbered { number, slices: 1 })
}

/// A task of so many slices.
pub(super) fn sliced(number: usize, owner: u64, slices: usize) -> Task {
    Task::detached(Token(owner), 0, Numbered { number, slices })
}

/// Which task this is, and what is left of it after a slice.
pub(crate) fn run(task: Task) -> (usize, Option<Task>) {
    let rest = task.run(Duration::ZERO);
    (RAN.get(), rest)
}

/// Runs all that waits, slice by slice.
pub(crate) fn order(queue: &mut dyn Discipline) -> Vec<usize> {
    let mut order = Vec::new();
    while let Some((task, _)) = queue.pop() {
        let (number, rest) = run(task);
        order.push(number);
        rest.into_iter().for_each(|task| queue.push(task));
    }
    order
}

/// How many tasks are taken until task `wanted` is, if before each another one of `stream` comes.
pub(super) fn pops_until(queue: &mut dyn Discipline, wanted: usize, stream: impl Fn(usize) -> Task) -> u64 {
    for taken in 1.. {
        queue.push(stream(1000 + taken));
        let (number, rest) = run(queue.pop().unwrap().0);
        rest.into_iter().for_each(|task| queue.push(task));
        if number == wanted {
            return taken as u64;
        }
        assert!(taken < 100_000, "it starves");
    }
    0
}

#[test]
fn every_name_finds_its_queue() {
    for queue in Queue::ALL {
        assert_eq!(queue.to_string().parse(), Ok(queue));
    }
    assert!("lifo".parse::<Queue>().unwrap_err().to_string().contains("mlfq"));
}

#[test]
fn a_sliced_job_is_not_run_to_its_end_in_one_go() {
    for queue in Queue::ALL {
        let mut jobs = Jobs::Inline(queue.discipline());
        jobs.push(sliced(0, 0, 3));
        let mut slices = 0;
        while jobs.run_one().is_some() {
            slices += 1;
            assert_eq!(jobs.are_ready(), slices < 3, "{queue} after slice {slices}");
        }
        assert_eq!(slices, 3, "{queue}");
    }
}

#[test]
fn a_turn_of_the_loop_is_a_slice_or_many_whole_jobs_but_not_all() {
    for (queue, in_one_turn) in [(Queue::Fcfs, 64), (Queue::Sjf, 64), (Queue::Rr, 1), (Queue::Mlfq, 1)] {
        let mut jobs = Jobs::Inline(queue.discipline());
        (0..65).for_each(|number| jobs.push(task(number, number as u64, 0)));
        RAN_ALL.set(0);
        assert!(jobs.run_turn());
        assert_eq!(RAN_ALL.get(), in_one_turn, "{queue}");
        while jobs.run_turn() {}
        assert_eq!(RAN_ALL.get(), 65, "{queue}");
    }
}

#[test]
fn loops_that_share_workers_have_connections_of_their_own() {
    let queue: Arc<SharedQueue> = SharedQueue::new(Queue::Rr.discipline());
    let mut loops = [queue.attach(), queue.attach()];
    loops[0].push(task(0, 7, 0));
    loops[0].push(task(1, 7, 0));
    loops[1].push(task(2, 7, 0));
    let mut state = queue.state.lock().unwrap();
    assert_eq!(order(&mut *state.queue), [0, 2, 1]);
}

/// A queue, and a thread that works for it.
fn working() -> (Arc<SharedQueue>, JoinHandle<()>) {
    let queue = SharedQueue::new(Queue::Fcfs.discipline());
    let worker = Arc::clone(&queue);
    (queue, thread::spawn(move || worker.work(|never| match never {})))
}

/// Panics when it is dropped; done before, or never.
struct Bomb(Step<()>);

impl Job for Bomb {
    type Reply = ();
    fn run(&mut self, _: Duration) -> Step<()> {
        self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop of the test that is meant to panic");
    }
}

#[test]
fn a_job_may_panic_wherever_it_is_dropped() {
    let (queue, worker) = working();
    let (sender, done) = mpsc::channel();
    let mut jobs = queue.attach();
    for step in [Step::Done(()), Step::More] {
        jobs.push(Task::detached(Token(0), 0, Bomb(step)));
    }
    jobs.push(Task::detached(Token(0), 0, Once(Some(move || sender.send(()).unwrap()))));
    done.recv().unwrap();
    queue.stop();
    worker.join().unwrap();
    jobs.push(Task::detached(Token(0), 0, Bomb(Step::More)));
    let mut jobs = Jobs::Inline(Queue::Fcfs.discipline());
    for step in [Step::Done(()), Step::More] {
        jobs.push(Task::detached(Token(0), 0, Bomb(step)));
    }
    assert_eq!(jobs.run_one(), Some(Run::Whole));
    drop(jobs);
    assert!(guard::take().is_some_and(|said| said.contains("meant to panic")));
}

#[test]
fn a_panic_takes_its_own_job_only() {
    let (sender, done) = mpsc::channel();
    let (queue, worker) = working();
    let mut jobs = queue.attach();
    let broken = || panic!("a job of the test that is meant to fail");
    jobs.push(Task::detached(Token(0), 0, Once(Some(broken))));
    jobs.push(Task::detached(Token(0), 0, Once(Some(move || sender.send(()).unwrap()))));
    done.recv().unwrap();
    queue.stop();
    worker.join().unwrap();
}

#[test]
fn a_turn_goes_before_what_is_deferred_and_keeps_none_of_it_waiting_for_ever() {
    let queue = SharedQueue::<char>::new(Queue::Fcfs.discipline());
    let jobs = [(); 2].map(|()| queue.attach());
    for (number, mut jobs) in jobs.into_iter().enumerate() {
        jobs.push(task(number, 0, 0));
    }
    RAN_ALL.set(0);
    queue.push_turn('a');
    assert!(queue.work_once(|name| (name == 'a').then_some('b')));
    assert_eq!(RAN_ALL.get(), 0);
    for given in 1..100 {
        assert!(queue.work_once(Some), "it is due again and again");
        if RAN_ALL.get() == 2 {
            assert!(given > 15, "jobs are begun while a connection waits");
            return;
        }
    }
    panic!("jobs starve");
}

#[test]
fn nothing_is_done_of_a_queue_that_has_stopped() {
    let queue = SharedQueue::<char>::new(Queue::Fcfs.discipline());
    queue.push_turn('a');
    queue.stop();
    queue.push_turn('b');
    queue.attach().push(task(0, 0, 0));
    assert!(!queue.work_once(|_| panic!("a turn")) && !queue.has_next());
    queue.work(|_| panic!("a turn"));
}

#[test]
fn who_has_a_turn_when_the_queue_stops_has_no_other() {
    let queue = SharedQueue::<char>::new(Queue::Fcfs.discipline());
    queue.push_turn('a');
    let stops = |name| {
        queue.stop();
        Some(name)
    };
    assert!(queue.work_once(stops) && !queue.has_next());
}

#[test]
fn the_work_of_whoever_has_left_is_not_done() {
    for leaves in [false, true] {
        let mailbox = Mailbox::new(Arc::default());
        let ticket = Ticket::new(Arc::clone(&mailbox), JobId(0), Meter::new(1).charge(1).unwrap());
        let mut jobs = Jobs::Inline(Queue::default().discipline());
        jobs.push(Task::deferred(Token(0), 0, Numbered { number: 0, slices: 2 }, ticket));
        RAN_ALL.set(0);
        assert_eq!(jobs.run_one(), Some(Run::Slice));
        if leaves {
            mailbox.wake_flag.close();
        }
        while jobs.run_turn() {}
        assert_eq!(RAN_ALL.get(), if leaves { 1 } else { 2 });
    }
}

proptest! {
    /// Whatever comes when, each task has all its slices and no more, and nothing is left.
    #[test]
    fn nothing_is_lost_and_nothing_runs_twice(
        tasks in vec((0_u64..4, 0_u64..4, 1_usize..5), 1..200), burst in 1_usize..9, together in 1_usize..4,
    ) {
        for queue in Queue::ALL {
            let mut queue = queue.discipline();
            let mut arrivals = tasks.iter().copied().enumerate();
            let mut ran: HashMap<usize, usize> = HashMap::new();
            loop {
                for (number, (owner, cost, slices)) in arrivals.by_ref().take(burst) {
                    queue.push(Task::detached(Token(owner), cost, Numbered { number, slices }));
                }
                // As many as there are workers are away at the same time.
                let away: Vec<Task> = (0..together).map_while(|_| Some(queue.pop()?.0)).collect();
                if away.is_empty() {
                    break;
                }
                for task in away.into_iter().rev() {
                    let (number, rest) = run(task);
                    *ran.entry(number).or_default() += 1;
                    rest.into_iter().for_each(|task| queue.push(task));
                }
            }
            prop_assert!(!queue.is_ready());
            prop_assert_eq!(ran.len(), tasks.len());
            prop_assert!(ran.iter().all(|(number, slices)| *slices == tasks[*number].2));
        }
    }

    #[test]
    fn a_queue_is_ready_exactly_when_it_gives_a_task(pushes in vec(any::<bool>(), 1..100)) {
        for queue in Queue::ALL {
            let mut queue = queue.discipline();
            let mut held: usize = 0;
            for (number, push) in pushes.iter().enumerate() {
                if *push {
                    queue.push(task(number, number as u64 % 3, number as u64 % 5));
                    held += 1;
                } else {
                    prop_assert_eq!(queue.pop().is_some(), held > 0);
                    held = held.saturating_sub(1);
                }
                prop_assert_eq!(queue.is_ready(), held > 0);
            }
        }
    }
}
