//! Who calls, wakes or finishes is heard, once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::*;
use crate::budget::Meter;

fn mailbox() -> (Arc<Mailbox<u8>>, Arc<WakeQueue>) {
    let (wake_flag, wake_queue) = (Arc::new(WakeFlag::default()), WakeQueue::new());
    wake_flag.attach(&wake_queue, Token(7));
    (Mailbox::new(wake_flag), wake_queue)
}

fn woken(wake_queue: &WakeQueue) -> Vec<Token> {
    let mut tokens = Vec::new();
    wake_queue.take(&mut tokens);
    tokens
}

#[test]
fn a_burst_of_replies_rings_once_until_it_is_heard() {
    let (mailbox, wake_queue) = mailbox();
    let jobs = Meter::new(9);
    for id in 0..3 {
        Ticket::new(Arc::clone(&mailbox), JobId(id), jobs.charge(1).unwrap()).finish(id as u8);
    }
    assert_eq!(woken(&wake_queue), [Token(7)]);
    let (called, replies) = mailbox.take();
    assert!(!called);
    assert_eq!(replies.len(), 3);
    assert_eq!(jobs.used(), 0);
    Waker(Arc::clone(&mailbox.wake_flag)).wake();
    assert_eq!(woken(&wake_queue), [Token(7)]);
    assert!(mailbox.wake_flag.take());
}

#[test]
fn a_dropped_ticket_is_a_lost_job() {
    let (mailbox, _wake_queue) = mailbox();
    drop(Ticket::new(Arc::clone(&mailbox), JobId(1), Meter::new(1).charge(1).unwrap()));
    let replies = mailbox.take().1.into_iter().map(|(id, reply)| (id, reply.into_inner()));
    assert_eq!(replies.collect::<Vec<_>>(), [(JobId(1), Err(Lost))]);
}

#[test]
fn the_place_of_a_ticket_is_free_when_its_reply_is_heard_of() {
    let (wake_flag, jobs) = (Arc::new(WakeFlag::default()), Meter::new(1));
    let used = Arc::new(AtomicUsize::new(usize::MAX));
    let (meter, seen) = (Arc::clone(&jobs), Arc::clone(&used));
    wake_flag.attach(&WakeQueue::calling(move || seen.store(meter.used(), SeqCst)), Token(7));
    Ticket::new(Mailbox::new(wake_flag), JobId(1), jobs.charge(1).unwrap()).finish(1);
    assert_eq!(used.load(SeqCst), 0);
}

#[test]
fn a_closed_connection_keeps_no_replies() {
    let (mailbox, wake_queue) = mailbox();
    let ticket = Ticket::new(Arc::clone(&mailbox), JobId(1), Meter::new(1).charge(1).unwrap());
    mailbox.wake_flag.close();
    assert!(ticket.is_cancelled());
    ticket.finish(1);
    assert!(mailbox.take().1.is_empty());
    assert!(woken(&wake_queue).is_empty());
}

#[test]
fn a_wake_before_the_connection_had_a_loop_is_heard_there() {
    let (wake_flag, wake_queue) = (Arc::new(WakeFlag::default()), WakeQueue::new());
    Waker(Arc::clone(&wake_flag)).wake();
    wake_flag.attach(&wake_queue, Token(3));
    assert_eq!(woken(&wake_queue), [Token(3)]);
}

#[test]
fn a_wake_queue_of_one_connection_calls_instead_of_keeping_a_list() {
    let (calls, wake_flag) = (Arc::new(AtomicUsize::new(0)), Arc::new(WakeFlag::default()));
    let called = Arc::clone(&calls);
    let wake_queue = WakeQueue::calling(move || _ = called.fetch_add(1, SeqCst));
    Waker(Arc::clone(&wake_flag)).wake();
    wake_flag.attach(&wake_queue, Token(3));
    assert_eq!(calls.load(SeqCst), 1, "what called before is told");
    Waker(Arc::clone(&wake_flag)).wake();
    assert_eq!(calls.load(SeqCst), 1, "and not twice until it is");
    assert!(wake_flag.take());
    Waker(wake_flag).wake();
    assert_eq!((calls.load(SeqCst), woken(&wake_queue)), (2, Vec::new()));
}

#[test]
fn a_loop_is_interrupted_once_and_only_while_it_sleeps() {
    let (wake_queue, interrupts) = (WakeQueue::new(), Arc::new(AtomicUsize::new(0)));
    let interrupted = Arc::clone(&interrupts);
    wake_queue.set_interrupt(move || _ = interrupted.fetch_add(1, SeqCst));
    assert!(wake_queue.begin_sleep());
    (0..3).for_each(|token| wake_queue.wake(Token(token)));
    assert_eq!((interrupts.load(SeqCst), woken(&wake_queue).len()), (1, 3));
    assert!(wake_queue.begin_sleep());
    wake_queue.end_sleep();
    wake_queue.wake(Token(1));
    assert_eq!(interrupts.load(SeqCst), 1, "it is awake");
}

#[test]
fn a_loop_does_not_fall_asleep_over_somebody_who_was_woken() {
    let wake_queue = WakeQueue::new();
    wake_queue.wake(Token(1));
    assert!(!wake_queue.begin_sleep());
    woken(&wake_queue);
    assert!(wake_queue.begin_sleep());
}
