//! `roadstead trident fetch` and `search`.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;

use roadstead::{Dialer, tls::Keys};
use roadstead_load::report::{Column, Destination, Stream, Table};
use roadstead_trident::{
    client::{Client, Options, Protocol},
    data,
    party::Party,
    quantise::Significant,
    query::Collection,
};

use crate::{
    addresses::{Place, find_three, three},
    numbers::{MANY, seconds, within},
    outcome::{Outcome, Result},
};

/// The sharing and its servers.
#[derive(clap::Args)]
struct Cluster {
    /// The client's directory, as `share` made it
    #[arg(long, value_name = "DIR")]
    client: PathBuf,
    /// The client's keys, as `roadstead keys` made them, for a sharing that names its servers' public keys
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The three servers, in the order of their parties: addresses, Unix sockets (unix:PATH), or names, of whose addresses
    /// it is the first at which somebody listens
    #[arg(long, value_name = "A,B,C", value_parser = three)]
    servers: [Place; 3],
    /// Longest time for an answer, connecting included
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    deadline: Duration,
}

impl Cluster {
    fn client(&self, options: Options) -> Result<Client> {
        let collection = Arc::new(Collection::open(&self.client)?);
        let keys = self.keys.as_deref().map(Keys::load).transpose()?;
        let servers = find_three(&self.servers, Place::reached)?;
        Ok(Client::new(collection, servers, keys.as_ref(), options, Dialer::start)?)
    }
}

#[derive(clap::Args)]
#[command(
    override_usage = "roadstead trident fetch [OPTIONS] --client <DIR> --servers <A,B,C>\n           <INDEX>..."
)]
pub(crate) struct FetchArgs {
    /// Rows to read
    #[arg(required = true, value_parser = within(0..=MANY))]
    index: Vec<usize>,
    #[command(flatten)]
    cluster: Cluster,
    /// How rows are read: `direct`, or `exchange`, where the result stays shared among the servers and any two right
    /// answers are enough. All three servers must be up for both; `exchange` rounds floats, `direct` gives them bit by
    /// bit
    #[arg(long, value_name = "PROTOCOL", default_value_t = Protocol::Direct)]
    protocol: Protocol,
    /// Write the rows as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
}

impl FetchArgs {
    fn options(&self) -> Options {
        Options { deadline: self.cluster.deadline, protocol: self.protocol, ..Options::default() }
    }
}

#[derive(Serialize)]
struct FetchedRow {
    index: usize,
    values: Vec<f32>,
}

/// The elements of a row: all their digits, with an exponent where they would be long without.
pub(crate) fn written(values: &[f32]) -> String {
    let written = |value: &f32| {
        let text = format!("{value:?}");
        text.strip_suffix(".0").unwrap_or(&text).to_owned()
    };
    values.iter().map(written).collect::<Vec<String>>().join(" ")
}

/// How long a fetch that is done waits for what the third servers say.
pub(crate) const THIRDS: Duration = Duration::from_secs(1);

pub(crate) fn fetch(args: &FetchArgs) -> Result<Outcome> {
    let client = args.cluster.client(args.options())?;
    let mut rows = Vec::new();
    for &index in &args.index {
        rows.push(FetchedRow { index, values: client.fetch(index)?.values() });
    }
    match args.json.clone().map(Destination::from) {
        Some(json) => json.write_json(&rows)?,
        None => {
            for row in &rows {
                Stream::Stdout.print(&format!("{}: {}", row.index, written(&row.values)))?;
            }
        }
    }
    let contradictions = client.settle(THIRDS);
    match Party::ALL.into_iter().find(|party| contradictions[party.index()] > 0) {
        Some(party) => Err(format!(
            "{party} contradicts the other two, from whose answers the rows above were made and checked: \
             one of the three, no check can tell which, does not compute with what it was given"
        )
        .into()),
        None => Ok(Outcome::Done),
    }
}

#[derive(clap::Args)]
#[command(
    override_usage = "roadstead trident search [OPTIONS] --client <DIR> --servers <A,B,C>\n           <--like <INDEX>|--query <FILE>>"
)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    what: What,
    /// Which vector of the file
    #[arg(long, value_name = "N", default_value_t = 0, requires = "query", value_parser = within(0..=MANY))]
    nth: usize,
    /// How many neighbours
    #[arg(short, default_value = "10", value_parser = within(1..=MANY))]
    k: usize,
    /// Do not check the scores: a third of the cost. An unchecked search is private only against servers that follow
    /// the protocol: one that does not can falsify scores, and find the nearest row from what the client does next
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    cluster: Cluster,
    /// Write the neighbours as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
}

