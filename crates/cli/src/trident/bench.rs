//! `roadstead trident bench`: a sweep for each way in which rows are to be read.

use std::{path::PathBuf, time::Duration};

use roadstead::exchange::Strategy;
use roadstead_trident::{client::Protocol, kernels::Kernel};

use super::{
    cluster::Between,
    dataset::{Dataset, K},
    figures::Op,
    report::Report,
    serve::kernel,
    sharing::with_shares,
    sweep::{Plan, measure, with_servers},
};
use crate::{
    numbers::{MANY, milliseconds, within},
    outcome::{Outcome, Result},
    output::Output,
    signals,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory with NAME_base.fvecs and NAME_query.fvecs; without, siftsmall where it is found, else a made set
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Make a SIFT-like set of so many rows instead
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = within(1..=MANY))]
    rows: Option<usize>,
    /// Questions in flight, one run for each; each has a thread of its own
    #[arg(long, value_name = "L,...", value_delimiter = ',', default_value = "1,2,4,8,16", value_parser = within(1..=1_000_usize))]
    levels: Vec<usize>,
    /// Questions per level; every answer is kept until its level is checked
    #[arg(long, value_name = "N", default_value = "50", value_parser = within(1..=1_000_000_usize))]
    queries: usize,
    /// What to ask
    #[arg(long, value_delimiter = ',', default_value = "fetch,search")]
    op: Vec<Op>,
    /// How rows are read: direct, exchange (all three servers must be up for both; exchange rounds floats)
    #[arg(long, value_name = "P,...", value_delimiter = ',', default_value = "direct")]
    protocol: Vec<Protocol>,
    /// For the protocol exchange, how messages between servers travel, one run for each: shared, per-query, pool:N,
    /// multiplexed
    #[arg(long, value_name = "S,...", value_delimiter = ',', default_value = "multiplexed")]
    exchange: Vec<Strategy>,
    /// Delay between the servers, one way, made by relays: 5ms; a plain number is milliseconds
    #[arg(long, value_name = "TIME", default_value = "0ms", allow_hyphen_values = true, value_parser = milliseconds)]
    peer_delay: Duration,
    /// Searches without checks: a third of the cost, and private only against servers that follow the protocol
    #[arg(long)]
    unchecked: bool,
    /// Version of the servers' inner loops: portable, avx2, avx512
    #[arg(long, value_parser = kernel)]
    kernel: Option<Kernel>,
    /// Without TLS, between client and servers and between the servers
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    let dataset = match args.rows {
        Some(rows) => Dataset::made(rows.max(K)),
        None => Dataset::find(args.data.as_deref())?,
    };
    let plan = Plan {
        levels: args.levels.clone(),
        queries: args.queries,
        ops: args.op.clone(),
        checked: !args.unchecked,
        kernel: args.kernel,
    };
    let report = with_shares(&dataset, !args.plain, |scratch| {
        let mut whole: Option<Report> = None;
        for between in ways(args) {
            let fetches = plan.ops.iter().copied().filter(|op| *op == Op::Fetch || between.is_none());
            let plan = Plan { ops: fetches.collect(), levels: plan.levels.clone(), ..plan };
            if plan.ops.is_empty() || whole.is_some() && signals::interrupted() {
                continue;
            }
            let report = with_servers(scratch, &plan, between, |cluster, client| {
                measure(&dataset, &plan, cluster, client, between)
            })?;
            match &mut whole {
                Some(whole) => {
                    whole.peer_delay_ms = whole.peer_delay_ms.max(report.peer_delay_ms);
                    whole.distance_error = whole.distance_error.max(report.distance_error);
                    whole.runs.extend(report.runs);
                }
                None => whole = Some(report),
            }
        }
        whole.ok_or_else(|| "there is nothing to measure: searches are of the protocol direct".into())
    })?;
    args.output.deliver(&report)
}

/// A cluster for each way in which rows are to be read: `None` is the protocol direct.
fn ways(args: &Args) -> Vec<Option<Between>> {
    let delay = args.peer_delay;
    let of = |protocol: &Protocol| match protocol {
        Protocol::Direct => vec![None],
        Protocol::Exchange => {
            args.exchange.iter().map(|&strategy| Some(Between { strategy, delay })).collect()
        }
    };
    args.protocol.iter().flat_map(of).collect()
}
