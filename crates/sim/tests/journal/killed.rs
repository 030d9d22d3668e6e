//! The log, ended at every operation of the disk that a thousand operations of it ask for.

use roadstead_proto::journal::Limits;
use roadstead_sim::{DiskFaults, SimulatedDisk};

use crate::{Chance, open};

const OPERATIONS: u64 = 1_000;

/// What a run has come to.
#[derive(Default)]
struct Run {
    /// What was acknowledged, and is not compacted away.
    sure: Vec<Vec<u8>>,
    /// What the last call would have made of it, if that was not answered.
    maybe: Vec<Vec<Vec<u8>>>,
    done: u64,
}

/// Appends and compacts, until the machine ends.
fn run(machine: &SimulatedDisk) -> Run {
    let mut run = Run::default();
    let mut chance = Chance(16);
    let Ok((mut journal, ..)) = open(machine.start(), Limits::default()) else { return run };
    while run.done < OPERATIONS {
        if chance.below(50) == 0 {
            let kept = run.sure[run.sure.len().saturating_sub(20)..].to_vec();
            let outcome = journal.compact(|log| kept.iter().try_for_each(|record| log.append(record)));
            if outcome.is_err() {
                run.maybe = vec![kept];
                return run;
            }
            run.sure = kept;
            continue;
        }
        let batch: Vec<_> = (0..1 + chance.below(3)).map(|_| chance.record()).collect();
        if journal.append(&batch).is_err() {
            run.maybe = (1..=batch.len()).map(|count| [&run.sure[..], &batch[..count]].concat()).collect();
            return run;
        }
        run.sure.extend(batch);
        run.done += 1;
    }
    run
}

/// Ends at every operation, whether the power fails or the process is killed.
fn end_everywhere(end: fn(&SimulatedDisk)) {
    let disk = || {
        let machine = SimulatedDisk::new(0);
        machine.set_faults(DiskFaults { short: 0.1, ..DiskFaults::none() });
        machine
    };
    let whole = disk();
    assert_eq!(run(&whole).done, OPERATIONS);
    let operations = whole.operations();
    assert!(operations > 2 * OPERATIONS, "only {operations}");
    let mut torn = 0;
    for last in 1..=operations {
        let machine = disk();
        machine.end_at(last);
        let run = run(&machine);
        end(&machine);
        let (_, replayed, found) = open(machine.start(), Limits::default()).unwrap();
        assert!(
            found == run.sure || run.maybe.contains(&found),
            "ended at {last} of {operations}: {} were acknowledged, {} are there",
            run.sure.len(),
            found.len()
        );
        torn += u64::from(replayed.cut > 0);
    }
    assert!(torn > operations / 50, "only {torn} of {operations} have torn a record");
}

#[test]
fn without_power_at_any_operation_all_that_was_acknowledged_is_there() {
    end_everywhere(SimulatedDisk::lose_power);
}

#[test]
fn killed_at_any_operation_all_that_was_acknowledged_is_there() {
    end_everywhere(SimulatedDisk::kill_processes);
}
