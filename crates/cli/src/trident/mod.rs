//! `roadstead trident`: the owner's tool, the servers, the client, the measurements.

pub(crate) mod ask;
pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod dataset;
mod report;
mod serve;
mod share;
pub(crate) mod sweep;

pub(crate) use ask::three;
use clap::Subcommand;

use crate::{Outcome, Result};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Share vectors: one directory for each server, one for clients
    Share(share::Args),
    /// Run one of the three servers
    Serve(serve::Args),
    /// Read rows by index; no server learns which
    Fetch(ask::FetchArgs),
    /// Find the nearest rows; no server learns the query or the result
    Search(ask::SearchArgs),
    /// Start three servers on this machine and measure them at rising levels of concurrency
    Bench(bench::Args),
}

pub(crate) fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Share(args) => share::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Fetch(args) => ask::fetch(&args),
        Command::Search(args) => ask::search(&args),
        Command::Bench(args) => bench::run(&args),
    }
}
