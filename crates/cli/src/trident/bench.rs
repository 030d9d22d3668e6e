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
    let plan = plan(args);
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

fn plan(args: &Args) -> Plan {
    Plan {
        levels: args.levels.clone(),
        queries: args.queries,
        ops: args.op.clone(),
        checked: !args.unchecked,
        kernel: args.kernel,
    }
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
        Given::try_parse_from(format!("bench {line}").split_whitespace()).unwrap().args
    }

    #[test]
    fn what_was_asked_for_is_measured_and_searches_are_checked_unless_they_are_not_to_be() {
        let usual = plan(&given(""));
        assert_eq!((&*usual.levels, usual.queries, usual.checked), (&[1, 2, 4, 8, 16][..], 50, true));
        assert!(usual.ops == [Op::Fetch, Op::Search] && usual.kernel.is_none());
        let asked = plan(&given("--levels 3,2 --queries 7 --op search --unchecked --kernel portable"));
        assert_eq!((&*asked.levels, asked.queries, asked.checked), (&[3, 2][..], 7, false));
        assert!(asked.ops == [Op::Search]);
        assert_eq!(asked.kernel.map(Kernel::name), Some("portable"));
    }

    #[test]
    fn every_protocol_has_its_turn_and_exchange_one_for_each_strategy_with_the_delay() {
        let ways = |line: &str| -> Vec<Option<(String, Duration)>> {
            let told = |way: Between| (way.strategy.to_string(), way.delay);
            ways(&given(line)).into_iter().map(|way| way.map(told)).collect()
        };
        assert_eq!(ways(""), [None]);
        assert_eq!(ways("--protocol exchange"), [Some(("multiplexed".to_owned(), Duration::ZERO))]);
        let delay = Duration::from_millis(5);
        assert_eq!(
            ways("--protocol exchange,direct --exchange shared,pool:3 --peer-delay 5ms"),
            [Some(("shared".to_owned(), delay)), Some(("pool:3".to_owned(), delay)), None]
        );
    }
}
