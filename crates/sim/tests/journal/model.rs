//! A plain book of what may be in the log, beside the log, through random schedules of appends, compactions, full and
//! failing disks, killed processes and lost power.

use std::fmt::Write;

use roadstead_proto::journal::{Journal, JournalError, Limits};
use roadstead_sim::{DiskFaults, SimulatedDisk, seeds};

use crate::{Chance, log, open};

type Records = Vec<Vec<u8>>;

/// All that may be in the log now: one thing, unless the last call has not said what became of it.
#[derive(Debug)]
struct Book(Vec<Records>);

impl Book {
    fn appended(&mut self, batch: &[Vec<u8>], outcome: &Result<(), JournalError>) {
        let [sure] = &self.0[..] else { panic!("a log was used before it was known what it has") };
        let with = |count: usize| [&sure[..], &batch[..count]].concat();
        self.0 = match outcome {
            Ok(()) => vec![with(batch.len())],
            // Whole records, from the first on: what is torn, and what is behind it, is nothing.
            Err(error) if is_open(error) => (0..=batch.len()).map(with).collect(),
            Err(_) => vec![sure.clone()],
        };
    }

    fn compacted(&mut self, kept: Records, outcome: &Result<(), JournalError>) {
        match outcome {
            Ok(()) => self.0 = vec![kept],
            Err(error) if is_open(error) => self.0.push(kept),
            Err(_) => {}
        }
    }

    fn found(&mut self, records: Records) {
        assert!(
            self.0.contains(&records),
            "{} records were found, and one of {:?} may be there",
            records.len(),
            self.0.iter().map(Vec::len).collect::<Vec<_>>()
        );
        self.0 = vec![records];
    }
}

/// Whether the machine has ended, or the log says that it does not know.
fn is_open(error: &JournalError) -> bool {
    matches!(error, JournalError::Failed { .. }) || error.to_string().contains("has ended")
}

struct Play {
    machine: SimulatedDisk,
    faults: DiskFaults,
    chance: Chance,
    book: Book,
    journal: Option<Journal>,
    /// What happened, for who has to find out why it failed.
    told: String,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let harsh = DiskFaults { sync: 0.05, write: 0.05, names: 0.05, ..DiskFaults::harsh() };
        let faults = [DiskFaults::none(), DiskFaults::gentle(), harsh][chance.below(3) as usize];
        let machine = SimulatedDisk::new(seed);
        machine.set_faults(faults);
        let told = String::new();
        Self { machine, faults, chance, book: Book(vec![Vec::new()]), journal: None, told }
    }

    fn tell(&mut self, what: &str, outcome: &dyn std::fmt::Debug) {
        writeln!(self.told, "{:>5} {what}: {outcome:?}", self.machine.operations()).unwrap();
    }

    /// Opens the log, if need be once nothing fails any more.
    fn opened(&mut self) -> Journal {
        if let Some(journal) = self.journal.take() {
            return journal;
        }
        for attempt in 0.. {
            match open(self.machine.start(), Limits::default()) {
                Ok((journal, replayed, records)) => {
                    self.tell("open", &replayed);
                    self.machine.set_faults(self.faults);
                    self.book.found(records);
                    return journal;
                }
                Err(error) => {
                    self.tell("open", &error);
                    assert!(matches!(error, JournalError::Disk { .. }), "{error}");
                    assert!(attempt < 4, "a disk that does all it is asked is not enough: {error}");
                }
            }
            // Half-way through, and then again.
            match self.chance.below(3) {
                0 => self.machine.kill_processes(),
                1 => self.machine.lose_power(),
                _ => {}
            }
            if attempt == 3 {
                self.machine.kill_processes();
                self.machine.set_faults(DiskFaults::none());
            }
        }
        unreachable!("the log is opened, or the test has failed")
    }

    fn append(&mut self) {
        let mut journal = self.opened();
        let batch: Records = (0..1 + self.chance.below(4)).map(|_| self.chance.record()).collect();
        if self.chance.below(10) == 0 {
            let used: usize = [log(), log().beside(".new").unwrap()]
                .iter()
                .filter_map(|name| self.machine.read(name))
                .map(|it| it.len())
                .sum();
            let room = used as u64 + self.chance.below(4_000);
            self.machine.set_faults(DiskFaults { room, ..self.faults });
        }
        let outcome = journal.append(&batch);
        self.machine.set_faults(self.faults);
        self.tell("append", &outcome);
        self.book.appended(&batch, &outcome);
        self.keep(journal, &outcome);
    }

    fn compact(&mut self) {
        let mut journal = self.opened();
        let kept: Records = self.book.0[0].iter().filter(|_| self.chance.below(3) > 0).cloned().collect();
        let outcome = journal.compact(|log| kept.iter().try_for_each(|record| log.append(record)));
        self.tell("compact", &outcome);
        self.book.compacted(kept, &outcome);
        self.keep(journal, &outcome);
    }

    /// Uses it on, unless it has said that it is of no use any more.
    fn keep(&mut self, journal: Journal, outcome: &Result<(), JournalError>) {
        self.journal = match outcome {
            Err(error) if is_open(error) => None,
            _ => Some(journal),
        };
    }

    /// In the midst of what comes next, or a little later.
    fn end_soon(&mut self) {
        let at = self.machine.operations() + 1 + self.chance.below(6);
        self.machine.end_at(at);
        while self.machine.operations() < at {
            match self.chance.below(4) {
                0 => self.compact_once(),
                _ => self.append_once(),
            }
        }
        self.end();
    }

    fn append_once(&mut self) {
        if self.is_at_hand() {
            self.append();
        }
    }

    fn compact_once(&mut self) {
        if self.is_at_hand() {
            self.compact();
        }
    }

    /// Whether the log is open; if not, it is tried, once.
    fn is_at_hand(&mut self) -> bool {
        if self.journal.is_none()
            && let Ok((journal, _, records)) = open(self.machine.start(), Limits::default())
        {
            self.book.found(records);
            self.journal = Some(journal);
        }
        self.journal.is_some()
    }

    fn end(&mut self) {
        let power = self.chance.below(2) == 0;
        self.tell("end", &power);
        match power {
            true => self.machine.lose_power(),
            false => self.machine.kill_processes(),
        }
        self.journal = None;
    }

    fn step(&mut self) {
        match self.chance.below(12) {
            0 => self.end(),
            1 => self.end_soon(),
            2 => self.compact(),
            3 => self.journal = None,
            _ => self.append(),
        }
    }
}

#[test]
fn whatever_happens_the_log_has_what_the_book_says() {
    for seed in seeds(3_000) {
        let mut play = Play::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..40).for_each(|_| play.step());
            play.end();
            drop(play.opened());
        }));
        if played.is_err() {
            panic!("seed {seed} fails, to run it again: ROADSTEAD_SIM_SEED={seed}\n{}", play.told);
        }
    }
}
