//! A connection must move: who sends or takes byte by byte is not waited for.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    input::Input,
    reading::Reading,
    service::{Closed, Ready},
    session::Context,
    ticket::Waker,
};

/// Owes its peer a thousand bytes, and wants as many.
struct Trade(Arc<Mutex<Option<String>>>);

impl Session for Trade {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.need(1000);
        if input.len() == 1000 {
            input.consume(1000);
            cx.output().write(&[b'a'; 1000]);
        }
        Ok(())
    }

    fn closed(self, why: &Closed) {
        *self.0.lock().unwrap() = Some(why.to_string());
    }
}

/// An open connection to who trades, and why it was closed.
fn trader(slowest: u64) -> (Connection<Trade>, Host, Arc<Mutex<Option<String>>>) {
    let (why, shared) = (Arc::default(), Shared::new(budget().first_byte(IDLE).slowest(slowest)));
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let peer = Peer { address: "192.0.2.1:7".parse().unwrap() };
    let permit = shared.gate.admit(None).unwrap();
    let mut connection = Connection::accepted(Trade(Arc::clone(&why)), peer, shared, permit);
    connection.place(Token(1), &host.wake_queue, Duration::ZERO);
    connection.handle(Duration::ZERO, Event::Opened, &mut host);
    (connection, host, why)
}

/// Seconds until the connection was closed and why, if every ten seconds the peer sends so many bytes of its message,
/// the last of `sends` again and again, and then takes `takes` of the answer. `None` if it got all of that.
fn trade(slowest: u64, sends: &[usize], takes: u64) -> Option<(u64, String)> {
    let (mut connection, mut host, why) = trader(slowest);
    let (mut sent, mut taken) = (0, 0);
    let mut sends = sends.iter().chain(sends.last().into_iter().cycle());
    for seconds in (10..).step_by(10) {
        let now = Duration::from_secs(seconds);
        connection.handle(now, Event::Tick, &mut host);
        while connection.next().is_some() {}
        if let Some(why) = why.lock().unwrap().take() {
            return Some((seconds, why));
        }
        if sent < 1000 {
            let some = sends.next().map_or(0, |&some| some.min(1000 - sent));
            sent += some;
            connection.handle(now, Event::Received(&mut BytesMut::from(&vec![0; some][..])), &mut host);
        } else {
            let some = takes.min(1000 - taken);
            taken += some;
            connection.handle(now, Event::Sent(some), &mut host);
        }
        connection.settle(now, &mut host);
        if taken == 1000 {
            return None;
        }
    }
    None
}

#[test]
fn a_message_that_comes_byte_by_byte_is_not_waited_for() {
    // Burdened at ten seconds; a minute is free; one byte in ten seconds earns a tenth of a second each.
    let slow = "the peer moved fewer than 10 bytes per second".to_owned();
    assert_eq!(trade(10, &[1], 1000), Some((80, slow)));
}

#[test]
fn an_answer_that_is_taken_byte_by_byte_is_not_waited_for() {
    // The message has come whole at ten seconds.
    let slow = "the peer moved fewer than 10 bytes per second".to_owned();
    assert_eq!(trade(10, &[1000], 1), Some((80, slow)));
}

#[test]
fn who_has_moved_when_it_is_looked_at_late_is_waited_for_from_then_on() {
    let (mut connection, mut host, why) = trader(10);
    let (begun, late) = (Duration::from_secs(1), Duration::from_secs(100));
    // Nobody looks until long after the minute that is free; then ten bytes earn a second.
    for now in [begun, late] {
        connection.handle(now, Event::Received(&mut BytesMut::from(&[0; 10][..])), &mut host);
        while connection.next().is_some() {}
        connection.settle(now, &mut host);
    }
    for (seconds, closed) in [(100, false), (101, true)] {
        connection.handle(Duration::from_secs(seconds), Event::Tick, &mut host);
        assert_eq!(why.lock().unwrap().is_some(), closed, "after {seconds} seconds");
    }
}

#[test]
fn haste_at_first_is_no_credit_for_what_follows() {
    let slow = "the peer moved fewer than 10 bytes per second".to_owned();
    assert_eq!(trade(10, &[1, 900, 1], 1), Some((90, slow)), "a minute after the haste, and the bytes since");
}

#[test]
fn whoever_moves_fast_enough_is_waited_for_and_zero_does_not_ask() {
    assert_eq!(trade(10, &[100], 100), None, "exactly the rate");
    assert_eq!(trade(0, &[1], 1), None);
}

