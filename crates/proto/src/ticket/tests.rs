//! Who calls, rings or finishes is heard, once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::*;
use crate::budget::Meter;

fn mailbox() -> (Arc<Mailbox<u8>>, Arc<Bell>) {
    let (alarm, bell) = (Arc::new(Alarm::default()), Bell::new());
    alarm.settle(&bell, Token(7));
    (Mailbox::new(alarm), bell)
}

fn rung(bell: &Bell) -> Vec<Token> {
    let mut tokens = Vec::new();
    bell.answer(&mut tokens);
    tokens
}

#[test]
fn a_burst_of_replies_rings_once_until_it_is_heard() {
    let (mailbox, bell) = mailbox();
    let jobs = Meter::new(9);
    for id in 0..3 {
        Ticket::new(Arc::clone(&mailbox), JobId(id), jobs.charge(1).unwrap()).finish(id as u8);
    }
    assert_eq!(rung(&bell), [Token(7)]);
    let (called, replies) = mailbox.hear();
    assert!(!called);
    assert_eq!(replies.len(), 3);
    assert_eq!(jobs.used(), 0);
    Waker(Arc::clone(&mailbox.alarm)).wake();
    assert_eq!(rung(&bell), [Token(7)]);
    assert!(mailbox.alarm.hear());
}

#[test]
fn a_dropped_ticket_is_a_lost_job() {
    let (mailbox, _bell) = mailbox();
    drop(Ticket::new(Arc::clone(&mailbox), JobId(1), Meter::new(1).charge(1).unwrap()));
    let replies = mailbox.hear().1.into_iter().map(|(id, reply)| (id, reply.into_inner()));
    assert_eq!(replies.collect::<Vec<_>>(), [(JobId(1), Err(Lost))]);
}

#[test]
fn the_place_of_a_ticket_is_free_when_its_reply_is_heard_of() {
    let (alarm, jobs) = (Arc::new(Alarm::default()), Meter::new(1));
    let used = Arc::new(AtomicUsize::new(usize::MAX));
    let (meter, seen) = (Arc::clone(&jobs), Arc::clone(&used));
    alarm.settle(&Bell::calling(move || seen.store(meter.used(), SeqCst)), Token(7));
    Ticket::new(Mailbox::new(alarm), JobId(1), jobs.charge(1).unwrap()).finish(1);
    assert_eq!(used.load(SeqCst), 0);
}

#[test]
fn a_closed_connection_keeps_no_replies() {
    let (mailbox, bell) = mailbox();
    let ticket = Ticket::new(Arc::clone(&mailbox), JobId(1), Meter::new(1).charge(1).unwrap());
    mailbox.alarm.close();
    assert!(ticket.is_cancelled());
    ticket.finish(1);
    assert!(mailbox.hear().1.is_empty());
    assert!(rung(&bell).is_empty());
}

#[test]
fn an_alarm_that_rang_before_it_had_a_loop_is_heard_there() {
    let (alarm, bell) = (Arc::new(Alarm::default()), Bell::new());
    Waker(Arc::clone(&alarm)).wake();
    alarm.settle(&bell, Token(3));
    assert_eq!(rung(&bell), [Token(3)]);
}

#[test]
fn a_bell_of_one_connection_calls_instead_of_keeping_a_list() {
    let (calls, alarm) = (Arc::new(AtomicUsize::new(0)), Arc::new(Alarm::default()));
    let called = Arc::clone(&calls);
    let bell = Bell::calling(move || _ = called.fetch_add(1, SeqCst));
    Waker(Arc::clone(&alarm)).wake();
    alarm.settle(&bell, Token(3));
    assert_eq!(calls.load(SeqCst), 1, "what rang before is heard");
    Waker(Arc::clone(&alarm)).wake();
    assert_eq!(calls.load(SeqCst), 1, "and not twice until it is");
    assert!(alarm.hear());
    Waker(alarm).wake();
    assert_eq!((calls.load(SeqCst), rung(&bell)), (2, Vec::new()));
}

#[test]
fn a_loop_is_interrupted_once_and_only_while_it_sleeps() {
    let (bell, interrupts) = (Bell::new(), Arc::new(AtomicUsize::new(0)));
    let interrupted = Arc::clone(&interrupts);
    bell.interrupt_with(move || _ = interrupted.fetch_add(1, SeqCst));
    assert!(bell.fall_asleep());
    (0..3).for_each(|token| bell.ring(Token(token)));
    assert_eq!((interrupts.load(SeqCst), rung(&bell).len()), (1, 3));
    assert!(bell.fall_asleep());
    bell.wake_up();
    bell.ring(Token(1));
    assert_eq!(interrupts.load(SeqCst), 1, "it is awake");
}

#[test]
fn a_loop_does_not_fall_asleep_over_a_ringing_bell() {
    let bell = Bell::new();
    bell.ring(Token(1));
    assert!(!bell.fall_asleep());
    rung(&bell);
    assert!(bell.fall_asleep());
}
