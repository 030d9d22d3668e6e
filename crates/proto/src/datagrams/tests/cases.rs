//! Cases that have a name.

use std::time::Duration;

use super::probe::{Act, Alone, Broken, Heard, peer};
use crate::{
    budget::Budget,
    datagrams::{DatagramEndpoint, DatagramEvent, Path, Unsent, outbox::EACH},
    flight::REST,
    session::Ready,
    ticket::Waker,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_answer_by_ticket_has_what_its_request_allows_and_not_more() {
    let mut alone = Alone::open(Budget::default());
    alone.come(&[(1, 10, Act::Defer), (2, 10, Act::Defer)]);
    let tickets: Vec<_> = alone.probe.desk().tickets.drain(..).collect();
    assert_eq!(alone.shared.jobs.used(), 2);
    for ((ticket, path), length) in tickets.into_iter().zip([86, 87]) {
        ticket.finish((path, length));
    }
    alone.wake();
    assert_eq!(alone.waits(), [(peer(1), 86)]);
    assert_eq!(alone.probe.desk().sent, [Ok(()), Err(Unsent::Amplified)]);
    assert_eq!((alone.shared.jobs.used(), alone.host.count.datagrams_withheld), (0, 1));
}

#[test]
fn a_full_outbox_refuses_holds_back_and_tells_of_room_once() {
    let mut alone = Alone::open(Budget::default().buffer_each(4 * (100 + EACH)));
    let ask = |count| vec![(1, 100, Act::Answer(100)); count];
    alone.come(&ask(1));
    assert!(alone.socket.receives(), "a quarter is no flood");
    alone.come(&ask(4));
    assert!(!alone.socket.receives());
    assert_eq!((alone.waits().len(), alone.host.count.datagrams_dropped), (4, 1));
    alone.heard();
    alone.happen(DatagramEvent::Left(3));
    assert!(!alone.socket.receives() && alone.heard().is_empty());
    alone.happen(DatagramEvent::Left(1));
    assert!(alone.socket.receives());
    assert_eq!(alone.heard(), [Heard::Ready(Ready::Room)]);
    alone.happen(DatagramEvent::Left(1));
    assert!(alone.heard().is_empty());
    assert_eq!(alone.host.count.datagrams_out, 4);
}

#[test]
fn what_waits_is_charged_when_the_loop_leaves_and_dropped_where_there_is_no_room() {
    let mut alone = Alone::open(Budget::default().buffer_all(2 * (100 + EACH)));
    alone.come(&[(1, 100, Act::Answer(100)); 2]);
    assert_eq!(alone.shared.memory.used(), 0);
    alone.leave();
    assert_eq!(alone.shared.memory.used(), 2 * (100 + EACH));
    alone.come(&[(1, 100, Act::Answer(100))]);
    alone.leave();
    assert_eq!((alone.shared.memory.used(), alone.waits().len()), (0, 0));
    assert_eq!(alone.host.count.datagrams_dropped, 3);
    assert!(alone.socket.receives());
}

#[test]
fn what_is_dropped_for_want_of_memory_is_told_of_a_while_later_and_ends_a_drain() {
    let budget = Budget::default().buffer_each(3 * (100 + EACH)).buffer_all(2 * (100 + EACH));
    let mut alone = Alone::open(budget);
    alone.come(&[(1, 100, Act::Answer(100)); 4]);
    alone.heard();
    alone.leave();
    assert_eq!((alone.waits().len(), alone.host.count.datagrams_dropped), (0, 4));
    assert!(alone.heard().is_empty() && alone.socket.deadline() == Some(REST));
    alone.pass(REST);
    assert_eq!((alone.heard(), alone.socket.deadline()), (vec![Heard::Ready(Ready::Room)], None));
    // Whoever has not been refused anything waits for nothing.
    alone.come(&[(1, 100, Act::Answer(100)); 3]);
    alone.leave();
    assert_eq!((alone.host.count.datagrams_dropped, alone.socket.deadline()), (7, None));

    alone.come(&[(1, 100, Act::Answer(100)); 4]);
    alone.happen(DatagramEvent::Drain);
    assert!(!alone.socket.is_over());
    alone.leave();
    assert!(alone.socket.is_over());
    assert_eq!((alone.shared.memory.used(), alone.socket.deadline()), (0, None));
}

#[test]
fn what_a_socket_may_never_buffer_is_too_long_and_is_not_waited_for() {
    let mut alone = Alone::open(Budget::default().buffer_each(100 + EACH));
    alone.come(&[(1, 100, Act::Answer(101)), (1, 100, Act::Answer(100)), (1, 100, Act::Answer(1))]);
    assert_eq!(alone.probe.desk().sent, [Err(Unsent::TooLong), Ok(()), Err(Unsent::Full)]);
    assert_eq!(alone.host.count.datagrams_dropped, 2);
    alone.heard();
    alone.happen(DatagramEvent::Left(1));
    assert_eq!(alone.heard(), [Heard::Ready(Ready::Room)]);
    alone.come(&[(1, 100, Act::Answer(101)), (1, 100, Act::Answer(1))]);
    alone.heard();
    alone.happen(DatagramEvent::Left(1));
    assert!(alone.heard().is_empty());
}

#[test]
fn a_session_that_panics_as_it_begins_costs_its_socket_and_is_counted() {
    for broken in [Broken::Open, Broken::Begin] {
        let mut alone = Alone::open(Budget::default());
        alone.come(&[(1, 100, Act::Answer(1)), (1, 100, Act::Keep(5))]);
        alone.leave();
        alone.probe.desk().broken = Some(broken);
        alone.heard();
        alone.come(&[(1, 100, Act::Panic)]);
        assert!(alone.socket.is_over() && !alone.heard().contains(&Heard::Closed), "{broken:?}");
        assert_eq!((alone.shared.gate.open(), alone.shared.memory.used()), (0, 0));
        assert_eq!(alone.host.count.datagram_panics, 2);
    }
}

#[test]
fn a_drain_waits_for_tickets_and_for_what_was_written_and_a_stop_for_nothing() {
    let mut alone = Alone::open(Budget::default());
    alone.come(&[(1, 10, Act::Defer), (1, 10, Act::Answer(1))]);
    alone.happen(DatagramEvent::Drain);
    assert!(!alone.socket.receives() && !alone.socket.is_over());
    alone.happen(DatagramEvent::Left(1));
    assert!(!alone.socket.is_over());
    let (ticket, path) = alone.probe.desk().tickets.pop_front().unwrap();
    ticket.finish((path, 5));
    alone.wake();
    assert!(!alone.socket.is_over());
    alone.heard();
    alone.happen(DatagramEvent::Left(1));
    assert!(alone.socket.is_over());
    assert_eq!(alone.heard(), [Heard::Closed]);

    let mut alone = Alone::open(Budget::default().linger(2 * SECOND));
    alone.come(&[(1, 10, Act::Answer(1))]);
    alone.happen(DatagramEvent::Drain);
    alone.pass(2 * SECOND - Duration::from_nanos(1));
    assert!(!alone.socket.is_over() && alone.socket.deadline().is_some());
    alone.pass(Duration::from_nanos(1));
    assert_eq!((alone.socket.is_over(), alone.host.count.datagrams_dropped), (true, 1));

    // Time that runs out while a ticket is out that was taken in it is not told again and again, and begins anew.
    let mut alone = Alone::open(Budget::default().linger(2 * SECOND));
    alone.come(&[(1, 10, Act::Answer(1)), (1, 10, Act::Timer(1000))]);
    alone.happen(DatagramEvent::Drain);
    alone.probe.desk().acts.push_back(Act::Defer);
    alone.pass(SECOND);
    alone.pass(SECOND);
    assert!(!alone.socket.is_over() && alone.socket.deadline().is_none());
    let (ticket, path) = alone.probe.desk().tickets.pop_front().unwrap();
    ticket.finish((path, 5));
    alone.wake();
    alone.pass(2 * SECOND);
    assert_eq!((alone.socket.is_over(), alone.host.count.datagrams_dropped), (true, 2));

    let mut alone = Alone::open(Budget::default());
    alone.come(&[(1, 10, Act::Defer), (1, 10, Act::Answer(1)), (1, 10, Act::Keep(9))]);
    alone.happen(DatagramEvent::Stop);
    assert!(alone.socket.is_over() && alone.waits().is_empty());
    assert!(alone.probe.desk().tickets.front().unwrap().0.is_cancelled());
    assert_eq!((alone.shared.gate.open(), alone.shared.memory.used()), (0, 0));
}

#[test]
fn a_session_that_panics_costs_what_it_knew_and_the_next_batch_finds_another() {
    let mut alone = Alone::open(Budget::default());
    alone.probe.desk().stays = true;
    alone.happen(DatagramEvent::Drain);
    alone.come(&[(1, 10, Act::Keep(100)), (1, 10, Act::Defer), (1, 10, Act::Timer(5))]);
    alone.heard();
    alone.come(&[(2, 10, Act::Panic), (1, 10, Act::Answer(1))]);
    let again = [Heard::Opened, Heard::Ready(Ready::Opened), Heard::Ready(Ready::Draining)];
    assert_eq!(alone.heard(), [&[Heard::Datagram(peer(2), 10)][..], &again].concat());
    assert_eq!((alone.shared.gate.open(), alone.shared.memory.used()), (0, 0));
    assert_eq!(alone.socket.deadline(), None);
    let (ticket, path) = alone.probe.desk().tickets.pop_front().unwrap();
    assert!(ticket.is_cancelled());
    ticket.finish((path, 1));
    alone.wake();
    assert!(alone.heard().is_empty() && alone.waits().is_empty());
    alone.come(&[(1, 10, Act::Answer(1))]);
    assert_eq!(alone.waits(), [(peer(1), 1)]);
}

#[test]
fn only_what_the_session_finds_genuine_keeps_a_peer_from_being_forgotten() {
    let mut alone = Alone::open(Budget::default().idle(10 * SECOND));
    alone.come(&[(1, 10, Act::Keep(0)), (2, 10, Act::Keep(0))]);
    alone.pass(9 * SECOND);
    alone.come(&[(1, 10, Act::Hear(1)), (2, 10, Act::Nothing)]);
    alone.heard();
    alone.pass(SECOND);
    assert_eq!(alone.heard(), [Heard::Forgotten(peer(2))]);
    alone.pass(8 * SECOND);
    assert!(alone.heard().is_empty());
    alone.pass(SECOND);
    assert_eq!(alone.heard(), [Heard::Forgotten(peer(1))]);
    assert_eq!((alone.shared.gate.open(), alone.socket.deadline()), (0, None));
}

#[test]
fn a_waker_calls_the_session_and_the_network_tells_of_who_is_gone() {
    let mut alone = Alone::open(Budget::default());
    alone.heard();
    alone.come(&[(1, 1, Act::Defer)]);
    let mailbox = alone.socket.mailbox.clone().unwrap();
    Waker(std::sync::Arc::clone(&mailbox.wake_flag)).wake();
    alone.wake();
    alone.happen(DatagramEvent::Unreachable(peer(3)));
    let told = [Heard::Ready(Ready::Woken), Heard::Unreachable(peer(3))];
    assert_eq!(alone.heard()[1..], told);
}

#[test]
fn what_can_be_no_datagram_is_refused_and_costs_no_allowance() {
    let mut alone = Alone::open(Budget::default());
    let mut path = Path::to(peer(1));
    let bytes = vec![0; 65_508];
    let now = alone.now;
    let mut refused = Vec::new();
    alone.socket.tell(now, &mut alone.host, |_, cx| {
        refused.push(cx.send(&mut path, &bytes));
        refused.push(cx.send_segments(&mut path, 0, &bytes[..1]));
        refused.push(cx.send_segments(&mut path, 10, &bytes[..641]));
        assert_eq!(cx.send_segments(&mut path, 10, &bytes[..640]), Ok(()));
        assert_eq!(cx.send(&mut path, &bytes[..65_507]), Ok(()));
        assert_eq!(cx.send_to(peer(1), b""), Err(Unsent::Unknown));
    });
    assert_eq!(refused, [Err(Unsent::TooLong); 3]);
    assert_eq!(alone.socket.outbox().iter().map(|one| one.datagrams()).sum::<usize>(), 65);
    alone.happen(DatagramEvent::Left(63));
    assert_eq!(alone.host.count.bytes_out, 630);
    alone.happen(DatagramEvent::Left(1));
    alone.happen(DatagramEvent::Undeliverable);
    assert_eq!((alone.host.count.datagrams_out, alone.host.count.datagrams_dropped), (64, 1));
}
