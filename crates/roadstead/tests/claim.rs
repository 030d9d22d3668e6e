//! The claim of a connection over all interleavings of the threads that share it: no event is lost, and no two workers
//! ever have the connection at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// What the claim is made of here.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
}
#[allow(dead_code, unreachable_pub, reason = "not all of it is needed here")]
#[path = "../src/reactor/workers/claim.rs"]
mod claim;

use claim::{Claim, DUE, Events, READABLE, WOKEN};
use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

/// A connection, and the line it stands in.
struct Member {
    claim: Claim,
    queued: AtomicU32,
    heard: Mutex<Events>,
}

impl Member {
    fn new() -> Arc<Self> {
        Arc::new(Self { claim: Claim::new(), queued: AtomicU32::new(0), heard: Mutex::new(0) })
    }

    fn raise(&self, events: Events) {
        if self.claim.raise(events) {
            self.push();
        }
    }

    fn push(&self) {
        assert_eq!(self.queued.fetch_add(1, Relaxed), 0, "it stands in the line twice");
    }

    fn is_taken(&self) -> bool {
        self.queued.compare_exchange(1, 0, Relaxed, Relaxed).is_ok()
    }

    /// A worker's turn, if the connection is in the line. `more`: it is not done after it.
    fn work(&self, more: bool) -> bool {
        let taken = self.is_taken();
        if taken {
            let events = self.claim.begin();
            *self.heard.try_lock().expect("a worker had it alone") |= events;
            if self.claim.end(more) {
                self.push();
            }
        }
        taken
    }

    /// Works off what is left, and answers what was heard in all.
    fn finish(&self) -> Events {
        while self.work(false) {}
        assert!(!self.claim.has_news(), "an event that nobody will hear of");
        *self.heard.lock().unwrap()
    }
}

fn spawn(member: &Arc<Member>, act: impl FnOnce(&Member) + 'static) -> thread::JoinHandle<()> {
    let member = Arc::clone(member);
    thread::spawn(move || act(&member))
}

#[test]
fn what_is_raised_while_a_worker_ends_is_heard() {
    loom::model(|| {
        let member = Member::new();
        let threads =
            [spawn(&member, |member| member.raise(READABLE)), spawn(&member, |member| member.raise(WOKEN))];
        member.work(false);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(member.finish(), READABLE | WOKEN);
    });
}

#[test]
fn two_workers_never_have_a_connection_at_once() {
    loom::model(|| {
        let member = Member::new();
        member.raise(READABLE);
        let threads =
            [spawn(&member, |member| member.raise(WOKEN)), spawn(&member, |member| _ = member.work(true))];
        member.work(false);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(member.finish(), READABLE | WOKEN);
    });
}

#[test]
fn a_connection_that_is_closed_is_never_queued_again() {
    loom::model(|| {
        let member = Member::new();
        member.raise(READABLE);
        let late = spawn(&member, |member| member.raise(WOKEN));
        assert!(member.is_taken());
        assert_ne!(member.claim.begin() & READABLE, 0);
        member.claim.close();
        late.join().unwrap();
        assert!(!member.claim.raise(DUE) && !member.is_taken());
    });
}
