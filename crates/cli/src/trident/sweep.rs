//! The sweep: three servers, asked at every level of concurrency.

use roadstead_load::machine::Machine;
use roadstead_trident::{
    client::{Client, Options, Protocol},
    kernels::Kernel,
};

use super::{
    ask::THIRDS,
    cluster::{Between, Cluster, Scratch},
    dataset::{Dataset, Horizon},
    figures::{Op, Run},
    level::Bench,
    report::Report,
};
use crate::{outcome::Result, progress, signals};

/// What to measure.
pub(crate) struct Plan {
    pub(crate) levels: Vec<usize>,
    pub(crate) queries: usize,
    pub(crate) ops: Vec<Op>,
    pub(crate) checked: bool,
    pub(crate) kernel: Option<Kernel>,
}

/// Starts three servers on a sharing, and stops them in the end.
pub(crate) fn with_servers<T>(
    scratch: &Scratch,
    plan: &Plan,
    between: Option<Between>,
    work: impl FnOnce(&Cluster, &Client) -> Result<T>,
) -> Result<T> {
    let spinner = progress::spinner("starting three servers");
    let cluster = Cluster::start(scratch, plan.kernel, between)?;
    spinner.finish_and_clear();
    let protocol = if between.is_some() { Protocol::Exchange } else { Protocol::Direct };
    let options = Options { checked: plan.checked, protocol, ..Options::default() };
    let client = cluster.client(options)?;
    work(&cluster, &client)
}

/// Every level of every operation.
pub(crate) fn measure(
    dataset: &Dataset,
    plan: &Plan,
    cluster: &Cluster,
    client: &Client,
    between: Option<Between>,
) -> Result<Report> {
    let horizons = horizons(dataset, plan, client)?;
    let bench = Bench { dataset, cluster, client, checked: plan.checked, between, horizons: &horizons };
    // Connects, so that no level pays for it.
    client.fetch(0)?;
    let often = u32::try_from(plan.levels.len() * plan.queries).unwrap_or(u32::MAX);
    progress::announce(bench.one_by_one(&plan.ops)?.saturating_mul(often));
    let runs = runs(plan, &bench)?;
    Ok(Report {
        dataset: dataset.name.clone(),
        rows: dataset.rows,
        dim: dataset.dim,
        kernel: plan.kernel.unwrap_or_else(Kernel::best).name(),
        tls: client.collection().manifest().pins.is_some(),
        peer_delay_ms: between.map_or(0.0, |between| between.delay.as_secs_f64() * 1e3),
        distance_error: horizons.iter().map(|horizon| horizon.error).fold(0.0, f64::max),
        machine: Machine::here(),
        servers: cluster.usage(),
        contradictions: client.settle(THIRDS),
        runs,
    })
}

/// What searches are compared with, if there are to be any.
fn horizons(dataset: &Dataset, plan: &Plan, client: &Client) -> Result<Vec<Horizon>> {
    if !plan.ops.contains(&Op::Search) {
        return Ok(Vec::new());
    }
    let spinner = progress::spinner("finding the true neighbours");
    let horizons = dataset.horizons(plan.queries, client.collection());
    spinner.finish_and_clear();
    signals::check()?;
    horizons
}

/// The levels, one after the other, until a signal comes.
fn runs(plan: &Plan, bench: &Bench<'_>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let bar = progress::bar((plan.ops.len() * plan.levels.len() * plan.queries) as u64, "measuring");
    for (op, level) in plan.ops.iter().flat_map(|op| plan.levels.iter().map(move |level| (*op, *level))) {
        if signals::interrupted() {
            break;
        }
        let run = bench.level(op, level, plan.queries, &|| bar.inc(1))?;
        // A level that was interrupted before its first answer has no figures.
        if run.asked() > 0 {
            runs.push(run);
        }
    }
    bar.finish_and_clear();
    Ok(runs)
}
