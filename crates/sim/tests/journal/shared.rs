//! The line in front of a log that sessions share, turn by turn: one connection whose jobs run when the test says so.

use std::{io::IoSlice, sync::Arc, time::Duration};

use bytes::BytesMut;
use roadstead_proto::{
    Budget, Busy, Context, Done, Input, JobId, Lost, Peer, Session,
    connection::{Connection, Endpoint, Event, Op},
    guard,
    host::{Host, Shared},
    journal::{BATCH, Limits, SharedJournal},
    ticket::Token,
};
use roadstead_sim::SimulatedDisk;

use crate::{kind_disk, open};

/// Appends a record for each byte it receives, and says of each what became of it: the byte, or `!` for an error, `?`
/// for what was lost, and `.` at once if there is no room in the line.
struct Clerk {
    journal: SharedJournal,
}

impl Clerk {
    fn leave(&self, order: u8, cx: &mut Context<'_, Self>) -> Result<JobId, Busy> {
        let record = match order {
            b'L' => vec![b'L'; BATCH / 4],
            b'T' => vec![b'T'; BATCH],
            _ => vec![order],
        };
        if order == b'C' {
            return self.journal.compact(cx, |log| log.append(b"c"), |done| done.map_or(b'!', |()| b'C'));
        }
        self.journal.append(cx, record, move |noted| match order {
            b'P' => panic!("an answer of the test that is meant to panic"),
            _ => noted.map_or(b'!', |()| order),
        })
    }
}

impl Session for Clerk {
    type Reply = u8;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        for order in input.bytes().to_vec() {
            if self.leave(order, cx).is_err() {
                cx.output().write(b".");
            }
        }
        input.consume(usize::MAX);
        Ok(())
    }

    fn reply(&mut self, _: JobId, said: Result<u8, Lost>, cx: &mut Context<'_, Self>) -> Done {
        cx.output().write(&[said.unwrap_or(b'?')]);
        Ok(())
    }
}

struct Desk {
    host: Host,
    connection: Connection<Clerk>,
}

impl Desk {
    fn new(machine: &SimulatedDisk, limits: Limits) -> Self {
        let journal = SharedJournal::new(open(machine.start(), limits).unwrap().0);
        let shared = Shared::new(Budget::default());
        let mut host = Host::alone(Arc::clone(&shared), 1);
        let permit = shared.gate.admit(None).unwrap();
        let peer = Peer { address: ([192, 0, 2, 1], 7).into() };
        let mut connection = Connection::accepted(Clerk { journal }, peer, shared, permit);
        connection.place(Token(1), host.wake_queue(), Duration::ZERO);
        connection.handle(Duration::ZERO, Event::Opened, &mut host);
        Self { host, connection }
    }

    /// Answers what is said, at once and once all jobs have run.
    fn ask(&mut self, orders: &[u8]) -> String {
        self.connection.handle(Duration::ZERO, Event::Received(&mut BytesMut::from(orders)), &mut self.host);
        while self.host.run_job() {}
        self.said()
    }

    fn said(&mut self) -> String {
        self.connection.handle(Duration::ZERO, Event::Woken, &mut self.host);
        while let Some(op) = self.connection.next() {
            assert!(matches!(op, Op::Receive(_) | Op::Send), "{op:?}");
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let (count, _) = self.connection.output().gather(&mut slices);
        let said: String = slices[..count].iter().map(|slice| String::from_utf8_lossy(slice)).collect();
        if !said.is_empty() {
            self.connection.handle(Duration::ZERO, Event::Sent(said.len() as u64), &mut self.host);
        }
        said
    }
}

fn found(machine: &SimulatedDisk, limits: Limits) -> String {
    machine.lose_power();
    let (_, _, records) = open(machine.start(), limits).unwrap();
    records.iter().map(|record| char::from(record[0])).collect()
}

#[test]
fn what_waits_together_is_written_and_synced_once() {
    let machine = kind_disk(1);
    let mut desk = Desk::new(&machine, Limits::default());
    let before = machine.operations();
    assert_eq!(desk.ask(b"abcdefgh"), "abcdefgh");
    assert_eq!(machine.operations() - before, 2, "one write and one sync");
    assert_eq!(found(&machine, Limits::default()), "abcdefgh");
}

#[test]
fn a_compaction_stands_in_the_line_like_a_record() {
    let machine = kind_disk(1);
    let mut desk = Desk::new(&machine, Limits::default());
    assert_eq!(desk.ask(b"abCdCCefgC"), "abCdCCefgC");
    assert_eq!(desk.ask(b"xy"), "xy");
    assert_eq!(found(&machine, Limits::default()), "cxy");
}

#[test]
fn no_more_waits_than_one_batch() {
    let machine = kind_disk(1);
    let limits = Limits { record: BATCH / 4, ..Limits::default() };
    let mut desk = Desk::new(&machine, limits);
    assert_eq!(desk.ask(b"LLLLaT"), "..LLLa");
    // One that is larger than all of the line is refused by the log, and by nobody else.
    assert_eq!(desk.ask(b"Ta"), ".!");
    assert_eq!(desk.ask(b"a"), "a");
    assert_eq!(found(&machine, limits), "LLLaa");
}

#[test]
fn a_record_that_does_not_fit_any_more_costs_no_other() {
    let machine = kind_disk(1);
    let limits = Limits { file: 20 + 3 * 17, record: 1 };
    let mut desk = Desk::new(&machine, limits);
    assert_eq!(desk.ask(b"abcde"), "abc!!");
    assert_eq!(desk.ask(b"Cab"), "Cab");
    assert_eq!(found(&machine, limits), "cab");
}

#[test]
fn a_disk_that_fails_is_told_to_all_who_wait() {
    let machine = kind_disk(1);
    let mut desk = Desk::new(&machine, Limits::default());
    assert_eq!(desk.ask(b"a"), "a");
    machine.end_at(machine.operations() + 2);
    assert_eq!(desk.ask(b"bcd"), "!!!");
    assert_eq!(desk.ask(b"e"), "!");
    let found = found(&machine, Limits::default());
    assert!("abcd".starts_with(&found) && found.starts_with('a'), "{found}");
}

#[test]
fn an_answer_that_panics_costs_those_who_wait_and_nobody_after_them() {
    let machine = kind_disk(1);
    let mut desk = Desk::new(&machine, Limits::default());
    assert_eq!(desk.ask(b"aPb"), "a??");
    assert_eq!(desk.ask(b"PC"), "??");
    assert!(guard::take().is_some());
    assert_eq!(desk.ask(b"de"), "de");
    // They were in the log by then.
    assert_eq!(found(&machine, Limits::default()), "aPbPde");
}

#[test]
fn what_waits_when_its_server_ends_is_lost_and_does_not_keep_those_of_another_waiting() {
    let machine = kind_disk(1);
    let Desk { host, mut connection } = Desk::new(&machine, Limits::default());
    let mut host = host;
    connection.handle(Duration::ZERO, Event::Received(&mut BytesMut::from(&b"ab"[..])), &mut host);
    host.jobs = Host::alone(Shared::new(Budget::default()), 1).jobs;
    let mut desk = Desk { host, connection };
    assert_eq!(desk.said(), "??");
    assert_eq!(desk.ask(b"c"), "c");
}
