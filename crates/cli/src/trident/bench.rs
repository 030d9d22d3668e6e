//! `roadstead trident bench`: the sweep.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use roadstead_load::{
    machine::Machine,
    report::{Destination, Stream},
};
use roadstead_trident::{
    client::{Client, Options},
    kernels::Kernel,
    query::Collection,
    share::{self, CLIENT_DIR},
};

use super::{
    cluster::Cluster,
    dataset::Dataset,
    report::Report,
    serve::kernel,
    sweep::{Bench, Op},
};
use crate::{Outcome, Result, progress, signals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory with NAME_base.fvecs and NAME_query.fvecs; without, siftsmall where it is found, else a made set
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Make a SIFT-like set of so many rows instead
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = positive)]
    rows: Option<usize>,
    /// Questions in flight, one run for each
    #[arg(long, value_name = "L,...", value_delimiter = ',', default_value = "1,2,4,8,16", value_parser = level)]
    levels: Vec<usize>,
    /// Questions per level
    #[arg(long, value_name = "N", default_value = "50", value_parser = queries)]
    queries: usize,
    /// What to ask
    #[arg(long, value_delimiter = ',', default_value = "fetch,search")]
    op: Vec<Op>,
    /// Searches without checks: a third of the cost, and a corrupt server can falsify them
    #[arg(long)]
    unchecked: bool,
    /// Version of the servers' inner loops: portable, avx2, avx512
    #[arg(long, value_parser = kernel)]
    kernel: Option<Kernel>,
    #[command(flatten)]
    output: Output,
}

/// Where the report goes besides the table.
#[derive(clap::Args)]
pub(crate) struct Output {
    /// Write the report as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
    /// Draw throughput and latency against the level into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<OsString>,
}

impl Output {
    fn json(&self) -> Option<Destination> {
        self.json.clone().map(Destination::from)
    }

    /// Where people read.
    pub(crate) fn stream(&self) -> Stream {
        Stream::beside(self.json().as_ref())
    }

    /// Table, JSON and picture.
    pub(crate) fn deliver(&self, report: &Report) -> Result<Outcome> {
        report.print(self.stream())?;
        if let Some(json) = self.json() {
            json.write_json(report)?;
        }
        if let Some(svg) = self.svg.clone().map(Destination::from) {
            if report.runs.is_empty() {
                tracing::warn!("nothing was measured, so {svg} was not drawn");
            } else {
                svg.write(&report.svg()?)?;
            }
        }
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Wrong })
    }
}

pub(crate) fn positive(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("`{text}` is not a number above zero"))
}

/// Each question in flight has a thread of its own.
fn level(text: &str) -> Result<usize, String> {
    at_most(1_000, positive(text)?)
}

/// Every answer is kept until its level is checked.
fn queries(text: &str) -> Result<usize, String> {
    at_most(1_000_000, positive(text)?)
}

fn at_most(limit: usize, number: usize) -> Result<usize, String> {
    if number <= limit { Ok(number) } else { Err(format!("{number} is more than {limit}")) }
}

/// What to measure.
pub(crate) struct Plan {
    pub(crate) levels: Vec<usize>,
    pub(crate) queries: usize,
    pub(crate) ops: Vec<Op>,
    pub(crate) checked: bool,
    pub(crate) kernel: Option<Kernel>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    signals::watch()?;
    let dataset = match args.rows {
        Some(rows) => Dataset::made(rows.max(super::dataset::K)),
        None => Dataset::find(args.data.as_deref())?,
    };
    let plan = Plan {
        levels: args.levels.clone(),
        queries: args.queries,
        ops: args.op.clone(),
        checked: !args.unchecked,
        kernel: args.kernel,
    };
    let report = with_cluster(&dataset, plan.kernel, plan.checked, |cluster, client| {
        measure(&dataset, &plan, cluster, client)
    })?;
    args.output.deliver(&report)
}

/// Shares the set into a directory that is gone afterwards, starts three servers on it, and stops them in the end.
pub(crate) fn with_cluster<T>(
    dataset: &Dataset,
    kernel: Option<Kernel>,
    checked: bool,
    work: impl FnOnce(&Cluster, &Client) -> Result<T>,
) -> Result<T> {
    let dir = tempfile::Builder::new().prefix("roadstead-").tempdir()?;
    signals::doom(dir.path());
    let shares = dir.path().join("shares");
    let bar = progress::bar(dataset.rows as u64, "sharing among three servers");
    let options = share::Options { search: true, replace: false };
    share::share(dataset.source()?.as_mut(), &shares, options, |done, _| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let spinner = progress::spinner("starting three servers");
    let cluster = Cluster::start(&shares, kernel)?;
    spinner.finish_and_clear();
    let collection = Arc::new(Collection::open(&shares.join(CLIENT_DIR))?);
    let client = Client::new(collection, cluster.addresses()?, Options { checked, ..Options::default() })?;
    work(&cluster, &client)
}

/// Every level of every operation.
pub(crate) fn measure(dataset: &Dataset, plan: &Plan, cluster: &Cluster, client: &Client) -> Result<Report> {
    let horizons = if plan.ops.contains(&Op::Search) {
        let spinner = progress::spinner("finding the true neighbours");
        let horizons = dataset.horizons(plan.queries)?;
        spinner.finish_and_clear();
        horizons
    } else {
        Vec::new()
    };
    let bench = Bench { dataset, cluster, client, checked: plan.checked, horizons: &horizons };
    // Connects, so that no level pays for it.
    client.fetch(0)?;
    let mut runs = Vec::new();
    let bar = progress::bar((plan.ops.len() * plan.levels.len() * plan.queries) as u64, "measuring");
    'sweep: for &op in &plan.ops {
        for &level in &plan.levels {
            if signals::interrupted() {
                tracing::warn!("interrupted: the report holds what was measured until now");
                break 'sweep;
            }
            let run = bench.level(op, level, plan.queries, &|| bar.inc(1))?;
            // A level that was interrupted before its first answer has no figures.
            if run.asked() > 0 {
                runs.push(run);
            }
        }
    }
    bar.finish_and_clear();
    Ok(Report {
        dataset: dataset.name.clone(),
        rows: dataset.rows,
        dim: dataset.dim,
        kernel: plan.kernel.unwrap_or_else(Kernel::best).name(),
        machine: Machine::here(),
        servers: cluster.usage(),
        runs,
    })
}
