//! A session that has finished sending, and reads on.

use super::*;

fn end(rig: &mut Rig) {
    rig.peer_ended = true;
    rig.deliver(usize::MAX);
}

#[test]
fn the_end_goes_out_behind_all_that_was_written_and_the_session_reads_on_to_the_peers() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"e\x03oneh.");
    rig.take(2);
    assert!(!rig.half_closed, "a byte is unsent");
    rig.take(1);
    assert!(rig.half_closed && rig.receiving.is_some());
    rig.bytes(b"t.k.");
    assert_eq!(rig.log().taken, 1, "it reads on");
    rig.log().tickets.clear();
    rig.take_calls();
    end(&mut rig);
    assert_eq!(
        (&rig.sent[..], rig.closed, rig.why().as_deref()),
        (&b"one"[..], Some(false), Some("finished"))
    );
    rig.dismantle();
}

#[test]
fn replies_that_were_awaited_go_out_before_the_end_and_later_ones_do_not_put_it_off() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"t.t.h.t.");
    rig.log().tickets.remove(2).finish(0);
    rig.log().tickets.remove(0).finish(2);
    rig.take_calls();
    rig.take_all();
    assert!(!rig.half_closed, "one that was awaited is out");
    rig.log().tickets.remove(0).finish(1);
    rig.bytes(b"t.");
    rig.take_calls();
    rig.take_all();
    assert!(rig.half_closed && rig.sent == b"rrr");
    end(&mut rig);
    assert_eq!(rig.closed, None, "the session is to hear of its last ticket");
    rig.log().tickets.clear();
    rig.take_calls();
    assert_eq!((rig.closed, rig.why().as_deref()), (Some(false), Some("finished")));
    rig.dismantle();
}

#[test]
fn who_writes_behind_its_own_end_loses_its_connection_however_far_that_end_is() {
    for wrong in [&b"e\x01x"[..], b"f\x01", b"c\x02xy", b"v."] {
        for taken in [false, true] {
            let mut rig = Rig::opened(budget());
            rig.bytes(b"e\x03oneh.");
            if taken {
                rig.take_all();
            }
            assert_eq!(rig.half_closed, taken);
            rig.bytes(wrong);
            assert_eq!(rig.closed, Some(true));
            assert_eq!(rig.why().as_deref(), Some("the session wrote behind its own end"));
            rig.dismantle();
        }
    }
}

#[test]
fn a_peer_that_goes_on_is_heard_for_as_long_as_it_moves_and_who_has_opened_waits() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"h.");
    for _ in 0..3 {
        rig.now += IDLE - Duration::from_nanos(1);
        rig.happen(Event::Tick);
        rig.bytes(b"..");
    }
    assert_eq!(rig.why(), None);
    rig.jump();
    assert_eq!(rig.why(), Some(Closed::Idle.to_string()));
    rig.dismantle();
    let mut rig = Rig::new(budget(), true);
    rig.open();
    rig.bytes(b"h.");
    assert!(rig.half_closed);
    assert_eq!(rig.connection.deadline(), None);
    end(&mut rig);
    assert_eq!(rig.why().as_deref(), Some("finished"));
    rig.dismantle();
}

#[test]
fn a_drain_behind_our_end_ends_the_reading_too_and_says_nothing_twice() {
    for peer_first in [false, true] {
        let mut rig = Rig::opened(budget());
        rig.bytes(b"h.");
        rig.happen(Event::Drain);
        assert!(rig.shut.is_some() && rig.connection.awaits_end());
        if peer_first {
            end(&mut rig);
        } else {
            rig.now += LINGER;
            rig.happen(Event::Tick);
        }
        assert_eq!((rig.closed, rig.why().as_deref()), (Some(false), Some("finished")));
        rig.dismantle();
    }
}

#[test]
fn who_has_finished_sending_cannot_be_second_any_more() {
    let mut rig = Rig::opened(budget());
    rig.bytes(b"e\x01xh.y.");
    assert_eq!(rig.yielded, None);
    rig.take_all();
    assert!(rig.half_closed && rig.shut.is_some());
    rig.now += LINGER;
    rig.happen(Event::Tick);
    assert_eq!((rig.closed, rig.why().as_deref()), (Some(false), Some("finished")));
    rig.dismantle();
}
