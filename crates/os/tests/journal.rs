//! The append-only log on the system's disk, in a process that is killed at any moment (`kill -9`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use roadstead_os::disk::Directory;
use roadstead_proto::{
    disk::Name,
    journal::{Journal, JournalError, Limits, Replayed},
};

/// Where the child finds the directory.
const HOME: &str = "JOURNAL_HOME";
/// How often it is killed.
const ROUNDS: u64 = 40;
/// After so many acknowledgements at most.
const MOST: u64 = 50;
/// What a compaction keeps.
const KEPT: usize = 30;

/// Record number `number`.
fn record(number: u64) -> Vec<u8> {
    let length = 8 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % 2_000;
    number.to_le_bytes().iter().copied().cycle().take(length).collect()
}

/// Opens the log, and answers the numbers of its records, each of which is as it was written.
fn open(home: &Path) -> Result<(Journal, Replayed, Vec<u64>), JournalError> {
    let mut numbers = Vec::new();
    let take = |found: &[u8]| {
        let number = u64::from_le_bytes(*found.first_chunk().ok_or("it is short")?);
        numbers.push(number);
        if record(number) == found { Ok(()) } else { Err("it is not what was written".to_owned()) }
    };
    let disk = Arc::new(Directory::open(home).unwrap());
    let (journal, replayed) =
        Journal::open(disk, Name::new("log").unwrap(), Limits::default(), 0x5a17, take)?;
    Ok((journal, replayed, numbers))
}

/// Appends record after record, and says each number when it is durable, for as long as it lives.
#[test]
#[ignore = "is played in processes of their own"]
fn appends() {
    let home = PathBuf::from(env::var_os(HOME).unwrap());
    let (mut journal, _, mut numbers) = open(&home).unwrap();
    let mut next = numbers.last().map_or(0, |last| last + 1);
    loop {
        let count = 1 + next % 3;
        let batch: Vec<_> = (next..next + count).map(record).collect();
        journal.append(&batch).unwrap();
        numbers.extend(next..next + count);
        next += count;
        // Not by the harness, which holds on to what tests print.
        io::stdout().write_all(format!("\nnoted {}\n", next - 1).as_bytes()).unwrap();
        if next.is_multiple_of(5) {
            numbers.drain(..numbers.len().saturating_sub(KEPT));
            journal
                .compact(|log| numbers.iter().try_for_each(|number| log.append(&record(*number))))
                .unwrap();
        }
    }
}

fn start(home: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["appends", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(HOME, home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_any_moment_all_that_was_acknowledged_is_there() {
    let home = tempfile::tempdir().unwrap();
    let mut noted = 0;
    for round in 0..ROUNDS {
        let mut child = start(home.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut hear = || lines.find_map(|line| line.strip_prefix("noted ")?.parse::<u64>().ok());
        for _ in 0..=round * 7 % MOST {
            noted = hear().unwrap();
        }
        // Anywhere in what comes next.
        thread::sleep(Duration::from_micros(round * 211 % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        noted = std::iter::from_fn(hear).last().unwrap_or(noted);

        let (_, _, numbers) = open(home.path()).unwrap();
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        assert!(last >= noted, "round {round}: {noted} was acknowledged, and {last} is the last");
        assert!(numbers.iter().copied().eq(first..=last), "round {round}: {numbers:?}");
        assert!(first == 0 || numbers.len() >= KEPT, "round {round}: {numbers:?}");
    }
}

#[test]
fn a_log_that_another_process_has_open_is_in_use_until_that_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let mut child = start(home.path());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.take_while(|line| !line.starts_with("noted ")).count() > 0);
    let refused = open(home.path()).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "log is in use: end the process that has it open");
    child.kill().unwrap();
    child.wait().unwrap();
    open(home.path()).unwrap();
}
