//! `roadstead trident`: the owner's tool, the servers, the client, the measurements.

pub(crate) mod ask;
mod bench;
pub(crate) mod cluster;
pub(crate) mod dataset;
pub(crate) mod figures;
pub(crate) mod level;
mod report;
mod serve;
mod share;
pub(crate) mod sharing;
pub(crate) mod sweep;
mod until_signal;
mod verify;

use clap::Subcommand;

use crate::outcome::{Outcome, Result};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Share vectors: one directory for each server, one for clients
    Share(share::Args),
    /// See whether every byte of a directory is as it was shared; names damaged files and blocks
    Verify(verify::Args),
    /// Run one of the three servers
    ///
    /// It sees who asks (certificate, address), when, which operation by which protocol, and whether a search is
    /// checked; it knows how many rows of how many elements there are, and whether these are bytes.
    Serve(Box<serve::Args>),
    /// Read rows by index; no server learns which
    ///
    /// One fetch by `direct` gives at most one record, one by `exchange` up to 31 bits for each of three times the
    /// row's elements: with a forged key that is several rows.
    ///
    /// A row is as it was shared; which of two sharings is the newer, nothing says.
    Fetch(ask::FetchArgs),
    /// Find the nearest rows; no server learns the query or the result
    ///
    /// Whoever may search can read every row: a dozen checked searches give all of a collection of 128 bytes a row.
    /// docs/trident-security.md has what is hidden, from whom, and what can be taken.
    Search(ask::SearchArgs),
    /// Start three servers on this machine and measure them at rising levels of concurrency
    Bench(bench::Args),
}

pub(crate) fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Share(args) => share::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Serve(args) => serve::run(*args),
        Command::Fetch(args) => ask::fetch(&args),
        Command::Search(args) => ask::search(&args),
        Command::Bench(args) => bench::run(&args),
    }
}
