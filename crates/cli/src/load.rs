//! `roadstead load`: the load generator.

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use roadstead_load::{
    generator::{Load, LoadReport, Mode},
    machine::Machine,
    report::{Column, Destination, Stream, Table, count, millis, number},
};
use serde::Serialize;

use crate::{Outcome, Result, serve::seconds};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server to load; it must send back what it receives
    target: SocketAddr,
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Connections beside them that say nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: usize,
    /// Messages in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    depth: usize,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// How long to load
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Send so many messages instead, however long it takes
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    messages: Option<u64>,
    /// Send at this fixed rate, in messages per second; latency counts from the moment each was due
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// A message without an answer for so long has failed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    /// Run on this processor only
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
    /// Write the report as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(flatten)]
    load: LoadReport,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let json = args.json.clone().map(Destination::from);
    let mode = match (args.messages, args.rate) {
        (Some(messages), _) => Mode::ClosedCount(messages),
        (None, Some(per_second)) => Mode::Open { per_second, duration: args.seconds },
        (None, None) => Mode::ClosedFor(args.seconds),
    };
    let load = Load {
        idle: args.idle,
        connections: args.connections,
        depth: args.depth,
        size: args.size,
        mode,
        timeout: args.timeout,
        core: args.core,
        ..Load::new(args.target)
    };
    let bar = crate::progress::bar(100, "loading");
    let report = load.run(&mut |progress| bar.set_position((progress.fraction * 100.0) as u64))?;
    bar.finish_and_clear();

    let latency = &report.latency;
    let columns = ["messages/s", "right", "wrong", "failed", "mean ms", "p50 ms", "p99 ms", "p99.9 ms"];
    let mut table = Table::new(&columns.map(Column::Number));
    table.row([
        number(report.messages_per_second, 0),
        count(report.right),
        count(report.wrong),
        count(report.failed),
        millis(latency.mean_ms),
        millis(latency.p50_ms),
        millis(latency.p99_ms),
        millis(latency.p999_ms),
    ]);
    table.print(Stream::beside(json.as_ref()))?;
    if report.client_is_limit {
        tracing::warn!(
            "this client used {:.0} % of its core: it is the client that was measured",
            report.client_cpu_share * 100.0
        );
    }
    let outcome = if report.is_clean() { Outcome::Done } else { Outcome::Wrong };
    if let Some(json) = json {
        json.write_json(&Report { machine: Machine::here(), load: report })?;
    }
    Ok(outcome)
}
