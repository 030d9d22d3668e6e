//! Plants faults and lets the tests look for them.
#![forbid(unsafe_code)]

use std::{
    env,
    error::Error,
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use clap::{Parser, builder::RangedU64ValueParser};
use signal_hook::consts::{SIGINT, SIGTERM};

use roadstead_mutants::{
    copy::{self, Tests},
    fault::{self, Fault},
    hunt::{self, Verdict},
    order::{self, Step},
    program::Runner,
    record::Records,
};

/// Plants faults in a copy of the tree, and lets the tests look for each.
#[derive(Parser)]
#[command(name = "roadstead-mutants", after_help = EXAMPLES)]
enum Arguments {
    /// Copy the tree with all faults in it, and say how to play one by hand
    Plant(Place),
    /// Build the copy, play each fault to the tests, the quickest first, and write the table
    Run(Run),
}

const EXAMPLES: &str = "\
Examples:
  cargo run -p roadstead-mutants -- run --only drain       the faults with `drain` in their name or file
  cargo run -p roadstead-mutants -- run --steps 2          all, but only with the tests that should find them
  cargo run -p roadstead-mutants -- run --out docs/mutants.md
  cargo run -p roadstead-mutants -- plant                  to look at one with other means

A run goes on where the last one was ended: what was found is not looked for again, and what survived meets the tests
that it has not met. Every fault is in crates/mutants/faults/, with the tests that are tried first;
`cargo test -p roadstead-mutants` checks that list.";

#[derive(clap::Args)]
struct Place {
    /// Where the copy, its build and the records are kept [default: mutants/ in cargo's target directory]
    dir: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    place: Place,
    /// Only faults with this in their name, file or area
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Try the first so many test programs for each fault, and leave what survives them for the next run
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    steps: Option<usize>,
    /// Look again for what was found before, and try again what it has survived
    #[arg(long)]
    again: bool,
    /// Seconds without a test that ends, after which a test program hangs
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    patience: u64,
    /// Write the table to this file, after each fault
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a line of JSON for each fault to stdout
    #[arg(long)]
    json: bool,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let ended = match Arguments::parse() {
        Arguments::Plant(place) => plant(&place),
        Arguments::Run(run) => play(&run),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("roadstead-mutants: {error}");
        ExitCode::FAILURE
    })
}

/// Where everything is.
struct Rooms {
    root: PathBuf,
    dir: PathBuf,
}

impl Rooms {
    fn new(place: &Place) -> Result<Self> {
        let root = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let dir = place.dir.clone().unwrap_or_else(|| target.join("mutants"));
        fs::create_dir_all(&dir)?;
        Ok(Self { root, dir: dir.canonicalize()? })
    }

    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn planted(&self) -> Result<Vec<Fault>> {
        let faults = fault::load(&self.root.join("crates/mutants/faults"))?;
        copy::plant(&faults, &self.root, &self.tree())?;
        Ok(faults)
    }
}

fn git(question: &[&str]) -> Result<String> {
    let asked = Command::new("git").args(question).output()?;
    if !asked.status.success() {
        return Err("this is no checkout of the tree: git knows none here".into());
    }
    Ok(String::from_utf8(asked.stdout)?.trim_end_matches('\n').to_owned())
}

fn plant(place: &Place) -> Result<ExitCode> {
    let rooms = Rooms::new(place)?;
    let faults = rooms.planted()?;
    let (tree, name) = (rooms.tree(), faults.first().map_or("none", |fault| &fault.name));
    let (count, tree) = (faults.len(), tree.display());
    writeln!(
        io::stdout(),
        "{count} faults are planted in {tree}. To play one:\n  cd {tree} && ROADSTEAD_PLANT={name} cargo test --workspace"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn play(run: &Run) -> Result<ExitCode> {
    let rooms = Rooms::new(&run.place)?;
    let faults = rooms.planted()?;
    let programs = copy::build(&rooms.tree(), &rooms.dir.join("target"))?;
    // Cargo has its own way to end; from here on it is ours.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let patience = Duration::from_secs(run.patience);
    let runner = Runner::new(&rooms.dir.join("tmp"), patience, Arc::clone(&interrupted));
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let mut records = Records::open(&rooms.dir.join("records.jsonl"), &commit)?;
    for fault in faults.iter().filter(|fault| run.wants(fault)) {
        let before = records.of(fault).map(|record| record.verdict.clone()).filter(|_| !run.again);
        if before.as_ref().is_none_or(|before| before.found.is_none()) {
            let Some(verdict) = look_for(fault, before, &programs, &runner, run.steps)? else { break };
            say(fault, &verdict);
            let record = records.keep(fault, verdict)?;
            if run.json {
                writeln!(io::stdout(), "{}", serde_json::to_string(record)?)?;
            }
        }
        write_page(run.out.as_deref(), &records, &faults)?;
    }
    eprintln!("{}", records.summary(&faults));
    Ok(if interrupted.load(SeqCst) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

impl Run {
    fn wants(&self, fault: &Fault) -> bool {
        [&fault.name, &fault.file, &fault.area].iter().any(|text| text.contains(&self.only))
    }
}

fn look_for(
    fault: &Fault,
    before: Option<Verdict>,
    programs: &[Tests],
    runner: &Runner,
    most: Option<usize>,
) -> Result<Option<Verdict>> {
    let unknown = |program| format!("{} names the tests {program}, which do not exist", fault.name);
    let mut steps = order::steps(fault, programs).map_err(unknown)?;
    steps.truncate(most.unwrap_or(usize::MAX));
    let progress = |step: &Step<'_>| {
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K{} … {}", fault.name, step.name());
            let _ = io::stderr().flush();
        }
    };
    Ok(hunt::hunt(&fault.name, &steps, before, runner, progress)?)
}

fn say(fault: &Fault, verdict: &Verdict) {
    let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let Verdict { found, seconds, doubted, .. } = verdict;
    let became = match found {
        Some(found) => format!("found by {} {}", found.program, found.by),
        None => "SURVIVED".into(),
    };
    eprintln!("{clear}{:<44} {seconds:>6.1} s  {became}", fault.name);
    doubted.iter().for_each(|test| eprintln!("{:<54} not counted: {test}", ""));
}

fn write_page(out: Option<&Path>, records: &Records, faults: &[Fault]) -> io::Result<()> {
    out.map_or(Ok(()), |out| fs::write(out, records.page(faults)))
}
