//! `roadstead bench idle`: what connections that say nothing cost those that do, and how much memory they keep.
//!
//! Each round has a server of its own, and measures the active connections alone and then beside the idle ones. So the
//! two that are compared are neighbours in time, and rounds alternate.

mod args;
mod crowd;
mod report;
mod round;

use roadstead_load::{generator::allow_connections, machine::Machine};

use crate::{
    outcome::{Outcome, Result},
    progress, signals,
};
pub(crate) use args::Args;
use report::Report;

/// So many pairs are compared.
const ROUNDS: u32 = 5;

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    allow_connections((args.idle + args.active).into())?;
    signals::watch()?;
    progress::announce(args.seconds);
    let bar = progress::bar(ROUNDS.into(), "measuring");
    let mut report = Report::new(Machine::here(), args.model, args.idle, args.active);
    for _ in 0..ROUNDS {
        if signals::interrupted() {
            break;
        }
        report.rounds.extend(round::run(args, args.seconds / ROUNDS / 2)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.compare();
    args.output.deliver(&report)
}
