//! Datagrams: who is remembered, within which limits; work that is answered late; and how it ends.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use roadstead::Model;
use roadstead_conformance::{
    child::Child,
    client::{comes_to, eventually},
    setting::Setting,
    udp::{FINISH, FORGET, HEAR, HOLD, JOB, KEEP, LATER, PANIC, Peer, STAY, TIMER},
};

scenarios! {
    peers_are_counted (Datagrams): "three of three are remembered, the fourth is not, and there is room again after one",
    peers_of_one_address_are_counted (Datagrams): "two of two, and not the third; another address is another matter",
    a_peer_holds_as_much_as_it_may (Datagrams): "one byte less, as many, one more",
    all_peers_share_one_memory (Datagrams): "two that hold half of it each, no third, and there is room again after one",
    idle_peers_are_forgotten (Datagrams): "the time runs from the last that was genuine: who is forgotten is told",
    who_is_heard_is_not_idle (Datagrams): "what the session finds genuine renews the time",
    an_answer_by_job_or_ticket_goes_to_who_asked (Datagrams): "in the order in which they are done, each to its own peer",
    tickets_of_datagrams_are_counted (Datagrams): "two of two, the third is refused as busy, and there is room again after one",
    a_timer_calls_a_socket (Datagrams): "not before its time",
    a_datagram_session_that_panics_is_replaced (Datagrams): "what it knew is lost, and the next datagram is answered",
    a_drain_answers_what_was_asked (Datagrams): "whoever waits for a ticket is answered, nobody else is heard, then all is closed",
    a_drain_waits_for_a_session_that_stays (Datagrams): "a session may go on until it finishes by itself",
    a_drain_that_takes_too_long_is_cut_off (Datagrams): "a session that does not finish is ended when the patience is over",
    a_stop_closes_at_once (Datagrams): "a second signal, whoever waits",
    a_socket_without_work_sleeps (Datagrams): "after some load no thread runs any more",
}

const BRIEF: Duration = Duration::from_millis(200);

/// What is refused for want of room.
fn is_refused(said: &str) {
    assert!(said.starts_with("the peer is not remembered: "), "{said}");
}

/// One loop, so that all peers meet the same session.
fn start(setting: &Setting, options: &str) -> Child {
    Child::start(&Setting { loops: 1, ..*setting }, &format!("datagrams {options}"))
}

fn peers_are_counted(setting: &Setting) {
    let mut child = start(setting, "--connections 3");
    let peers: Vec<_> = (0..4).map(|_| Peer::of(child.address())).collect();
    for _ in 0..2 {
        // Whoever is remembered already counts once.
        peers[..3].iter().for_each(|peer| assert_eq!(peer.words(KEEP, 0), "kept"));
        is_refused(&peers[3].words(KEEP, 0));
    }
    assert_eq!(child.audit()["open"], 3);
    assert_eq!(peers[3].words(HEAR, 0), "unknown");
    assert_eq!(peers[0].words(FORGET, 0), "2");
    assert_eq!(peers[3].words(KEEP, 0), "kept");
    is_refused(&peers[0].words(KEEP, 0));
    peers.iter().for_each(|peer| drop(peer.words(FORGET, 0)));
}

fn peers_of_one_address_are_counted(setting: &Setting) {
    let child = start(setting, "--per-address 2");
    let from = |ip: &str| {
        let peer = Peer::at(ip);
        peer.0.connect(child.address()).unwrap();
        peer
    };
    let [one, two, three] = [(); 3].map(|()| from("127.0.0.1"));
    assert_eq!([one.words(KEEP, 0), two.words(KEEP, 0)], ["kept", "kept"]);
    is_refused(&three.words(KEEP, 0));
    let other = from("127.0.0.2");
    assert_eq!(other.words(KEEP, 0), "kept");
    one.words(FORGET, 0);
    assert_eq!(three.words(KEEP, 0), "kept");
    [two, three, other].iter().for_each(|peer| drop(peer.words(FORGET, 0)));
}

fn a_peer_holds_as_much_as_it_may(setting: &Setting) {
    let each = 100_000;
    let child = start(setting, &format!("--buffer-each {each}"));
    let peer = Peer::of(child.address());
    // What the engine itself needs for one counts too.
    let (mut fits, mut beyond) = (0, each + 1);
    while beyond - fits > 1 {
        let middle = (fits + beyond) / 2;
        match &peer.words(KEEP, middle)[..] {
            "kept" => fits = middle,
            why => {
                assert_eq!(why, "a peer may not hold more than 100000 bytes");
                beyond = middle;
            }
        }
    }
    assert!(each - fits < 500, "{fits}");
    peer.words(FORGET, 0);
}

fn all_peers_share_one_memory(setting: &Setting) {
    let half = 50_000;
    let child = start(setting, &format!("--buffer-all {}", 2 * half));
    let [one, two, three] = [(); 3].map(|()| Peer::of(child.address()));
    // With what the engine needs for each.
    for peer in [&one, &two] {
        assert_eq!(peer.words(KEEP, half - 1_000), "kept");
    }
    let why = three.words(KEEP, half - 1_000);
    assert_eq!(why, format!("all peers and connections together would hold more than {} bytes", 2 * half));
    one.words(FORGET, 0);
    assert_eq!(three.words(KEEP, half - 1_000), "kept");
    [two, three].iter().for_each(|peer| drop(peer.words(FORGET, 0)));
}

