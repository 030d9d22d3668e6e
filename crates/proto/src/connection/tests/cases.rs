//! Named behaviours of a connection, each at its edge.

use super::*;

const INSTANT: Duration = Duration::from_nanos(1);

fn half_closed(mut rig: Rig) -> Rig {
    rig.peer_ended = true;
    rig.deliver(usize::MAX);
    rig
}

#[test]
fn the_answer_still_goes_out_after_the_peer_has_ended() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"e\x03onet.");
    let mut rig = half_closed(rig);
    rig.take_all();
    assert_eq!(rig.closed, None, "a ticket is outstanding");
    rig.log().tickets.remove(0).finish(5);
    rig.take_calls();
    rig.take(2);
    rig.take_all();
    assert_eq!(
        (&rig.sent[..], rig.closed, rig.why().as_deref()),
        (&b"onerrrrr"[..], Some(false), Some("finished"))
    );
    rig.dismantle();
}

#[test]
fn last_words_go_out_before_a_violation_closes() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.v.");
    assert_eq!(rig.shut, None);
    rig.take_all();
    assert_eq!((&rig.sent[..], rig.shut), (&b"last words"[..], Some(rig.now)), "it waits for no ticket");
    half_closed(rig).dismantle();
}

#[test]
fn an_operation_that_the_system_has_no_room_for_is_asked_for_again_and_nothing_is_lost() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"e\x03one");
    rig.exhaust(Operation::Send);
    rig.now += REST - INSTANT;
    rig.happen(Event::Tick);
    assert!(!rig.sending, "too early");
    rig.exhaust(Operation::Receive);
    rig.bytes(b"e\x03two");
    rig.now += REST;
    rig.happen(Event::Tick);
    assert!(rig.sending && rig.receiving.is_some());
    rig.deliver(usize::MAX);
    rig.take_all();
    assert_eq!((&rig.sent[..], rig.why()), (&b"onetwo"[..], None));
    rig.happen(Event::Stop);
    rig.dismantle();
}

#[test]
fn a_connection_that_the_system_has_no_room_for_is_begun_again_until_its_time_is_over() {
    let mut rig = Rig::new(budget(), true);
    let begun = rig.now;
    rig.exhaust(Operation::Connect);
    rig.now += REST - INSTANT;
    rig.happen(Event::Tick);
    assert_eq!(rig.redials, [], "too early");
    rig.jump();
    assert_eq!(rig.redials, [(begun + REST, "192.0.2.1:7".parse().unwrap())]);
    rig.happen(Event::Tick);
    assert_eq!(rig.redials.len(), 1, "once");
    while rig.closed.is_none() {
        rig.exhaust(Operation::Connect);
        rig.jump();
    }
    assert_eq!((rig.now, rig.closed), (begun + CONNECT, Some(true)));
    assert_eq!(rig.redials.len() as u128, CONNECT.as_nanos().div_ceil(REST.as_nanos()) - 1);
    assert_eq!(rig.why(), Some(Closed::Unanswered.to_string()));
    rig.dismantle();
}

#[test]
fn a_peer_that_is_to_end_first_is_waited_for_once_it_has_everything() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.e\x03oney.e\x03two");
    rig.take_all();
    rig.jump();
    assert_eq!((rig.closed, rig.shut), (None, None), "a ticket is outstanding");
    rig.log().tickets.remove(0).finish(2);
    rig.take_calls();
    rig.take(1);
    rig.take_all();
    assert_eq!((&rig.sent[..], rig.closed, rig.shut), (&b"onerr"[..], None, None), "no end of ours yet");
    rig.bytes(b"e\x05three");
    let rig = half_closed(rig);
    assert_eq!((rig.sent.len(), rig.closed, rig.why().as_deref()), (5, Some(false), Some("finished")));
    rig.dismantle();
}

#[test]
fn a_peer_that_is_to_end_first_and_does_not_is_reset() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"y.");
    rig.happen(Event::Drain);
    rig.now += LINGER;
    rig.happen(Event::Tick);
    assert_eq!(rig.closed, Some(true));
    rig.dismantle();
}

#[test]
fn an_abort_drops_what_was_not_sent() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"e\x03onea.");
    assert_eq!((rig.closed, rig.why().as_deref()), (Some(true), Some("the test said so")));
    rig.dismantle();
}

