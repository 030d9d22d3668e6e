//! `roadstead trident share`.

use std::path::PathBuf;

use roadstead_load::report::Stream;
use roadstead_trident::{
    data::{self, Generated, Rows},
    manifest::{MAX_DIM, MAX_ROWS},
    query::Collection,
    share::{CLIENT_DIR, Options, share},
    trust::Pins,
};

use super::until_signal::UntilSignal;
use crate::{
    numbers::within,
    outcome::{Outcome, Result},
    output::NewDirectories,
    progress,
    signals::{self, Interrupted},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Seed of the set that is made
    #[arg(long, default_value_t = 1, requires = "made", value_parser = within(0..=u64::MAX))]
    seed: u64,
    /// Where the directories server-1, server-2, server-3 and client go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The cluster's keys, as `roadstead keys` made them: servers and clients then speak TLS, on any addresses. Only
    /// the servers' certificates are read: DIR/server-1/cert.pem to server-3. Without keys they stay on one machine
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Elements of a row of raw bytes
    #[arg(long, value_parser = within(1..=MAX_DIM))]
    dim: Option<usize>,
    /// No search shares: rows can only be fetched
    #[arg(long)]
    no_search: bool,
    /// Delete a sharing that is there already
    #[arg(long)]
    replace: bool,
}

/// Where the rows come from.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Vectors: .fvecs, .npy (float32 or uint8), or raw bytes with --dim
    data: Option<PathBuf>,
    /// Make a SIFT-like set of so many rows instead
    #[arg(long, value_name = "ROWS", value_parser = within(1..=MAX_ROWS))]
    made: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let rows: Box<dyn Rows> = match (&args.source.data, args.source.made) {
        (Some(path), _) => data::open(path, args.dim)?,
        (None, made) => Box::new(Generated::new(made.unwrap_or(1), args.seed)),
    };
    let pins = args.keys.as_deref().map(Pins::read).transpose()?;
    let bar = progress::bar(rows.rows() as u64, "sharing");
    let options = Options { search: !args.no_search, replace: args.replace, pins };
    signals::watch()?;
    let _new = NewDirectories::before(&args.out)?;
    let shared = share(&mut UntilSignal(rows), &args.out, options, |done, _| bar.set_position(done as u64));
    bar.finish_and_clear();
    let manifest = match shared {
        Err(_) if signals::interrupted() => return Err(Interrupted("shared").into()),
        shared => shared?,
    };
    let say = |line: &str| Stream::Stdout.tell(line);
    let (rows, dim) = (manifest.rows, manifest.dim);
    say(&format!("shared {rows} rows of {dim} elements, manifest {}", manifest.digest()))?;
    if manifest.search {
        say(&Collection::open(&args.out.join(CLIENT_DIR))?.scales()?.precision().to_string())?;
    }
    say(&format!(
        "give each of server-1, server-2, server-3 in {} to a different operator, and client to clients;",
        args.out.display()
    ))?;
    say("whoever holds two server directories can read every row")?;
    if pins.is_none() {
        say("without --keys there is no TLS: servers and clients stay on one machine")?;
    }
    Ok(Outcome::Done)
}
