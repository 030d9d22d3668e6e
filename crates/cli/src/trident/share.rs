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

impl Args {
    fn rows(&self) -> Result<Box<dyn Rows>> {
        Ok(match (&self.source.data, self.source.made) {
            (Some(path), _) => data::open(path, self.dim)?,
            (None, made) => Box::new(Generated::new(made.unwrap_or(1), self.seed)),
        })
    }

    fn options(&self) -> Result<Options> {
        let pins = self.keys.as_deref().map(Pins::read).transpose()?;
        Ok(Options { search: !self.no_search, replace: self.replace, pins })
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let (rows, options) = (args.rows()?, args.options()?);
    let bar = progress::bar(rows.rows() as u64, "sharing");
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
    if options.pins.is_none() {
        say("without --keys there is no TLS: servers and clients stay on one machine")?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        args: Args,
    }

    fn given(line: &str) -> Args {
        Given::try_parse_from(format!("share --out nowhere {line}").split_whitespace()).unwrap().args
    }

    #[test]
    fn rows_are_made_as_many_and_of_the_seed_that_was_asked_for() {
        for (line, count, seed) in [("--made 3", 3, 1), ("--made 5 --seed 2", 5, 2)] {
            let made = given(line).rows().unwrap().read_all().unwrap();
            assert_eq!(made, Generated::new(count, seed).read_all().unwrap(), "{line}");
        }
    }

    #[test]
    fn a_sharing_is_for_searches_and_replaces_nothing_unless_that_was_asked_for() {
        for (line, search, replace) in [
            ("--made 3", true, false),
            ("--made 3 --no-search", false, false),
            ("--made 3 --replace", true, true),
        ] {
            let Options { search: searched, replace: replaced, pins } = given(line).options().unwrap();
            assert_eq!((searched, replaced, pins.is_none()), (search, replace, true), "{line}");
        }
    }
}
