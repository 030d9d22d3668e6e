//! Clients that ask and never read: what they cost a server is bounded, and nobody else waits for them.
//!
//! Alone in its process, so that the process's memory is that of the attack.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/raw.rs"]
mod raw;

use std::{
    fs, io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use roadstead_trident::{party::Party, query::Body, wire::Kind};

use common::{byte_rows, rng};
use harness::{Shares, WAYS, addresses, client, guarded, true_scores, until};
use raw::Raw;

const ATTACKERS: usize = 60;

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Asks for scores, as often as the server takes it, and reads nothing.
fn ask_and_never_read(mut raw: Raw, kind: Kind, requests: &[Body]) -> (Raw, usize) {
    raw.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let sent = requests.iter().take_while(|body| match raw.try_send(kind as u8, body) {
        Ok(()) => true,
        Err(error) => {
            let kinds =
                [io::ErrorKind::WouldBlock, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(kinds.contains(&error.kind()), "{error}");
            false
        }
    });
    let sent = sent.count();
    (raw, sent)
}

#[test]
fn clients_that_never_read_are_bounded_and_keep_nobody_waiting() {
    guarded(|| {
        // Scores have 48 kB and a row 400 bytes: 60 clients ask for gigabytes, or for far more than there are tickets.
        let rows = byte_rows(4_000, 400, 1);
        let shares = Shares::of(&rows, 2);
        let collection = shares.collection();
        let request = |kind, counter| match kind {
            Kind::Fetch => {
                collection.fetch(0, counter, &common::expander(), &mut rng(counter)).unwrap().1[0].clone()
            }
            _ => collection.search(&rows[0], true, counter, &mut rng(counter)).unwrap().1[0].clone(),
        };
        for (way, kind) in
            [(WAYS[0], Kind::Search), (WAYS[0], Kind::Fetch), (WAYS[3], Kind::Search), (WAYS[3], Kind::Fetch)]
        {
            let requests: Vec<Body> = (1..=4_000).map(|counter| request(kind, counter)).collect();
            let servers = shares.serve(way);
            let honest = client(&shares, addresses(&servers));
            assert_eq!(honest.fetch(0).unwrap().values(), rows[0]);
            let budget = shares.trident(Party::ALL[0]).budget();
            let (before, address) = (resident(), servers[0].addresses()[0]);
            let (over, answered, most) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(SeqCst) {
                        let number = answered.load(SeqCst) % rows.len();
                        assert_eq!(honest.fetch(number).unwrap().values(), rows[number], "{way:?}");
                        let scores = honest.scores(&rows[number]).unwrap();
                        assert_eq!(scores.as_slice(), true_scores(&rows, &rows[number]), "{way:?}");
                        answered.fetch_add(1, SeqCst);
                        most.fetch_max(resident().saturating_sub(before), SeqCst);
                        assert!(servers[0].buffered() <= budget.buffer_all);
                    }
                });
                let attacks: Vec<_> = (0..ATTACKERS)
                    .map(|_| {
                        let raw = Raw::admitted(address, &collection, Party::ALL[0]);
                        scope.spawn(|| ask_and_never_read(raw, kind, &requests))
                    })
                    .collect();
                let attackers: Vec<_> = attacks.into_iter().map(|attack| attack.join().unwrap()).collect();
                let before = answered.load(SeqCst);
                until("honest answers while others hold theirs", || {
                    answered.load(SeqCst) > before + 20 || over.load(SeqCst)
                });
                over.store(true, SeqCst);
                let sent: usize = attackers.iter().map(|(_, sent)| sent).sum();
                assert!(sent > 10 * ATTACKERS, "{sent} requests are no attack");
            });
            until("the attackers' end", || servers[0].open() == 1 && servers[0].buffered() < 4_096);
            // What 60 connections may buffer each way, and the answers being computed.
            let bound = ATTACKERS * 2 * budget.buffer_each + (32 << 20);
            let most = most.load(SeqCst);
            println!("{way:?}, {kind:?}: {} MiB more at most", most >> 20);
            assert!(most < bound.min(budget.buffer_all), "{most} bytes");
        }
    });
}
