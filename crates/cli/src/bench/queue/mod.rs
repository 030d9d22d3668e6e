//! `roadstead bench queue`: the queue disciplines on the same jobs.

mod report;
mod round;
mod schedule;
mod work;

use std::{sync::Arc, time::Duration};

use roadstead::Queue;
use roadstead_load::machine::Machine;

use crate::{
    numbers::{length, within},
    outcome::{Outcome, Result},
    output::Output,
    progress, signals,
};
use report::{Report, Run};
use work::Pace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which of the jobs that wait is next: fcfs, sjf, rr, mlfq
    #[arg(long, value_name = "D,...", value_delimiter = ',', default_value = "fcfs,sjf,rr,mlfq")]
    queues: Vec<Queue>,
    /// Threads that run the jobs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(1..=64_u16))]
    workers: u16,
    /// The part of their time that the jobs take
    #[arg(long, value_name = "PART", default_value_t = 0.7, value_parser = load)]
    load: f64,
    /// How long jobs come for each discipline, in several rounds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = length(0.001..=3600.0))]
    seconds: Duration,
    /// From which the times and the sizes of the jobs are drawn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,
    #[command(flatten)]
    output: Output,
}

fn load(text: &str) -> Result<f64, String> {
    let load = text.parse().ok().filter(|load| (0.01..=0.99).contains(load));
    load.ok_or_else(|| format!("`{text}` is not a load such as 0.7, from 0.01 to 0.99"))
}

/// Every discipline has its turn so many times, so that what else the machine does meets all alike.
const ROUNDS: u32 = 5;
/// Connections that the jobs come from.
const CONNECTIONS: usize = 8;

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    progress::announce(args.seconds.saturating_mul(args.queues.len() as u32));
    let bar = progress::bar(u64::from(ROUNDS) * args.queues.len() as u64, "measuring");
    let pace = Arc::new(Pace::measure(args.workers)?);
    let mut report = Report {
        machine: Machine::here(),
        workers: args.workers,
        load: args.load,
        connections: CONNECTIONS,
        seconds: args.seconds.as_secs_f64(),
        seed: args.seed,
        links_per_ms: pace.links_per_ms,
        runs: args.queues.iter().map(|queue| Run::new(*queue)).collect(),
    };
    let per_second = schedule::rate(args.load, args.workers);
    'all: for round in 0..ROUNDS {
        let lines = schedule::draw(args.seed, round.into(), per_second, args.seconds / ROUNDS, CONNECTIONS);
        for run in &mut report.runs {
            if signals::interrupted() {
                break 'all;
            }
            run.add(round::run(run.queue(), args.workers, &pace, lines.clone())?, args.workers);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    report.compare();
    args.output.deliver(&report)
}
