//! Mailbox, wake flag and wake queue: no reply and no call is lost, whenever the loop falls asleep, and a wake before
//! the connection has a loop is heard there.

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../proto/src/ticket/mailbox.rs"]
mod mailbox;
#[allow(dead_code, unreachable_pub, reason = "not all of it is needed here")]
#[path = "../../../proto/src/ticket/token.rs"]
mod token;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../proto/src/ticket/wake_flag.rs"]
mod wake_flag;
#[allow(dead_code, unreachable_pub, reason = "not all of it is needed here")]
#[path = "../../../proto/src/ticket/wake_queue.rs"]
mod wake_queue;

/// What the mailbox keeps, without a guard around it.
mod reply {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct JobId(pub(crate) u64);

    pub(crate) type Reply<R> = R;
}

use loom::{
    sync::{Condvar, Mutex},
    thread,
};
pub(crate) use mailbox::Mailbox;
use reply::JobId;
use std::sync::Arc;
pub(crate) use token::Token;
pub(crate) use wake_flag::WakeFlag;
pub(crate) use wake_queue::WakeQueue;

use crate::play;

#[derive(Debug)]
pub(crate) struct Waker(pub(crate) Arc<WakeFlag>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.call();
    }
}

pub(crate) const TOKEN: Token = Token(7);

/// A loop: its wake queue, and the descriptor that interrupts its wait.
#[derive(Clone)]
pub(crate) struct Loop {
    pub(crate) wake_queue: Arc<WakeQueue>,
    event: Arc<(Mutex<bool>, Condvar)>,
}

impl Loop {
    pub(crate) fn new() -> Self {
        let (wake_queue, event) = (WakeQueue::new(), Arc::new((Mutex::new(false), Condvar::new())));
        let woken = Arc::clone(&event);
        wake_queue.set_interrupt(move || {
            *woken.0.lock().unwrap() = true;
            woken.1.notify_one();
        });
        Self { wake_queue, event }
    }

    /// One wait of the loop, for ever if nobody wakes. Answers who was woken.
    pub(crate) fn turn(&self) -> Vec<Token> {
        if self.wake_queue.begin_sleep() {
            let mut woken = self.event.0.lock().unwrap();
            while !*woken {
                woken = self.event.1.wait(woken).unwrap();
            }
            *woken = false;
        }
        self.wake_queue.end_sleep();
        let mut tokens = Vec::new();
        self.wake_queue.take(&mut tokens);
        tokens
    }
}

/// A connection that lives in a loop.
fn connection() -> (Loop, Arc<Mailbox<u8>>) {
    let (home, wake_flag) = (Loop::new(), Arc::new(WakeFlag::default()));
    wake_flag.attach(&home.wake_queue, TOKEN);
    (home, Mailbox::new(wake_flag))
}

fn spawn<T: 'static>(shared: &Arc<T>, act: impl FnOnce(&T) + 'static) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || act(&shared))
}

#[test]
fn a_loop_hears_every_reply_and_sleeps_on() {
    play(3, || {
        let (home, mailbox) = connection();
        let threads = [1, 2].map(|id| spawn(&mailbox, move |mailbox| mailbox.put(JobId(id.into()), id)));
        let mut replies = Vec::new();
        while replies.len() < 2 {
            if !home.turn().is_empty() {
                let (called, more) = mailbox.take();
                assert!(!called);
                replies.extend(more);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        replies.sort_unstable();
        assert_eq!(replies, [(JobId(1), 1), (JobId(2), 2)]);
    });
}

#[test]
fn a_call_is_heard_beside_a_reply() {
    play(3, || {
        let (home, mailbox) = connection();
        let threads = [
            spawn(&mailbox, |mailbox| mailbox.put(JobId(1), 1)),
            spawn(&mailbox, |mailbox| mailbox.wake_flag.call()),
        ];
        let (mut calls, mut replies) = (0, 0);
        while calls == 0 || replies == 0 {
            if !home.turn().is_empty() {
                let (called, more) = mailbox.take();
                (calls, replies) = (calls + usize::from(called), replies + more.len());
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((calls, replies), (1, 1));
    });
}

#[test]
fn whoever_calls_sees_that_what_it_did_before_is_seen() {
    play(3, || {
        let (home, mailbox) = connection();
        let done = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let doing = Arc::clone(&done);
        let thread = spawn(&mailbox, move |mailbox| {
            doing.store(true, loom::sync::atomic::Ordering::Relaxed);
            mailbox.wake_flag.call();
        });
        while !(home.turn().contains(&TOKEN) && mailbox.take().0) {}
        assert!(done.load(loom::sync::atomic::Ordering::Relaxed));
        thread.join().unwrap();
    });
}

#[test]
fn a_second_call_after_the_first_was_heard_is_heard() {
    play(3, || {
        let (home, mailbox) = connection();
        let made = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let making = Arc::clone(&made);
        let thread = spawn(&mailbox, move |mailbox| {
            for _ in 0..2 {
                making.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
                mailbox.wake_flag.call();
            }
        });
        let mut seen = 0;
        while seen < 2 {
            if !home.turn().is_empty() && mailbox.take().0 {
                seen = made.load(loom::sync::atomic::Ordering::Relaxed);
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn who_calls_while_the_connection_is_given_its_loop_is_heard_there() {
    play(3, || {
        let (home, mailbox) = (Loop::new(), Mailbox::<u8>::new(Arc::default()));
        let threads = [
            spawn(&mailbox, |mailbox| mailbox.wake_flag.call()),
            spawn(&mailbox, |mailbox| mailbox.put(JobId(1), 1)),
        ];
        mailbox.wake_flag.attach(&home.wake_queue, TOKEN);
        let (mut calls, mut replies) = (0, 0);
        while calls == 0 || replies == 0 {
            if !home.turn().is_empty() {
                let (called, more) = mailbox.take();
                (calls, replies) = (calls + usize::from(called), replies + more.len());
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_wake_queue_that_learns_late_how_to_interrupt_is_heard() {
    play(3, || {
        let (wake_queue, event) = (WakeQueue::new(), Arc::new((Mutex::new(false), Condvar::new())));
        let thread = spawn(&wake_queue, |wake_queue| wake_queue.wake(TOKEN));
        let woken = Arc::clone(&event);
        wake_queue.set_interrupt(move || {
            *woken.0.lock().unwrap() = true;
            woken.1.notify_one();
        });
        assert_eq!(Loop { wake_queue, event }.turn(), [TOKEN]);
        thread.join().unwrap();
    });
}

#[test]
fn a_connection_that_closes_while_replies_come_keeps_none_that_come_later() {
    play(2, || {
        let (home, mailbox) = connection();
        let closing = spawn(&mailbox, |mailbox| mailbox.wake_flag.close());
        mailbox.put(JobId(1), 1);
        closing.join().unwrap();
        assert!(mailbox.wake_flag.is_closed());
        mailbox.put(JobId(2), 2);
        let kept = mailbox.take().1;
        assert!(kept.iter().all(|(id, _)| *id == JobId(1)), "a closed connection keeps no more");
        let mut woken = Vec::new();
        home.wake_queue.take(&mut woken);
        assert_eq!(woken.len(), kept.len());
    });
}