fn idle_peers_are_forgotten(setting: &Setting) {
    let mut child = start(setting, "--idle 300");
    let begun = Instant::now();
    let [one, two] = [(); 2].map(|()| Peer::of(child.address()));
    for peer in [&one, &two] {
        assert_eq!(peer.words(KEEP, 10), "kept");
    }
    eventually("both are forgotten", || child.said("forgotten ").len() == 2);
    assert!(begun.elapsed() >= Duration::from_millis(300), "too early");
    let who = [&one, &two].map(|peer| peer.0.local_addr().unwrap().to_string());
    let mut told = child.said("forgotten ");
    told.sort();
    let mut who = who.to_vec();
    who.sort();
    assert_eq!(told, who);
    assert_eq!(one.words(HEAR, 0), "unknown");
    assert_eq!(child.audit()["open"], 0);
}

fn who_is_heard_is_not_idle(setting: &Setting) {
    let child = start(setting, "--idle 4000");
    let peer = Peer::of(child.address());
    assert_eq!(peer.words(KEEP, 0), "kept");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(4_500) {
        thread::sleep(BRIEF);
        assert_eq!(peer.words(HEAR, 0), "known");
    }
    eventually("it is forgotten", || child.said("forgotten ").len() == 1);
    assert!(begun.elapsed() >= Duration::from_millis(8_000), "too early");
}

fn an_answer_by_job_or_ticket_goes_to_who_asked(setting: &Setting) {
    let child = start(setting, "");
    let [one, two, three] = [(); 3].map(|()| Peer::of(child.address()));
    one.say(HOLD, 0, b"");
    two.say(LATER, 50, b"");
    assert_eq!(three.ask(JOB, 1, b""), b"");
    assert_eq!(two.answer(LATER), b"");
    assert_eq!(one.hears_within(Duration::from_millis(20)), None);
    three.say(FINISH, 0, b"");
    assert_eq!(one.answer(HOLD), b"");
}

fn tickets_of_datagrams_are_counted(setting: &Setting) {
    let child = start(setting, "--jobs 2");
    let peers = [(); 3].map(|()| Peer::of(child.address()));
    peers[..2].iter().for_each(|peer| peer.say(HOLD, 0, b""));
    assert_eq!(peers[2].ask(HOLD, 0, b""), b"busy");
    peers[2].say(FINISH, 0, b"");
    peers[..2].iter().for_each(|peer| assert_eq!(peer.answer(HOLD), b""));
    assert_eq!(peers[2].ask(LATER, 1, b""), b"");
}

fn a_timer_calls_a_socket(setting: &Setting) {
    let child = start(setting, "");
    let peer = Peer::of(child.address());
    for millis in [1, 50, 200] {
        let begun = Instant::now();
        assert_eq!(peer.ask(TIMER, millis, b""), b"");
        assert!(begun.elapsed() >= Duration::from_millis(millis.into()), "too early");
    }
}

fn a_datagram_session_that_panics_is_replaced(setting: &Setting) {
    let mut child = start(setting, "");
    let peer = Peer::of(child.address());
    assert_eq!(peer.words(KEEP, 100), "kept");
    for number in 1..=3 {
        peer.say(PANIC, 0, b"");
        // What came together with it is lost with it.
        eventually("it panics", || child.audit()["panics"] == number);
        peer.echo(b"another session");
        assert_eq!(peer.words(HEAR, 0), "unknown");
    }
    assert_eq!(child.audit()["open"], 0);
    assert_eq!(child.log().matches("a datagram session panicked").count(), 1, "one line for a minute");
}

fn a_drain_answers_what_was_asked(setting: &Setting) {
    let mut child = start(setting, "");
    let [one, two] = [(); 2].map(|()| Peer::of(child.address()));
    one.say(LATER, 600, b"");
    two.echo(b"before");
    child.signal(Signal::TERM);
    eventually("the session hears of it", || !child.said("drains").is_empty());
    // It is not heard any more, and may be told so.
    let _ = two.0.send(b"after");
    assert_eq!(one.answer(LATER), b"");
    assert_eq!(child.stats()["datagrams_out"], 2);
    assert_eq!(child.said("closed ").len(), 1);
}

fn a_drain_waits_for_a_session_that_stays(setting: &Setting) {
    let mut child = start(setting, "");
    let peer = Peer::of(child.address());
    assert_eq!(peer.ask(STAY, 0, b""), b"");
    child.signal(Signal::TERM);
    eventually("the session hears of it", || !child.said("drains").is_empty());
    peer.echo(b"still here");
    assert_eq!(peer.ask(STAY, 0, b""), b"");
    assert_eq!(child.stats()["datagrams_in"], 3);
}

fn a_drain_that_takes_too_long_is_cut_off(setting: &Setting) {
    let mut child = start(setting, "--drain 300");
    let peer = Peer::of(child.address());
    assert_eq!(peer.ask(STAY, 0, b""), b"");
    peer.say(HOLD, 0, b"");
    peer.echo(b"it holds a ticket");
    child.signal(Signal::TERM);
    child.stats();
    assert_eq!(child.said("undrained "), ["0 and datagrams"]);
    assert_eq!(child.said("closed "), ["datagrams"]);
}

fn a_stop_closes_at_once(setting: &Setting) {
    let mut child = start(setting, "");
    let peer = Peer::of(child.address());
    peer.say(HOLD, 0, b"");
    peer.echo(b"it holds a ticket");
    child.signal(Signal::TERM);
    eventually("the session hears of it", || !child.said("drains").is_empty());
    child.signal(Signal::TERM);
    assert_eq!(child.end(), Some(130));
}

fn a_socket_without_work_sleeps(setting: &Setting) {
    let child = start(setting, "");
    let peers: Vec<_> = (0..20).map(|_| Peer::of(child.address())).collect();
    for _ in 0..50 {
        peers.iter().for_each(|peer| peer.echo(b"some load"));
    }
    if setting.model == Model::Spin {
        return;
    }
    let sleeps = comes_to(|| {
        let before = child.runs();
        thread::sleep(BRIEF);
        before == child.runs()
    });
    assert!(sleeps, "it never sleeps");
}
