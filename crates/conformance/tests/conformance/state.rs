//! State that connections share: one count for all of them, whoever drives them.

use std::{
    io::{Read, Write},
    thread,
};

use roadstead_conformance::{
    asks::{COUNTS_NOTHING, COUNTS_SLOWLY},
    child::Child,
    client::{End, end_of},
    setting::Setting,
};

scenarios! {
    every_number_is_given_once (Everything): "8 clients count on one count together: no number is missing or given twice, each hears its own in order",
    what_is_asked_together_is_answered_in_order (Everything): "10,000 requests that are sent at once have answers in their order",
    slow_operations_lose_nothing (Models): "beside operations that take their time all others are done, and done once",
    an_operation_that_panics_is_lost_alone (Models): "who asked for it is reset; the count goes on for the others",
    who_goes_takes_no_place_along (Models): "clients that ask and are gone at once leave room for those who come",
}

/// A server that counts. None on a model that forks, which has refused with one line.
fn start(setting: &Setting) -> Option<Child> {
    if !setting.model.forks() {
        return Some(Child::start(setting, "counter"));
    }
    let (code, said) = Child::fails_under(&[], setting, "counter");
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(setting.model.name()) && said.contains("share state"), "{said}");
    None
}

/// Sends `bytes`, and reads the number of each.
fn count(stream: &mut (impl Read + Write), bytes: &[u8]) -> Vec<u64> {
    stream.write_all(bytes).unwrap();
    numbers(stream, bytes.len())
}

fn numbers(stream: &mut impl Read, count: usize) -> Vec<u64> {
    let mut wire = vec![0; count * 8];
    stream.read_exact(&mut wire).unwrap();
    wire.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect()
}

/// Has clients count at the same time. All numbers from one on are given, each once.
fn check(child: &Child, clients: u64, rounds: u64, bytes: &[u8]) {
    let (send, given) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..clients {
            let send = send.clone();
            scope.spawn(move || {
                let mut stream = child.connect();
                let own: Vec<_> = (0..rounds).flat_map(|_| count(&mut stream, bytes)).collect();
                assert!(own.is_sorted(), "an answer has overtaken another");
                send.send(own).unwrap();
            });
        }
    });
    drop(send);
    let mut given: Vec<_> = given.iter().flatten().collect();
    given.sort_unstable();
    assert!(given.into_iter().eq(1..=clients * rounds * bytes.len() as u64));
}

fn every_number_is_given_once(setting: &Setting) {
    let Some(child) = start(setting) else { return };
    check(&child, 8, 50, b"sixteen requests");
    child.drain();
}

fn what_is_asked_together_is_answered_in_order(setting: &Setting) {
    let Some(child) = start(setting) else { return };
    let mut stream = child.connect();
    assert!(count(&mut stream, &[b'.'; 10_000]).into_iter().eq(1..=10_000));
    drop(stream);
    child.drain();
}

fn slow_operations_lose_nothing(setting: &Setting) {
    let Some(child) = start(setting) else { return };
    check(&child, 6, 4, &[b'.', COUNTS_SLOWLY, b'.']);
    child.drain();
}

fn an_operation_that_panics_is_lost_alone(setting: &Setting) {
    let Some(child) = start(setting) else { return };
    for round in 1..=3 {
        let mut stream = child.connect();
        stream.write_all(&[COUNTS_NOTHING]).unwrap();
        assert_eq!(end_of(&mut stream), End::Reset);
        drop(stream);
        assert_eq!(count(&mut child.connect(), b"."), [round]);
    }
    assert_eq!(child.drain()["accepted"], 6);
}

fn who_goes_takes_no_place_along(setting: &Setting) {
    let Some(child) = start(setting) else { return };
    // More than an actor's mailbox holds.
    for _ in 0..100 {
        child.connect().write_all(&[COUNTS_SLOWLY; 2]).unwrap();
    }
    let last = count(&mut child.connect(), b".");
    assert!((1..=201).contains(&last[0]), "{last:?}");
    assert_eq!(child.drain()["accepted"], 101);
}
