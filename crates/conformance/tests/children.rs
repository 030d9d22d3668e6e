//! The processes of the models that fork: what is counted of one that is killed, and what becomes of one whose parent
//! is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, io::Write, net::TcpListener};

use roadstead::Model;
use roadstead_conformance::{
    asks::{DRUDGE, ECHO, PANIC, STAY, TOIL},
    child::Child,
    client::{End, ask, end_of, eventually, frame},
    setting::Setting,
};

fn every_model(test: impl Fn(&Setting)) {
    Model::ALL.into_iter().filter(|model| model.forks()).for_each(|model| test(&Setting::of(model)));
}

#[test]
fn children_are_seen_by_their_names_in_the_systems_table() {
    every_model(|setting| {
        let child = Child::start(setting, "desk");
        let mut stream = child.connect();
        assert_eq!(ask(&mut stream, ECHO, 0, b"ahoy").0, ECHO);
        let kind = if setting.model == Model::Process { "client-" } else { "worker-" };
        let names = child.children().into_iter().map(|one| {
            let number = one.as_raw_nonzero();
            fs::read_to_string(format!("/proc/{number}/comm")).unwrap()
        });
        let names: Vec<_> = names.collect();
        assert!(!names.is_empty() && names.iter().all(|name| name.starts_with(kind)), "{names:?}");
    });
}

/// Answers how many were killed.
fn kill_at_work(child: &Child) -> u64 {
    eventually("it is at work", || child.said("toils").len() == 1);
    child.children().into_iter().map(|one| child.kill(one)).count() as u64
}

/// Longer than any test takes.
const TOO_LONG: u64 = 600_000;

#[test]
fn what_a_child_counted_before_it_was_killed_at_work_is_counted() {
    every_model(|setting| {
        let child = Child::start(setting, "desk");
        let mut stream = child.connect();
        let asks = [frame(ECHO, 0, b"ahoy"), frame(TOIL, TOO_LONG, b"")];
        assert_eq!(ask(&mut stream, ECHO, 0, b"ahoy").0, ECHO);
        stream.write_all(&asks[1]).unwrap();
        let killed = kill_at_work(&child);
        let stats = child.drain();
        assert_eq!((stats["accepted"], stats["closed"], stats["failed"]), (1, 1, 1), "{setting:?}");
        let sent = asks.iter().map(|ask| ask.len() as u64).sum::<u64>();
        assert_eq!((stats["bytes_in"], stats["jobs"]), (sent, 1), "{setting:?}");
        assert!(stats["children"] >= killed && stats["children_failed"] == killed, "{setting:?}: {stats:?}");
        assert!(stats["bytes_out"] > 0, "{setting:?}");
    });
}

#[test]
fn a_connection_that_ended_before_its_child_was_killed_is_counted_once() {
    every_model(|setting| {
        let child = Child::start(setting, "desk");
        let mut stream = child.connect();
        // Work that goes on when the connection is gone.
        let asks = [frame(DRUDGE, TOO_LONG, b""), frame(PANIC, 0, b"")].concat();
        stream.write_all(&asks).unwrap();
        assert_eq!(end_of(&mut stream), End::Reset);
        kill_at_work(&child);
        let stats = child.drain();
        assert_eq!((stats["accepted"], stats["closed"], stats["failed"]), (1, 1, 1), "{setting:?}");
        assert_eq!((stats["bytes_in"], stats["jobs"]), (asks.len() as u64, 1), "{setting:?}");
    });
}

#[test]
fn connections_that_a_killed_child_had_opened_are_counted_too() {
    every_model(|setting| {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let child = Child::start(setting, &format!("relay --far {}", far.local_addr().unwrap()));
        let _near = child.connect();
        let _far = far.accept().unwrap();
        child.children().into_iter().for_each(|one| child.kill(one));
        let stats = child.drain();
        assert_eq!((stats["accepted"], stats["connected"]), (1, 1), "{setting:?}");
        assert_eq!((stats["closed"], stats["failed"]), (2, 2), "{setting:?}");
    });
}

#[test]
fn a_child_whose_parent_is_killed_ends_however_long_it_would_take() {
    for asked in [frame(STAY, 0, b""), frame(TOIL, TOO_LONG, b"")] {
        every_model(|setting| {
            let mut child = Child::start(setting, "desk --drain 200");
            let mut stream = child.connect();
            assert_eq!(ask(&mut stream, ECHO, 0, b"").0, ECHO);
            stream.write_all(&asked).unwrap();
            child.kill(child.pid());
            assert_eq!(child.end(), None);
            eventually("its children have ended", || child.processes().is_empty());
        });
    }
}

/// Whoever came would wait in a backlog that nobody takes from, and no other server could have the port.
#[test]
fn nobody_listens_any_more_when_a_parent_is_killed_whose_child_still_serves() {
    let setting = Setting::of(Model::Process);
    let mut child = Child::start(&setting, "desk");
    let mut stream = child.connect();
    // It is in the midst of a message that it waits for, while it drains.
    assert_eq!(ask(&mut stream, STAY, 0, b"").0, STAY);
    child.kill(child.pid());
    child.closes_its_listener();
    assert_eq!(ask(&mut stream, ECHO, 0, b"still here"), (ECHO, b"still here".to_vec()));
    drop(stream);
    assert_eq!(child.end(), None);
    eventually("its children have ended", || child.processes().is_empty());
}