#[test]
fn deadlines_hold_at_their_instant_and_not_before() {
    let connecting = || Rig::new(budget(), true);
    let silent = || Rig::opened(budget());
    let idle = || {
        let mut rig = Rig::opened(budget());
        rig.bytes(b"e\x01x");
        rig.take_all();
        rig
    };
    let unread = || {
        let mut rig = Rig::opened(budget());
        rig.bytes(b"e\x01x");
        rig
    };
    let lingering = || {
        let mut rig = Rig::opened(budget());
        rig.bytes(b"x.");
        rig
    };
    let yielding = || {
        let mut rig = Rig::opened(budget());
        rig.bytes(b"y.");
        rig
    };
    let rows: [(&dyn Fn() -> Rig, Duration, &str); 6] = [
        (&connecting, CONNECT, "the peer did not answer the connection in time"),
        (&silent, FIRST_BYTE, "the peer connected and sent nothing in time"),
        (&idle, IDLE, "the peer neither sent nor took a byte in time"),
        (&unread, IDLE, "the peer neither sent nor took a byte in time"),
        (&lingering, LINGER, "finished"),
        (&yielding, LINGER, "the peer did not end the connection in time"),
    ];
    for (make, patience, why) in rows {
        let mut rig = make();
        rig.now += patience - INSTANT;
        rig.happen(Event::Tick);
        assert_eq!(rig.why(), None, "{why}: not yet");
        rig.now += INSTANT;
        rig.happen(Event::Tick);
        assert_eq!(rig.why().as_deref(), Some(why));
        rig.dismantle();
    }
}

#[test]
fn a_long_job_does_not_count_as_the_peers_idleness() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.");
    rig.now += IDLE * 3;
    rig.happen(Event::Tick);
    rig.log().tickets.remove(0).finish(0);
    rig.take_calls();
    rig.happen(Event::Tick);
    assert_eq!(rig.why(), None);
    rig.jump();
    assert_eq!(rig.closed, Some(true));
    rig.dismantle();
}

#[test]
fn a_deadline_that_never_comes_is_none_too_many() {
    let forever = Duration::MAX;
    let mut rig =
        Rig::new(budget().first_byte(forever).idle(forever).linger(forever).connect(forever), false);
    rig.connection.handle(rig.now, Event::Opened, &mut rig.host);
    assert_eq!(rig.connection.deadline(), Some(forever));
    rig.connection.handle(rig.now, Event::Drain, &mut rig.host);
    assert_eq!(rig.connection.deadline(), Some(forever));
    rig.connection.handle(rig.now, Event::Stop, &mut rig.host);
    rig.dismantle();
}

#[test]
fn a_message_may_be_as_large_as_the_buffer_and_no_larger() {
    let message = |body: usize| [&[b'n', (body + 100 - EACH) as u8][..], &vec![0; body]].concat();
    for (need, closed) in [(EACH - 1, false), (EACH, false), (EACH + 1, true)] {
        let mut rig = Rig::opened(budget());
        rig.bytes(&message(need)[..100]);
        assert_eq!(rig.closed.is_some(), closed, "a need of {need} is judged before it is filled");
        assert!(rig.connection.held.size <= 128, "nothing is allocated for what has not come");
        rig.bytes(&message(need)[100..EACH.min(need)]);
        // The probe never reads such a message, so a whole one is one that it cannot use.
        assert_eq!(rig.closed.is_some(), need >= EACH, "a need of {need}");
        rig.happen(Event::Stop);
        rig.dismantle();
    }
}

#[test]
fn an_answer_may_be_as_large_as_the_buffer_and_no_larger() {
    for (more, closed) in [(35, false), (36, false), (37, true)] {
        let mut rig = Rig::opened(budget());
        rig.bytes(b"t.");
        rig.bytes(&[b'w', 241]);
        assert_eq!(rig.connection.output().buffered(), 964);
        rig.log().tickets.remove(0).finish(more);
        rig.take_calls();
        assert_eq!(rig.closed.is_some(), closed, "{} bytes", 964 + usize::from(more));
        rig.take_all();
        rig.happen(Event::Stop);
        rig.dismantle();
    }
}

#[test]
fn a_message_cut_off_by_the_peers_end_is_not_waited_for() {
    let mut rig = Rig::new(budget(), true);
    rig.open();
    rig.bytes(b"e\x09half");
    let rig = half_closed(rig);
    assert!(rig.log().ended, "although somebody holds a waker");
    assert_eq!(rig.closed, Some(false));
    assert!(rig.why().unwrap().starts_with("6 bytes that the peer sent were not read"));
    rig.dismantle();
}

#[test]
fn a_wake_before_the_connection_was_answered_is_heard_then() {
    let mut rig = Rig::new(budget(), true);
    rig.log().wakers[0].wake();
    rig.take_calls();
    assert_eq!(rig.log().heard, []);
    rig.open();
    assert_eq!(rig.log().heard, [Ready::Opened, Ready::Woken]);
    rig.happen(Event::Stop);
    rig.dismantle();
}

#[test]
fn input_waits_behind_a_flood_and_comes_when_there_is_room() {
    let mut rig = Rig::opened(budget());
    rig.bytes(&[b"w\x3fe\x01x".as_slice(), b"e\x02yz"].concat());
    assert_eq!((rig.connection.output().buffered(), rig.receiving), (252, None), "above the mark of 250");
    rig.take(252 - HIGH_WATER / 2 - 1);
    assert_eq!(rig.log().heard, [Ready::Opened], "still above half of the mark");
    rig.take(1);
    assert_eq!(rig.log().heard, [Ready::Opened, Ready::Room]);
    rig.take_all();
    assert!(rig.sent.ends_with(b"wwxyz"));
    rig.happen(Event::Stop);
    rig.dismantle();
}

