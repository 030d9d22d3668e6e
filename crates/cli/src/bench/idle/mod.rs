//! `roadstead bench idle`: what connections that say nothing cost those that do, and how much memory they keep.
//!
//! Each round has a server of its own, and measures the active connections alone and then beside the idle ones. So the
//! two that are compared are neighbours in time, and rounds alternate.

mod crowd;
mod report;
mod round;

use std::time::Duration;

use roadstead::Model;
use roadstead_load::{generator::allow_connections, machine::Machine};

use crate::{
    numbers::{length, within},
    outcome::{Outcome, Result},
    output::Output,
    progress, signals,
};
use report::Report;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// I/O model of the server, one that is a single process: see `roadstead models`
    #[arg(long, value_name = "M", default_value = "epoll", value_parser = single)]
    model: Model,
    /// Connections that have 16 KiB echoed once and then say nothing
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = within(1..=25_000_u16))]
    idle: u16,
    /// Connections that send 128 bytes, wait for them, and send again
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(1..=1_000_u16))]
    active: u16,
    /// How long is measured: half of it alone, half beside the idle ones, in five rounds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = length(1.0..=600.0))]
    seconds: Duration,
    #[command(flatten)]
    output: Output,
}

fn single(text: &str) -> Result<Model, String> {
    let model: Model = text.parse().map_err(|error| format!("{error}"))?;
    let fits = !model.forks() && model.obstacle().is_none();
    fits.then_some(model).ok_or_else(|| match model.obstacle() {
        Some(why) => format!("{model} does not run here: {why}"),
        None => format!("{model} is many processes, and this measures one"),
    })
}

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
