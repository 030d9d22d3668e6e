//! `roadstead demo`: three Trident servers and a client on this machine, in under a minute.

use std::path::PathBuf;

use roadstead_load::report::{Stream, count};
use roadstead_trident::client::Client;

use crate::{
    outcome::{Outcome, Result},
    output::Output,
    signals,
    trident::{
        ask::written,
        dataset::{Dataset, K},
        figures::Op,
        sharing::with_shares,
        sweep::{Plan, measure, with_servers},
    },
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory with NAME_base.fvecs and NAME_query.fvecs; without, siftsmall where it is found, else a made set
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Questions per level.
const QUERIES: usize = 200;

pub(crate) fn run(args: Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    let dataset = Dataset::find(args.data.as_deref())?;
    let stream = args.output.stream();
    stream.tell(&format!(
        "{}: {} rows of {} elements",
        dataset.name,
        count(dataset.rows as u64),
        dataset.dim
    ))?;
    let plan = Plan {
        levels: vec![1, 2, 4, 8, 16],
        queries: QUERIES,
        ops: vec![Op::Fetch, Op::Search],
        checked: true,
        kernel: None,
    };
    let report = with_shares(&dataset, true, |scratch| {
        with_servers(scratch, &plan, None, |cluster, client| {
            stream.tell("three servers run, each with shares that tell it nothing; they and the client know each other by \
                 their keys (TLS 1.3)",
            )?;
            show(stream, &dataset, client)?;
            measure(&dataset, &plan, cluster, client, None)
        })
    })?;
    let outcome = args.output.deliver(&report)?;
    if let Some(recall) = report.recall() {
        stream
            .tell(&format!("recall@{K} over {} queries: {recall:.3}", dataset.queries.len().min(QUERIES)))?;
    }
    stream.tell("the three servers have stopped")?;
    Ok(outcome)
}

/// One fetch and one search, for the eye.
fn show(stream: Stream, dataset: &Dataset, client: &Client) -> Result<()> {
    let index = dataset.rows / 2;
    let row = client.fetch(index)?.values();
    let right = row == dataset.row(dataset.source()?.as_mut(), index)?;
    let verdict = if right { "the true row" } else { "NOT the true row" };
    stream.tell(&format!(
        "fetched row {index}: {} ... ({verdict}; no server knows which row it was)",
        written(&row[..row.len().min(8)])
    ))?;
    let nearest = client.search(&dataset.queries[0], K)?;
    let rows: Vec<String> = nearest.iter().map(|near| near.index.to_string()).collect();
    stream.tell(&format!(
        "nearest to query 0: rows {} (no server knows the query or the rows)",
        rows.join(" ")
    ))?;
    Ok(())
}