impl SearchArgs {
    fn options(&self) -> Options {
        Options { deadline: self.cluster.deadline, checked: !self.unchecked, ..Options::default() }
    }
}

/// What to search for.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Search for what is like this row, which is fetched first
    #[arg(long, value_name = "INDEX", value_parser = within(0..=MANY))]
    like: Option<usize>,
    /// Search for a vector of this file (.fvecs, .npy)
    #[arg(long, value_name = "FILE")]
    query: Option<PathBuf>,
}

#[derive(Serialize)]
struct Near {
    index: usize,
    /// Euclidean, in the units of the rows.
    distance: f64,
}

pub(crate) fn search(args: &SearchArgs) -> Result<Outcome> {
    let client = args.cluster.client(args.options())?;
    let query = match (&args.what.query, args.what.like) {
        (Some(path), _) => vector(path, args.nth)?,
        (None, like) => client.fetch(like.unwrap_or_default())?.values(),
    };
    let nearest = client.search(&query, args.k)?;
    let json = args.json.clone().map(Destination::from);
    let mut table = Table::new(&[Column::Number("row"), Column::Number("distance")]);
    for near in &nearest {
        table.row([near.index.to_string(), Significant(near.distance).to_string()]);
    }
    table.print(Stream::beside(json.as_ref()))?;
    if let Some(json) = json {
        let nearest: Vec<Near> =
            nearest.iter().map(|near| Near { index: near.index, distance: near.distance }).collect();
        json.write_json(&nearest)?;
    }
    Ok(Outcome::Done)
}

fn vector(path: &std::path::Path, nth: usize) -> Result<Vec<f32>> {
    let mut rows = data::open(path, None)?;
    if nth >= rows.rows() {
        return Err(
            format!("{} has {} vectors, there is no number {nth}", path.display(), rows.rows()).into()
        );
    }
    let mut vector = vec![0.0; rows.dim()];
    rows.read(nth, &mut vector)?;
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    enum Given {
        Fetch(FetchArgs),
        Search(SearchArgs),
    }

    fn options(line: &str) -> Options {
        let line = format!("trident {line} --client c --servers 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3");
        match Given::try_parse_from(line.split_whitespace()).unwrap() {
            Given::Fetch(args) => args.options(),
            Given::Search(args) => args.options(),
        }
    }

    #[test]
    fn a_client_is_told_what_was_asked_for_and_is_the_usual_one_otherwise() {
        let usual = Options::default();
        assert!(usual.checked && usual.deadline == Duration::from_secs(10));
        let hasty = Options { deadline: Duration::from_millis(500), ..usual };
        for (line, wanted) in [
            ("fetch 1", usual),
            ("fetch 1 --deadline 0.5", hasty),
            ("fetch 1 --protocol direct", usual),
            ("fetch 1 --protocol exchange", Options { protocol: Protocol::Exchange, ..usual }),
            ("search --like 1", usual),
            ("search --like 1 --deadline 0.5", hasty),
            ("search --like 1 --unchecked", Options { checked: false, ..usual }),
        ] {
            assert_eq!(options(line), wanted, "{line}");
        }
    }

    #[test]
    fn elements_are_written_with_all_their_digits_and_no_more() {
        let values = [0.0, -0.0, 1.0, 10.0, 0.1, 1.0 / 3.0, -2.5, 1e20, f32::MIN_POSITIVE];
        assert_eq!(written(&values), "0 -0 1 10 0.1 0.33333334 -2.5 1e20 1.1754944e-38");
        assert_eq!(written(&[]), "");
    }

    #[test]
    fn a_vector_behind_the_last_is_none_and_is_told_how_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("two.fvecs");
        let rows = [[1.0_f32, 2.0], [3.0, 4.0]];
        let file =
            rows.iter().flat_map(|row| [2_u32.to_le_bytes(), row[0].to_le_bytes(), row[1].to_le_bytes()]);
        fs::write(&path, file.flatten().collect::<Vec<u8>>()).unwrap();
        assert_eq!(vector(&path, 1).unwrap(), rows[1]);
        for nth in [2, 3] {
            let said = vector(&path, nth).unwrap_err().to_string();
            assert!(said.ends_with(&format!("has 2 vectors, there is no number {nth}")), "{said}");
        }
    }
}