#[test]
fn the_time_of_a_long_turn_is_not_the_peers() {
    let shared = Shared::new(budget().slowest(10));
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let peer = Peer { address: "192.0.2.1:7".parse().unwrap() };
    let permit = shared.gate.admit(None).unwrap();
    let mut connection = Connection::accepted(Trade(Arc::default()), peer, shared, permit);
    let (told, ended) = (Duration::from_secs(1), Duration::from_secs(1) + 2 * IDLE);
    connection.place(Token(1), &host.wake_queue, told);
    connection.handle(told, Event::Opened, &mut host);
    connection.handle(told, Event::Received(&mut BytesMut::from("a part")), &mut host);
    connection.settle(told, &mut host);
    connection.correct(told, ended);
    assert_eq!(connection.deadline(), Some(ended + IDLE));
}

/// Works for the first byte of its peer, and wants a thousand after that.
struct Clerk(Arc<Mutex<Option<Ticket<()>>>>);

impl Session for Clerk {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let mut ticket = self.0.lock().unwrap();
        if ticket.is_none() {
            input.consume(1);
            *ticket = cx.ticket().ok();
        } else {
            input.need(1000);
        }
        Ok(())
    }
}

#[test]
fn who_is_in_the_middle_of_a_message_when_long_work_ends_has_all_of_its_time_to_go_on() {
    let (ticket, shared) = (Arc::default(), Shared::new(budget().slowest(10)));
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let peer = Peer { address: "192.0.2.1:7".parse().unwrap() };
    let permit = shared.gate.admit(None).unwrap();
    let mut connection = Connection::accepted(Clerk(Arc::clone(&ticket)), peer, shared, permit);
    connection.place(Token(1), &host.wake_queue, Duration::ZERO);
    connection.handle(Duration::ZERO, Event::Opened, &mut host);
    connection.handle(Duration::ZERO, Event::Received(&mut BytesMut::from("and a part")), &mut host);
    connection.settle(Duration::ZERO, &mut host);
    assert_eq!(connection.deadline(), None, "it is worked for");
    ticket.lock().unwrap().take().unwrap().finish(());
    let ended = 2 * IDLE;
    connection.handle(ended, Event::Woken, &mut host);
    connection.settle(ended, &mut host);
    assert_eq!(connection.deadline(), Some(ended + IDLE));
}

/// Does the next of these each time it is woken.
struct Woken(Vec<fn(&mut Context<'_, Woken>)>, Arc<Mutex<Option<Waker>>>);

impl Session for Woken {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        input.consume(usize::MAX);
        Ok(())
    }

    fn ready(&mut self, ready: Ready, cx: &mut Context<'_, Self>) -> Done {
        match ready {
            Ready::Opened => *self.1.lock().unwrap() = Some(cx.waker()),
            Ready::Woken => self.0.remove(0)(cx),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn who_did_not_read_for_a_while_and_then_owes_something_is_due_sooner_and_says_so() {
    let (waker, shared) = (Arc::default(), Shared::new(budget()));
    let acts: Vec<fn(&mut Context<'_, Woken>)> =
        vec![|cx| cx.read(Reading::Never), |cx| cx.read(Reading::WithRoom), |_| {}, |cx| {
            cx.output().write(b"owed")
        }];
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let (peer, permit) = (Peer { address: "192.0.2.1:7".parse().unwrap() }, shared.gate.admit(None).unwrap());
    let mut connection = Connection::accepted(Woken(acts, Arc::clone(&waker)), peer, shared, permit);
    connection.place(Token(1), &host.wake_queue, Duration::ZERO);
    connection.handle(Duration::ZERO, Event::Opened, &mut host);
    connection.handle(Duration::ZERO, Event::Received(&mut BytesMut::from("ahoy")), &mut host);
    let mut settled = Vec::new();
    for time in 1..=4 {
        waker.lock().unwrap().as_ref().unwrap().wake();
        connection.handle(time * IDLE / 8, Event::Woken, &mut host);
        let pending = connection.settle(time * IDLE / 8, &mut host);
        settled.push((pending.has(Pending::NO_SOONER), connection.deadline()));
    }
    let since_it_reads = Some(IDLE / 4 + IDLE);
    assert_eq!(settled[1..], [(false, since_it_reads), (true, since_it_reads), (false, Some(IDLE))]);
}
