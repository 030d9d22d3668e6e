//! Connections that a session opens to somebody else.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use roadstead_conformance::{
    child::Child,
    client::{End, echo, end_of, eventually, pattern},
    far::{deaf, nobody},
    setting::Setting,
};

scenarios! {
    a_relay_carries_both_ways_and_both_ends (Wires): "what one side sends and how it ends goes to the other",
    a_refused_connection_says_so (Wires): "where nobody listens the session hears of it",
    an_unanswered_connection_is_given_up_in_time (Wires): "who does not answer is waited for no longer than may be",
    a_far_side_that_closes_is_heard_of (Wires): "its last words arrive, and then its end",
    a_tail_behind_a_finish_is_not_lost_without_a_word (Wires): "what the far side says after a session has finished cannot be read, and the session hears so",
    half_a_piece_before_the_end_is_not_lost_without_a_word (Wires): "who finishes at the far side's end with half of something unread hears so",
    a_drain_ends_both_sides (Wires): "a server that drains ends what it has opened itself too",
    a_stop_while_connecting_waits_for_nothing (Wires): "a second signal ends the program in the midst of a connect",
}

/// A relay to `far`.
#[track_caller]
fn relay(setting: &Setting, far: SocketAddr, options: &str) -> Child {
    Child::start(setting, &format!("relay --far {far} {options}"))
}

/// How the far side of the relayed connection ended.
#[track_caller]
fn fate(relay: &Child) -> String {
    eventually("the far side is closed", || !relay.said("far ").is_empty());
    relay.said("far ").remove(0)
}

fn a_relay_carries_both_ways_and_both_ends(setting: &Setting) {
    let far = Child::start(setting, "echo");
    let near = relay(setting, far.address(), "--linger 3600000");
    let mut stream = near.connect();
    echo(&mut stream, b"there and back");
    for _ in 0..20 {
        echo(&mut stream, &pattern(100_000));
    }
    stream.finish().unwrap();
    assert_eq!(end_of(&mut stream), End::Orderly);
    drop(stream);
    assert_eq!(fate(&near), "finished");
    let stats = near.drain();
    assert_eq!((stats["connected"], stats["closed"], stats["failed"]), (1, 2, 0));
    assert_eq!(far.drain()["failed"], 0);
}

fn a_refused_connection_says_so(setting: &Setting) {
    let (far, _kept) = nobody();
    let near = relay(setting, far, "");
    let mut stream = near.connect();
    assert_eq!(end_of(&mut stream), End::Reset);
    assert!(fate(&near).contains("refused"));
    drop(stream);
    let stats = near.drain();
    assert_eq!((stats["connected"], stats["closed"]), (1, 2));
}

fn an_unanswered_connection_is_given_up_in_time(setting: &Setting) {
    let (far, _full) = deaf();
    let near = relay(setting, far, "--connect 300");
    let begun = Instant::now();
    let mut stream = near.connect();
    assert_eq!(end_of(&mut stream), End::Reset);
    assert_eq!(fate(&near), "the peer did not answer the connection in time");
    assert!(begun.elapsed() >= Duration::from_millis(300), "too early");
}

fn a_far_side_that_closes_is_heard_of(setting: &Setting) {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = relay(setting, far.local_addr().unwrap(), "--far-plain");
    let mut stream = near.connect();
    let (mut other, _) = far.accept().unwrap();
    other.write_all(b"goodbye").unwrap();
    drop(other);
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "goodbye");
}

fn a_tail_behind_a_finish_is_not_lost_without_a_word(setting: &Setting) {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    for (answers, why) in [(true, "4 bytes that the peer sent were not read"), (false, "did not end")] {
        let linger = if answers { 3_600_000 } else { 500 };
        let options = format!("--far-plain --linger {linger}");
        let near = relay(setting, far.local_addr().unwrap(), &options);
        let mut stream = near.connect();
        stream.write_all(b"all of it").unwrap();
        stream.finish().unwrap();
        let (mut other, _) = far.accept().unwrap();
        other.read_to_string(&mut String::new()).unwrap();
        if answers {
            other.write_all(b"tail").unwrap();
            other.shutdown(Shutdown::Write).unwrap();
        }
        let fate = fate(&near);
        assert!(fate.contains(why), "{fate}");
        assert_eq!(end_of(&mut stream), End::Reset, "half of an answer looks like all of it");
    }
}

fn half_a_piece_before_the_end_is_not_lost_without_a_word(setting: &Setting) {
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = relay(setting, far.local_addr().unwrap(), "--far-plain --piece 8");
    let mut stream = near.connect();
    let (mut other, _) = far.accept().unwrap();
    other.write_all(b"half").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(fate(&near), "4 bytes that the peer sent were not read, because the session had finished");
    assert_eq!(end_of(&mut stream), End::Reset, "half of an answer looks like all of it");
}

fn a_drain_ends_both_sides(setting: &Setting) {
    let far = Child::start(setting, "echo");
    // The client does not end before the drain has.
    let mut near = relay(setting, far.address(), "--linger 200");
    let mut stream = near.connect();
    echo(&mut stream, b"there and back");
    near.signal(Signal::TERM);
    near.stats();
    assert_eq!(end_of(&mut stream), End::Orderly);
    eventually("the far server has nobody", || !far.closed().is_empty());
}

fn a_stop_while_connecting_waits_for_nothing(setting: &Setting) {
    let (far, _full) = deaf();
    // Hours: were the stop to wait for the answer, the test would never end; nor must the drain before the stop comes.
    let mut near = relay(setting, far, "--connect 3600000 --linger 3600000");
    let _stream = near.connect();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(near.stop(), Some(130), "{:?}", near.closed());
}
