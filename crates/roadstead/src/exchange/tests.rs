//! The hub as links and services use it, without links.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, atomic::Ordering::SeqCst};

use bytes::Bytes;

use super::{
    hub::Hub,
    message::{Message, Taken},
    options::{Member, MemberId, Options, cost},
};
use crate::ticket::Waker;

/// Member 2's, whose only peer is member 1.
fn hub(options: Options) -> Arc<Hub> {
    let peer = Member::new(1, ([127, 0, 0, 1], 9).into());
    Hub::new(MemberId(2), vec![peer], None, options)
}

fn waker() -> Waker {
    Waker(Arc::default())
}

#[test]
fn a_thread_that_is_slow_to_take_a_message_may_find_that_more_was_told_meanwhile() {
    let hub = hub(Options::default());
    let taken = Taken { count: Arc::default(), told: Arc::default(), every: 1, waker: waker() };
    let message = || Message::new(Bytes::new(), hub.reserve(0, 0).unwrap(), taken.clone());
    taken.told.store(cost(0) as u64 + 1, SeqCst);
    drop(message());
    assert!(!taken.waker.0.hear());
    drop(message());
    assert!(taken.waker.0.hear());
    assert_eq!((taken.count.load(SeqCst), hub.stats().held), (2 * cost(0) as u64, 0));
}
