//! Workers that do the I/O: no event is lost, no two ever have a connection at once, none sleeps while one waits.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/reactor/workers/claim.rs"]
mod claim;

use std::{collections::VecDeque, sync::Arc};

use claim::{Claim, DUE, Events, READABLE, WOKEN, Whose};
use loom::{
    sync::{Condvar, Mutex},
    thread,
};

use crate::{play, queue::shared::SharedQueue};

type Line = SharedQueue<Arc<Claimed>>;

/// A connection that knows what it has heard.
struct Claimed(Mutex<Claim<Events>>);

impl Claimed {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Claim { connection: Some(0), whose: Whose::Nobodys, events: 0 })))
    }

    fn raise(self: &Arc<Self>, line: &Line, events: Events) {
        let queue = self.0.lock().unwrap().raise(events);
        if queue {
            line.push_turn(Arc::clone(self));
        }
    }

    fn begin(&self) -> (Events, Events) {
        self.0.lock().unwrap().begin().expect("a worker has it alone")
    }

    /// A turn, with more to do after it or not.
    fn turn(self: Arc<Self>, more: bool) -> Option<Arc<Self>> {
        let (heard, events) = self.begin();
        let mut claim = self.0.lock().unwrap();
        claim.connection = Some(heard | events);
        let again = claim.end(more);
        drop(claim);
        again.then_some(self)
    }
}

fn line() -> Arc<Line> {
    SharedQueue::new(Box::<VecDeque<_>>::default())
}

/// Gives turns, with more to do in the first, until nobody is due one.
fn work(line: &Line, mut more: bool) {
    while line.work_once(|claimed: Arc<Claimed>| claimed.turn(std::mem::take(&mut more))) {}
}

/// Works off what is left. All that was raised was heard by then.
fn finish(line: &Line, claimed: &Claimed, raised: Events) {
    work(line, false);
    let claim = claimed.0.lock().unwrap();
    assert_eq!((claim.whose, claim.events, claim.connection), (Whose::Nobodys, 0, Some(raised)));
}

fn raising(line: &Arc<Line>, claimed: &Arc<Claimed>, events: Events) -> thread::JoinHandle<()> {
    let (line, claimed) = (Arc::clone(line), Arc::clone(claimed));
    thread::spawn(move || claimed.raise(&line, events))
}

fn working(line: &Arc<Line>) -> thread::JoinHandle<()> {
    let line = Arc::clone(line);
    thread::spawn(move || work(&line, true))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn what_is_raised_while_a_worker_ends_is_heard() {
    play(3, || {
        let (line, claimed) = (line(), Claimed::new());
        let threads = [raising(&line, &claimed, READABLE), raising(&line, &claimed, WOKEN)];
        work(&line, false);
        join(threads);
        finish(&line, &claimed, READABLE | WOKEN);
    });
}

#[test]
fn two_workers_never_have_a_connection_at_once() {
    play(3, || {
        let (line, claimed) = (line(), Claimed::new());
        claimed.raise(&line, READABLE);
        let threads = [raising(&line, &claimed, WOKEN), working(&line)];
        work(&line, true);
        join(threads);
        finish(&line, &claimed, READABLE | WOKEN);
    });
}

#[test]
fn a_connection_that_is_left_to_the_loop_is_queued_when_that_lets_go_of_it() {
    play(3, || {
        let (line, claimed) = (line(), Claimed::new());
        claimed.raise(&line, READABLE);
        let late = raising(&line, &claimed, WOKEN);
        line.work_once(|claimed| {
            let (heard, events) = claimed.begin();
            let mut claim = claimed.0.lock().unwrap();
            (claim.connection, claim.whose) = (Some(heard | events), Whose::Loops);
            None
        });
        join([late]);
        assert!(!claimed.0.lock().unwrap().raise(DUE) && !line.has_next());
        assert!(claimed.0.lock().unwrap().let_go());
        line.push_turn(Arc::clone(&claimed));
        finish(&line, &claimed, READABLE | WOKEN | DUE);
    });
}

#[test]
fn no_worker_sleeps_while_a_connection_waits() {
    play(2, || {
        let (line, claimed) = (line(), [Claimed::new(), Claimed::new()]);
        let heard = Arc::new((Mutex::new(0), Condvar::new()));
        let all_heard = |heard: &(Mutex<u32>, Condvar)| {
            let mut count = heard.0.lock().unwrap();
            while *count < 2 {
                count = heard.1.wait(count).unwrap();
            }
        };
        let workers = [(); 2].map(|()| {
            let (line, heard) = (Arc::clone(&line), Arc::clone(&heard));
            thread::spawn(move || {
                line.work(|claimed| {
                    *heard.0.lock().unwrap() += 1;
                    heard.1.notify_all();
                    // A turn may take as long as it likes: it is for the other worker to take the other connection.
                    all_heard(&heard);
                    claimed.turn(false)
                });
            })
        });
        claimed.iter().for_each(|claimed| claimed.raise(&line, READABLE));
        all_heard(&heard);
        line.stop();
        join(workers);
    });
}
