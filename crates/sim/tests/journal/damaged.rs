//! What a crash tears is cut off, and told; what happens to a disk later is an error that says where.

use roadstead_proto::journal::{Journal, JournalError, Limits};
use roadstead_sim::SimulatedDisk;

use crate::{SALT, kind_disk, log, open};

const HEAD: usize = 16;
const START: usize = 20;

/// A log of batches of these records, and where each of the records begins.
fn written(batches: &[&[&[u8]]]) -> (SimulatedDisk, Vec<u8>, Vec<usize>) {
    let machine = kind_disk(2);
    let (mut journal, ..) = open(machine.start(), Limits::default()).unwrap();
    let (mut places, mut at) = (Vec::new(), START);
    for batch in batches {
        journal.append(batch).unwrap();
        for record in *batch {
            places.push(at);
            at += HEAD + record.len();
        }
    }
    drop(journal);
    let bytes = machine.read(&log()).unwrap();
    assert_eq!(bytes.len(), at);
    (machine, bytes, places)
}

const BATCHES: [&[&[u8]]; 3] = [&[b"one", b"two"], &[b"three"], &[b"four", b"", b"five and six"]];

/// What the log is found to have if its file is this.
fn found(machine: &SimulatedDisk, bytes: &[u8]) -> Result<(u64, Vec<Vec<u8>>), JournalError> {
    machine.put(&log(), bytes);
    let (journal, replayed, records) = open(machine.start(), Limits::default())?;
    // It is as if nothing had been behind the last record.
    drop(journal);
    let (_, again, same) = open(machine.start(), Limits::default())?;
    assert_eq!((again.cut, &same), (0, &records));
    Ok((replayed.cut, records))
}

#[test]
fn a_log_that_ends_anywhere_has_the_records_that_are_whole() {
    let (machine, bytes, places) = written(&BATCHES);
    let records: Vec<_> = BATCHES.concat();
    let ends: Vec<usize> = places.iter().skip(1).copied().chain([bytes.len()]).collect();
    for length in START..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        let end = if whole == 0 { START } else { ends[whole - 1] };
        let (cut, read) = found(&machine, &bytes[..length]).unwrap();
        assert_eq!((cut as usize, read.len()), (length - end, whole));
        assert!(read.iter().zip(&records).all(|(read, record)| read == record));
    }
}

#[test]
fn the_head_of_a_torn_record_is_enough_to_tell_what_was_durable_before_it() {
    let (machine, bytes, places) = written(&[&[b"one"], &[b"two"], &[b"three and four"]]);
    for length in places[2] + HEAD..bytes.len() {
        let mut bytes = bytes[..length].to_vec();
        bytes[places[1] + HEAD] ^= 1;
        let said = found(&machine, &bytes).unwrap_err();
        assert!(matches!(said, JournalError::Damaged { at, .. } if at == places[1] as u64), "{said}");
    }
}

#[test]
fn a_bit_that_changes_in_what_was_durable_is_found_where_it_is_and_nothing_is_cut() {
    let (machine, bytes, places) = written(&BATCHES);
    let last_batch = places[3];
    for bit in 8 * START..8 * bytes.len() {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let record = places.iter().rposition(|place| *place <= bit / 8).unwrap();
        match found(&machine, &damaged) {
            Err(JournalError::Damaged { at, .. }) => {
                assert!(places[record] < last_batch && at as usize == places[record]);
                assert_eq!(machine.read(&log()).unwrap(), damaged);
            }
            // Nobody can tell that the last batch was durable.
            Ok((cut, read)) => {
                assert!(places[record] >= last_batch, "the change of bit {bit} cost records");
                assert_eq!((read.len(), cut as usize), (record, bytes.len() - places[record]));
            }
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
}

#[test]
fn parts_of_a_batch_that_are_missing_are_a_crash_although_others_are_there() {
    let (machine, bytes, places) = written(&BATCHES);
    let mut torn = bytes.clone();
    torn[places[3]..places[5]].fill(0);
    let (cut, read) = found(&machine, &torn).unwrap();
    assert_eq!((cut as usize, read.len()), (bytes.len() - places[3], 3));
    // The same one batch before is none.
    let mut damaged = bytes.clone();
    damaged[places[2]..places[3]].fill(0);
    let error = found(&machine, &damaged).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("log is damaged at byte {}, and goes on behind it: restore it from a copy", places[2])
    );
}

/// A stranger has us write what would be a record of the log, at its very place, if the salt were known. The record that
/// it is in is torn, so that nobody can tell where that ends.
#[test]
fn what_strangers_had_us_write_is_not_taken_for_a_record() {
    let forged = |salt: u64| {
        let machine = kind_disk(3);
        let (mut journal, _) =
            Journal::open(machine.start(), log(), Limits::default(), salt, |_| Ok(())).unwrap();
        // At the place of the payload of the first record of the other log.
        journal.append(&[b""]).unwrap();
        journal.append(&[b"forged"]).unwrap();
        machine.read(&log()).unwrap().split_off(START + HEAD)
    };
    for (salt, is_believed) in [(SALT ^ 1, false), (SALT, true)] {
        let (machine, mut bytes, places) = written(&[&[&forged(salt)]]);
        bytes[places[0]] ^= 1;
        let found = found(&machine, &bytes);
        assert_eq!(found.is_err(), is_believed, "{found:?}");
    }
}

#[test]
fn what_is_no_log_is_left_alone() {
    let (machine, bytes, _) = written(&BATCHES);
    let other = |at: usize, byte: u8| {
        let mut other = bytes.clone();
        other[at] = byte;
        other
    };
    for (bytes, expected) in [
        (b"#!/bin/sh\necho not a log at all\n".to_vec(), "log is no log of ours: it does not begin like one"),
        (b"RDSJ".to_vec(), "log is no log of ours: it does not begin like one"),
        (Vec::new(), "log is no log of ours: it does not begin like one"),
        (other(9, 9), "log is damaged at byte 0, and goes on behind it: restore it from a copy"),
    ] {
        assert_eq!(found(&machine, &bytes).unwrap_err().to_string(), expected);
        assert_eq!(machine.read(&log()).unwrap(), bytes);
    }
}
