//! `roadstead trident share`.

use std::path::PathBuf;

use roadstead_trident::{
    data::{self, Generated, Rows},
    share::{Options, share},
    trust::Pins,
};

use super::bench::positive;
use crate::{Outcome, Result, progress};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Vectors: .fvecs, .npy (float32 or uint8), or raw bytes with --dim
    #[arg(required_unless_present = "made")]
    data: Option<PathBuf>,
    /// Make a SIFT-like set of so many rows instead
    #[arg(long, value_name = "ROWS", conflicts_with = "data", value_parser = positive)]
    made: Option<usize>,
    /// Seed of the set that is made
    #[arg(long, default_value_t = 1, requires = "made")]
    seed: u64,
    /// Where the directories server-1, server-2, server-3 and client go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The cluster's keys, as `roadstead keys` made them: servers and clients then speak TLS, on any addresses. Only the
    /// servers' certificates are read: DIR/server-1/cert.pem to server-3. Without keys they stay on one machine
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Elements of a row of raw bytes
    #[arg(long)]
    dim: Option<usize>,
    /// No search shares: rows can only be fetched
    #[arg(long)]
    no_search: bool,
    /// Delete a sharing that is there already
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let mut rows: Box<dyn Rows> = match (&args.data, args.made) {
        (Some(path), _) => data::open(path, args.dim)?,
        (None, made) => Box::new(Generated::new(made.unwrap_or(1), args.seed)),
    };
    let pins = args.keys.as_deref().map(Pins::read).transpose()?;
    let bar = progress::bar(rows.rows() as u64, "sharing");
    let options = Options { search: !args.no_search, replace: args.replace, pins };
    let manifest = share(rows.as_mut(), &args.out, options, |done, _| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    println!("shared {} rows of {} elements, manifest {}", manifest.rows, manifest.dim, manifest.digest());
    println!(
        "give each of server-1, server-2, server-3 in {} to a different operator, and client to clients;",
        args.out.display()
    );
    println!("whoever holds two server directories can read every row");
    if pins.is_none() {
        println!("without --keys there is no TLS: servers and clients stay on one machine");
    }
    Ok(Outcome::Done)
}
