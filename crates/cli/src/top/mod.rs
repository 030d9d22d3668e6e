//! `roadstead top`: what a server does, as its `--admin` tells it, on the terminal or printed once.

mod ask;
mod figures;
mod keys;
mod overview;
mod screen;

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use roadstead_load::report::Destination;

use crate::{
    addresses::{Place, place},
    numbers::seconds,
    outcome::{Outcome, Result},
    signals,
};
use ask::Source;
use overview::Overview;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The --admin of a server: an address, or unix:PATH
    #[arg(value_name = "ADDR", value_parser = place)]
    server: Place,
    /// Time from one look to the next
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    every: Duration,
    /// Look twice, print what there is and the rates between, and end: what is done where stdout is no terminal
    #[arg(long)]
    once: bool,
    /// The same as JSON
    #[arg(long, conflicts_with = "once")]
    json: bool,
}

/// Nobody asks more often.
const SOONEST: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let source = Source::new(&args.server)?;
    let every = args.every.max(SOONEST);
    let first = source.ask()?;
    if !args.once && !args.json && io::stdout().is_terminal() {
        signals::watch()?;
        screen::show(source, first, every)?;
        return Ok(Outcome::Done);
    }
    thread::sleep(every);
    let overview = Overview::new(&source.ask()?, Some(&first));
    match args.json {
        true => Destination::Stdout.write_json(&overview)?,
        false => Destination::Stdout.write(&overview.to_string())?,
    }
    Ok(Outcome::Done)
}