#[test]
fn what_a_session_has_left_is_shown_again_after_a_reply() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.q.e\x01x");
    assert_eq!(rig.log().written, b"", "it waits for its ticket");
    rig.log().tickets.remove(0).finish(1);
    rig.take_calls();
    rig.take_all();
    assert_eq!(rig.sent, b"rx");
    rig.happen(Event::Stop);
    rig.dismantle();
}

#[test]
fn the_end_waits_for_what_lies_unread_behind_a_flood() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.q.e\x01x");
    rig.log().tickets.remove(0).finish(u8::MAX);
    rig.take_calls();
    let mut rig = half_closed(rig);
    assert!(!rig.log().ended, "it is read once there is room");
    rig.take_all();
    assert!(rig.sent.ends_with(b"rx") && rig.log().ended);
    rig.dismantle();
}

#[test]
fn the_end_waits_for_a_message_of_exactly_what_was_needed_while_a_reply_may_have_it_read() {
    let mut rig = Rig::opened(budget());
    let message = [b"n\x00".as_slice(), &[b'.'; EACH - 102]].concat();
    rig.bytes(&[b"t.".as_slice(), &message].concat());
    let mut rig = half_closed(rig);
    assert!(!rig.log().ended, "all that it has asked for is there");
    rig.log().tickets.remove(0).finish(1);
    rig.take_calls();
    assert!(rig.log().ended);
    rig.take_all();
    rig.dismantle();
}

#[test]
fn who_comes_late_to_a_drain_is_told_of_it_once_a_message_was_read_whole() {
    let mut rig = Rig::new(budget(), false);
    rig.happen(Event::Drain);
    rig.open();
    rig.bytes(b"e\x03on");
    assert_eq!(rig.log().heard, [Ready::Opened], "half of a message was read");
    rig.bytes(b"e");
    assert_eq!(rig.log().heard, [Ready::Opened, Ready::Draining]);
    rig.take_all();
    assert_eq!((&rig.sent[..], rig.shut), (&b"one"[..], Some(rig.now)));
    half_closed(rig).dismantle();
}

#[test]
fn a_session_that_panics_leaves_nothing_behind_but_the_news() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"k.t.p.");
    assert!(rig.log().wakers[0].is_closed() && rig.log().tickets[0].is_cancelled());
    assert_eq!((rig.host.count.closed, rig.host.count.failed), (1, 1));
    rig.dismantle();
}

#[test]
fn a_connection_that_its_loop_drops_still_tells_its_session() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"k.t.");
    let (log, shared) = (Arc::clone(&rig.log), Arc::clone(&rig.shared));
    rig.dismantle();
    assert_eq!(log.lock().unwrap().closed.len(), 0, "dismantled with the rest");
    assert_eq!((shared.stats().snapshot().closed, shared.stats().snapshot().failed), (1, 1));
}

#[test]
fn jobs_are_limited_at_below_and_above() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.t.t.");
    assert_eq!((rig.log().tickets.len(), rig.shared.jobs.used()), (3, 3));
    rig.bytes(b"t.");
    assert_eq!(rig.log().tickets.len(), 3, "busy");
    rig.log().tickets.clear();
    rig.bytes(b"t.");
    assert_eq!(rig.shared.jobs.used(), 1);
    rig.take_calls();
    assert_eq!(rig.log().replies, [0, 1, 2].map(|id| (JobId(id), Err(Lost))));
    rig.happen(Event::Stop);
    rig.dismantle();
}

#[test]
fn all_connections_together_hold_what_they_may_and_no_more() {
    let unread = |rig: &mut Rig| rig.bytes(&[b"e\xff".as_slice(), &[0; 200]].concat());
    for (all, closed) in [(255, true), (256, false), (257, false)] {
        let mut rig = Rig::new(budget().buffer_all(all), false);
        rig.connection.handle(rig.now, Event::Opened, &mut rig.host);
        (rig.open, rig.spoken) = (true, true);
        rig.collect();
        unread(&mut rig);
        assert_eq!(rig.closed.is_some(), closed, "a buffer of 256 bytes within {all}");
        rig.happen(Event::Stop);
        rig.dismantle();
    }
}

#[test]
fn nothing_is_heard_after_the_end() {
    let mut rig = Rig::opened(budget());
    rig.happen(Event::Stop);
    for event in
        [Event::Opened, Event::Ended, Event::Sent(0), Event::Woken, Event::Tick, Event::Drain, Event::Stop]
    {
        rig.happen(event);
    }
    let mut block = BytesMut::from(&b"e\x01x"[..]);
    rig.happen(Event::Received(&mut block));
    assert!(block.is_empty());
    assert_eq!(rig.log().heard, [Ready::Opened]);
    rig.dismantle();
}
