//! Workers that do the I/O: no event is lost, no two ever have a connection at once, none sleeps while one waits, and
//! the I/O thread reads every report.

#[allow(dead_code, unreachable_pub, reason = "not all of it is needed here")]
#[path = "../../src/reactor/workers/claim.rs"]
mod claim;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/reactor/workers/line.rs"]
mod line;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../src/reactor/workers/reports.rs"]
mod reports;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use claim::{Claim, DUE, Events, READABLE, WOKEN};
use line::{Line, Next};
use loom::{sync::Mutex, thread};
use reports::{REPORTS, Report, Reports};

use crate::{
    orders::Orders,
    play,
    ticket::{Loop, Token},
};

/// A connection, and the line it stands in.
struct Claimed {
    claim: Claim,
    line: Weak<Line<Self>>,
    heard: Mutex<Events>,
}

impl Claimed {
    fn new(line: &Arc<Line<Self>>) -> Arc<Self> {
        Arc::new(Self { claim: Claim::new(), line: Arc::downgrade(line), heard: Mutex::new(0) })
    }

    fn raise(self: &Arc<Self>, events: Events) {
        if self.claim.raise(events) {
            self.line.upgrade().unwrap().push(Arc::clone(self));
        }
    }
}

/// Gives turns, each with `more` to do in the first, until the line is over, or until there is nothing to do.
fn work(line: &Arc<Line<Claimed>>, patient: bool, mut more: bool) {
    loop {
        let claimed = match line.next(patient) {
            Next::Turn(claimed) => claimed,
            Next::Nobody if patient => {
                line.sleep();
                continue;
            }
            Next::Nobody | Next::Over => return,
        };
        let events = claimed.claim.begin();
        *claimed.heard.try_lock().expect("a worker has it alone") |= events;
        if claimed.claim.end(std::mem::take(&mut more)) {
            line.push_again(claimed);
        }
    }
}

/// Works off what is left. All that was raised was heard by then.
fn finish(line: &Arc<Line<Claimed>>, claimed: &Claimed, raised: u32) {
    work(line, false, false);
    assert!(!claimed.claim.has_news(), "an event that nobody will hear of");
    assert_eq!(*claimed.heard.lock().unwrap(), raised);
}

fn raising(claimed: &Arc<Claimed>, events: u32) -> thread::JoinHandle<()> {
    let claimed = Arc::clone(claimed);
    thread::spawn(move || claimed.raise(events))
}

fn working(line: &Arc<Line<Claimed>>, patient: bool, more: bool) -> thread::JoinHandle<()> {
    let line = Arc::clone(line);
    thread::spawn(move || work(&line, patient, more))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn what_is_raised_while_a_worker_ends_is_heard() {
    play(3, || {
        let line = Arc::<Line<Claimed>>::default();
        let claimed = Claimed::new(&line);
        let threads = [raising(&claimed, READABLE), raising(&claimed, WOKEN)];
        work(&line, false, false);
        join(threads);
        finish(&line, &claimed, READABLE | WOKEN);
    });
}

#[test]
fn two_workers_never_have_a_connection_at_once() {
    play(3, || {
        let line = Arc::<Line<Claimed>>::default();
        let claimed = Claimed::new(&line);
        claimed.raise(READABLE);
        let threads = [raising(&claimed, WOKEN), working(&line, false, true)];
        work(&line, false, true);
        join(threads);
        finish(&line, &claimed, READABLE | WOKEN);
    });
}

#[test]
fn a_connection_that_is_closed_is_never_queued_again() {
    play(3, || {
        let line = Arc::<Line<Claimed>>::default();
        let claimed = Claimed::new(&line);
        claimed.raise(READABLE);
        let late = raising(&claimed, WOKEN);
        let Next::Turn(mine) = line.next(false) else { unreachable!() };
        assert_ne!(mine.claim.begin() & READABLE, 0);
        mine.claim.close();
        join([late]);
        assert!(!claimed.claim.raise(DUE));
        assert!(matches!(line.next(false), Next::Nobody));
    });
}

#[test]
fn no_worker_sleeps_while_a_connection_waits() {
    play(2, || {
        let line = Arc::<Line<Claimed>>::default();
        let claimed = [Claimed::new(&line), Claimed::new(&line)];
        let heard = Arc::new((Mutex::new(0), loom::sync::Condvar::new()));
        let worker = || {
            let (line, heard) = (Arc::clone(&line), Arc::clone(&heard));
            thread::spawn(move || {
                loop {
                    let claimed = match line.next(true) {
                        Next::Turn(claimed) => claimed,
                        Next::Nobody => {
                            line.sleep();
                            continue;
                        }
                        Next::Over => return,
                    };
                    let mut sum = heard.0.lock().unwrap();
                    *sum += claimed.claim.begin();
                    heard.1.notify_all();
                    // A turn may take as long as it likes: it is for the other worker to take the other connection.
                    while *sum < 2 * READABLE {
                        sum = heard.1.wait(sum).unwrap();
                    }
                    drop(sum);
                    assert!(!claimed.claim.end(false));
                }
            })
        };
        let workers = [worker(), worker()];
        claimed.iter().for_each(|claimed| claimed.raise(READABLE));
        let mut sum = heard.0.lock().unwrap();
        while *sum < 2 * READABLE {
            sum = heard.1.wait(sum).unwrap();
        }
        drop(sum);
        line.end();
        join(workers);
    });
}

#[test]
fn every_report_is_read_and_a_worker_that_broke_off_is_known() {
    play(3, || {
        let home = Loop::new();
        let reports = Reports::new(Arc::new(Orders::default()), Arc::clone(&home.wake_queue));
        let worker = |number| {
            let reports = Arc::clone(&reports);
            thread::spawn(move || {
                reports.add(Token(number), Report::Due(Duration::ZERO));
                if number == 1 {
                    reports.break_off();
                } else {
                    reports.add(Token(number), Report::Closed);
                }
            })
        };
        let workers = [worker(1), worker(2)];
        let (mut read, mut broken) = (Vec::new(), false);
        while read.len() < 3 || !broken {
            if home.turn().contains(&REPORTS) {
                read.extend(reports.take());
            }
            broken = reports.is_broken();
        }
        join(workers);
        let of_second: Vec<_> = read.iter().filter(|(token, _)| *token == Token(2)).collect();
        assert!(matches!(of_second[..], [(_, Report::Due(_)), (_, Report::Closed)]), "in order");
    });
}
