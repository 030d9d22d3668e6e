//! What the log refuses, at and above its limits, and that it stays as it was.

use roadstead_proto::journal::{BATCH, Journal, JournalError, Limits};
use roadstead_sim::DiskFaults;

use crate::{SALT, kind_disk, log, open};

const HEAD: usize = 16;
const START: u64 = 20;

#[test]
fn a_record_may_have_as_many_bytes_as_its_limit_and_no_more() {
    let machine = kind_disk(1);
    let limits = Limits { record: 100, ..Limits::default() };
    let (mut journal, ..) = open(machine.start(), limits).unwrap();
    journal.append(&[[1; 100]]).unwrap();
    let refused = journal.append(&[vec![2; 1], vec![3; 101]]);
    assert!(matches!(refused, Err(JournalError::TooLarge { length: 101, limit: 100 })), "{refused:?}");
    journal.append(&[b""]).unwrap();
    drop(journal);
    let (_, _, found) = open(machine.start(), limits).unwrap();
    assert_eq!(found, [vec![1; 100], vec![]]);

    let lower = Limits { record: 99, ..limits };
    let refused = open(machine.start(), lower).map(drop);
    assert!(matches!(refused, Err(JournalError::TooLarge { length: 100, limit: 99 })), "{refused:?}");
}

#[test]
fn a_batch_is_written_in_one_piece_or_not_at_all() {
    let machine = kind_disk(1);
    let limits = Limits { record: usize::MAX, ..Limits::default() };
    let (mut journal, ..) = open(machine.start(), limits).unwrap();
    let most = BATCH - HEAD;
    let refused = journal.append(&[vec![1; most + 1]]);
    assert!(matches!(refused, Err(JournalError::TooLarge { limit, .. }) if limit == most), "{refused:?}");
    let refused = journal.append(&[vec![1; most - HEAD], vec![2; 1]]);
    assert!(matches!(refused, Err(JournalError::TooMany { length }) if length == BATCH + 1), "{refused:?}");
    journal.append(&[vec![1; most - HEAD], vec![]]).unwrap();
    journal.append(&[vec![2; most]]).unwrap();
    drop(journal);
    // All of it is torn that may be.
    let mut bytes = machine.read(&log()).unwrap();
    let second = bytes.len() - BATCH;
    bytes[second] ^= 1;
    machine.put(&log(), &bytes);
    let (_, replayed, found) = open(machine.start(), limits).unwrap();
    assert_eq!((replayed.cut, found.len()), (BATCH as u64, 2));
    // One byte more never is.
    bytes.push(0);
    machine.put(&log(), &bytes);
    let refused = open(machine.start(), limits).map(drop);
    assert!(matches!(refused, Err(JournalError::Damaged { at, .. }) if at == second as u64), "{refused:?}");
}

#[test]
fn a_full_log_says_so_and_takes_more_when_it_is_compacted() {
    let machine = kind_disk(1);
    let file = START + 10 * (HEAD as u64 + 4);
    let limits = Limits { file, ..Limits::default() };
    let (mut journal, ..) = open(machine.start(), limits).unwrap();
    for _ in 0..9 {
        journal.append(&[b"full"]).unwrap();
    }
    let refused = journal.append(&[&b"full"[..], b""]);
    assert!(matches!(refused, Err(JournalError::Full { size, limit }) if size > limit), "{refused:?}");
    journal.append(&[b"full"]).unwrap();
    assert_eq!(journal.size(), file);
    assert!(matches!(journal.append(&[b""]), Err(JournalError::Full { .. })));

    let refused = journal.compact(|log| (0..11).try_for_each(|_| log.append(b"more")));
    assert!(matches!(refused, Err(JournalError::Full { .. })), "{refused:?}");
    journal.compact(|log| log.append(b"kept")).unwrap();
    journal.append(&[b"more"]).unwrap();
    drop(journal);
    assert_eq!(open(machine.start(), limits).unwrap().2, [b"kept", b"more"]);
    assert_eq!(machine.read(&log().beside(".new").unwrap()), None, "nothing is left over");
}

#[test]
fn a_full_disk_costs_the_batch_and_nothing_else() {
    let machine = kind_disk(1);
    let (mut journal, ..) = open(machine.start(), Limits::default()).unwrap();
    journal.append(&[b"first"]).unwrap();
    let room = journal.size() + 30;
    machine.set_faults(DiskFaults { room, ..DiskFaults::none() });
    let refused = journal.append(&[[0; 100]]);
    assert!(matches!(refused, Err(JournalError::Disk { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().starts_with("log: writing failed: "));
    assert!(journal.compact(|log| log.append(&[7; 100])).is_err());
    journal.append(&[b"small"]).unwrap();
    machine.lose_power();
    let (_, replayed, found) = open(machine.start(), Limits::default()).unwrap();
    assert_eq!((found, replayed.cut), (vec![b"first".to_vec(), b"small".to_vec()], 0));
}

#[test]
fn after_a_failed_sync_nothing_is_taken_until_it_is_opened_anew() {
    let machine = kind_disk(1);
    let (mut journal, ..) = open(machine.start(), Limits::default()).unwrap();
    machine.set_faults(DiskFaults { sync: 1.0, ..DiskFaults::none() });
    assert!(matches!(journal.append(&[b"lost?"]), Err(JournalError::Failed { .. })));
    machine.set_faults(DiskFaults::none());
    for _ in 0..2 {
        let refused = journal.append(&[b"more"]).unwrap_err();
        assert!(refused.to_string().starts_with("log takes nothing more since a sync failed: "), "{refused}");
        assert!(matches!(journal.compact(|_| Ok(())), Err(JournalError::Failed { .. })));
    }
    drop(journal);
    open(machine.start(), Limits::default()).unwrap().0.append(&[b"on"]).unwrap();
}

#[test]
fn one_process_has_it_at_a_time() {
    let machine = kind_disk(1);
    let first = open(machine.start(), Limits::default()).unwrap();
    let refused = open(machine.start(), Limits::default()).map(drop);
    assert!(matches!(refused, Err(JournalError::Locked { .. })), "{refused:?}");
    drop(first);
    let second = open(machine.start(), Limits::default()).unwrap();
    machine.kill_processes();
    let third = open(machine.start(), Limits::default()).unwrap();
    // What is left of a dead process unlocks nothing.
    drop(second);
    assert!(open(machine.start(), Limits::default()).is_err());
    drop(third);
}

#[test]
fn a_record_that_is_not_understood_ends_the_opening_and_changes_nothing() {
    let machine = kind_disk(1);
    let (mut journal, ..) = open(machine.start(), Limits::default()).unwrap();
    journal.append(&[&b"known"[..], b"unknown"]).unwrap();
    drop(journal);
    let before = machine.read(&log());
    let judge = |record: &[u8]| match record {
        b"known" => Ok(()),
        _ => Err("it is of version 2".to_owned()),
    };
    let refused =
        Journal::open(machine.start(), log(), Limits::default(), SALT, judge).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "log has a record at byte 41 that is not understood: it is of version 2");
    assert_eq!(machine.read(&log()), before);
}
