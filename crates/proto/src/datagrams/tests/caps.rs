//! What is over a cap waits, in order, and not for ever.

use std::time::Duration;

use super::probe::{Act, Alone, Heard, peer};
use crate::{
    budget::Budget,
    datagrams::{DatagramEndpoint, DatagramEvent, Path, Unsent},
    session::Ready,
};

const MS: Duration = Duration::from_millis(1);
/// A datagram and its headers: 16 of them are a burst.
const LENGTH: usize = 1_024 - 28;
/// In bytes per second: two are sent in 100 ms.
const RATE: u64 = 20_480;

fn ask(number: usize, count: usize) -> Vec<(usize, usize, Act)> {
    vec![(number, LENGTH, Act::Answer(LENGTH)); count]
}

/// How many wait to be sent now, and all of these leave.
fn leave(alone: &mut Alone) -> usize {
    let count = alone.waits().len();
    alone.happen(DatagramEvent::Left(count));
    count
}

#[test]
fn a_burst_goes_at_once_what_may_go_soon_waits_and_the_rest_is_dropped() {
    let mut alone = Alone::open(Budget::default().rate_each(RATE));
    alone.come(&ask(1, 30));
    // Those that may go in 0, 50, 100 and 150 ms were asked for when the one before was not too late.
    assert_eq!((alone.waits().len(), alone.host.count.datagrams_dropped), (16, 11));
    assert_eq!(alone.probe.desk().sent[18..20], [Ok(()), Err(Unsent::Full)]);
    assert!(alone.socket.receives() && alone.socket.deadline() == Some(50 * MS));
    // Another address has a bucket of its own.
    alone.come(&ask(2, 1));
    assert_eq!(alone.waits().last(), Some(&(peer(2), LENGTH)));
    alone.leave();
    assert!(alone.shared.memory.used() > 20 * LENGTH, "what waits is charged");
    alone.heard();
    assert_eq!(leave(&mut alone), 17);
    let mut went = Vec::new();
    while let Some(deadline) = alone.socket.deadline() {
        alone.pass(deadline - alone.now);
        went.push((alone.now, leave(&mut alone)));
    }
    assert_eq!(went, [(50 * MS, 1), (100 * MS, 1), (150 * MS, 1)]);
    assert_eq!(alone.heard(), [Heard::Ready(Ready::Room)]);
    assert_eq!(alone.host.count.datagrams_out, 20);
    alone.leave();
    assert_eq!(alone.shared.memory.used(), 0);
}

#[test]
fn a_drain_waits_for_what_waits_for_a_cap_and_a_stop_does_not() {
    for stops in [false, true] {
        let mut alone = Alone::open(Budget::default().rate_all(RATE));
        alone.come(&ask(1, 20));
        alone.happen(DatagramEvent::Drain);
        leave(&mut alone);
        assert!(!alone.socket.is_over());
        if stops {
            alone.happen(DatagramEvent::Stop);
        }
        while !alone.socket.is_over() {
            let deadline = alone.socket.deadline().unwrap();
            alone.pass(deadline - alone.now);
            leave(&mut alone);
        }
        assert_eq!(alone.now, if stops { Duration::ZERO } else { 150 * MS });
        assert_eq!(alone.socket.deadline(), None);
    }
}

#[test]
fn whoever_is_refused_for_a_cap_with_nothing_that_waits_is_told_when_it_is_worth_trying() {
    let mut alone = Alone::open(Budget::default().rate_each(1_000));
    alone.heard();
    let (now, mut path) = (alone.now, Path::to(peer(1)));
    // It is longer than a burst and may go, and holds up all that follow: 40,028 bytes less a burst at 1,000 a second.
    alone.socket.tell(now, &mut alone.host, |_, cx| {
        assert_eq!(cx.send(&mut path, &[7; 40_000]), Ok(()));
        assert_eq!(cx.send(&mut path, &[7; 1]), Err(Unsent::Full));
    });
    assert_eq!(leave(&mut alone), 1);
    assert_eq!(alone.heard(), [Heard::Ready(Ready::Room)], "the outbox has room");
    alone.socket.tell(now, &mut alone.host, |_, cx| {
        assert_eq!(cx.send(&mut path, &[7; 1]), Err(Unsent::Full));
    });
    assert_eq!(alone.socket.deadline(), Some(23_544 * MS));
    alone.pass(23_544 * MS);
    assert_eq!(alone.heard(), [Heard::Ready(Ready::Room)]);
    let now = alone.now;
    alone.socket.tell(now, &mut alone.host, |_, cx| assert_eq!(cx.send(&mut path, &[7; 1]), Ok(())));
    // Its own 29 bytes are the last that have to be there.
    assert_eq!(alone.socket.deadline(), Some(23_673 * MS));
}

#[test]
fn a_peer_that_is_remembered_has_a_bucket_of_its_own_and_strangers_share_by_address() {
    let mut alone = Alone::open(Budget::default().rate_each(RATE));
    alone.come(&[(1, 0, Act::Keep(0))]);
    alone.come(&ask(1, 16));
    alone.come(&[(1, LENGTH, Act::Hear(LENGTH)), (1, 0, Act::Forget)]);
    // The seventeenth of the one that was remembered waits; as a stranger it begins anew.
    assert_eq!((alone.waits().len(), alone.socket.deadline()), (16, Some(50 * MS)));
    alone.come(&ask(1, 16));
    assert_eq!((alone.waits().len(), alone.socket.deadline()), (32, Some(50 * MS)));
    alone.come(&ask(1, 1));
    assert_eq!(alone.waits().len(), 32);
}
