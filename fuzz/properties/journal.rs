//! Whatever is found on a disk is opened as a log or refused with a reason, in bounded memory. What is read of a log that
//! was changed is what it had in the beginning, the rest is cut off, and told, or it is damaged, and unchanged; and what
//! was opened once is the same when it is opened again, and takes more.

use roadstead::{
    disk::Name,
    journal::{Journal, JournalError, Limits, Replayed},
    sim::{DiskFaults, SimulatedDisk},
};

const SALT: u64 = 7;
const LIMITS: Limits = Limits { record: 300, file: 1 << 20 };
const START: usize = 20;
const HEAD: usize = 16;

/// The first byte of the input says what the others are, if not all that is found.
pub(crate) const HEADS: u8 = 1;
pub(crate) const CHANGES: u8 = 2;

pub(crate) fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match *kind % 3 {
        HEADS => heads(rest),
        CHANGES => changes(rest),
        _ => bytes(rest),
    }
}

fn log() -> Name {
    Name::new("log").expect("it is a name")
}

fn machine() -> SimulatedDisk {
    let machine = SimulatedDisk::new(0);
    machine.set_faults(DiskFaults::none());
    machine
}

fn open(machine: &SimulatedDisk) -> Result<(Journal, Replayed, Vec<Vec<u8>>), JournalError> {
    let mut records = Vec::new();
    let take = |record: &[u8]| {
        assert!(record.len() <= LIMITS.record, "a record is larger than it may be");
        records.push(record.to_vec());
        Ok(())
    };
    let (journal, replayed) = Journal::open(machine.start(), log(), LIMITS, SALT, take)?;
    Ok((journal, replayed, records))
}

/// Opens a log that has these bytes, and if that can be done again, with one record more.
fn judge(file: &[u8]) -> Result<(Replayed, Vec<Vec<u8>>), JournalError> {
    let machine = machine();
    machine.put(&log(), file);
    let opened = open(&machine);
    let Ok((mut journal, replayed, mut records)) = opened else {
        assert_eq!(machine.read(&log()).as_deref(), Some(file), "it was refused, and changed");
        return Err(opened.map(drop).expect_err("it was not opened"));
    };
    assert_eq!(replayed.records, records.len() as u64);
    assert_eq!(journal.size() + replayed.cut, file.len() as u64);
    let read = records.clone();
    let room = LIMITS.file.saturating_sub(journal.size()) > (HEAD + 4) as u64;
    assert_eq!(journal.append(&[b"more"]).is_ok(), room);
    if room {
        records.push(b"more".to_vec());
    }
    drop(journal);
    machine.lose_power();
    let (_, again, found) = open(&machine).expect("it was opened once");
    assert_eq!((again.cut, found), (0, records), "it is another one when it is opened again");
    Ok((replayed, read))
}

/// A head, and these bytes for records.
fn bytes(rest: &[u8]) {
    let _ = judge(rest);
    let _ = judge(&[&start(), rest].concat());
}

fn start() -> Vec<u8> {
    let mut head = [&b"RDSJ\x01\0\0\0"[..], &SALT.to_le_bytes()].concat();
    head.extend(crc32fast::hash(&head).to_le_bytes());
    head
}

/// Heads of records with right checksums, that say anything, and one byte of payload for each that they promise at most.
fn heads(rest: &[u8]) {
    let mut file = start();
    for said in rest.chunks(8) {
        let mut head = [0; 8];
        head[..said.len()].copy_from_slice(said);
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let payload = vec![0; length.min(1_000)];
        let mut head = [&head[..], &crc32fast::hash(&payload).to_le_bytes()].concat();
        let sealed = [&SALT.to_le_bytes()[..], &(file.len() as u64).to_le_bytes(), &head].concat();
        head.extend(crc32fast::hash(&sealed).to_le_bytes());
        file.extend([head, payload].concat());
    }
    let _ = judge(&file);
}

/// A log of batches, which is changed, and what is read of it.
fn changes(rest: &[u8]) {
    let Some((count, rest)) = rest.split_first() else { return };
    let (edits, said) = rest.split_at(rest.len().min(usize::from(*count % 8) * 4));
    let (whole, records, places) = written(said);
    let mut file = whole.clone();
    for edit in edits.chunks_exact(4) {
        let at = START + usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (file.len() - START + 1);
        match edit[3] % 4 {
            0 => file.truncate(at),
            1 => file[at..].fill(edit[2]),
            2 => file.iter_mut().skip(at).take(usize::from(edit[2])).for_each(|byte| *byte = 0),
            _ => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= edit[2]),
        }
    }
    let same = whole.iter().zip(&file).take_while(|(before, after)| before == after).count();
    // Records that nothing has happened to are read whatever is behind them.
    let intact = places.iter().filter(|place| **place <= same).count().saturating_sub(1);
    match judge(&file) {
        Ok((_, read)) => {
            assert!(read.len() >= intact && records.starts_with(&read), "what is read was not written");
        }
        Err(JournalError::Damaged { at, .. }) => {
            assert!(places[intact..].contains(&(at as usize)), "the damage is elsewhere");
        }
        Err(error) => panic!("{error}"),
    }
}

/// A log of records as `said`: each begins with a byte that says how long it is, and whether its batch goes on. Answers
/// where each begins and the last one ends as well.
fn written(said: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>, Vec<usize>) {
    let (machine, mut rest, mut batch) = (machine(), said, Vec::new());
    let (mut journal, ..) = open(&machine).expect("a new log is opened");
    let (mut records, mut places) = (Vec::new(), vec![START]);
    while let Some((head, behind)) = rest.split_first() {
        let (record, behind) = behind.split_at(behind.len().min(usize::from(head & 0x7f)));
        places.push(places.last().unwrap_or(&START) + HEAD + record.len());
        batch.push(record.to_vec());
        rest = behind;
        if head & 0x80 == 0 || rest.is_empty() {
            journal.append(&batch).expect("there is room");
            records.append(&mut batch);
        }
    }
    drop(journal);
    (machine.read(&log()).expect("it was written"), records, places)
}
