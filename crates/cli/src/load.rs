//! `roadstead load`: the load generator.

use std::{
    net::SocketAddr,
    ops::{ControlFlow, RangeInclusive},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use roadstead::{
    layer::Layers,
    tls::{Connector, Expect, Keys},
};
use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    generator::{CONNECTIONS_MAX, IN_FLIGHT_MAX, Load, LoadReport, Mode},
    machine::Machine,
    report::{Column, ReportError, Stream, Table, bytes, count, millis, number},
};
use serde::Serialize;

use crate::{
    addresses::address,
    numbers::{length, within},
    outcome::{Outcome, Result},
    output::{Findings, Output},
    progress, signals,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server to load; it must send back what it receives
    #[arg(value_parser = address)]
    target: SocketAddr,
    /// Connections that send
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1..=CONNECTIONS_MAX))]
    connections: usize,
    /// Connections beside them that say nothing
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0..=CONNECTIONS_MAX))]
    idle: usize,
    /// Messages in flight on each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1..=IN_FLIGHT_MAX))]
    depth: usize,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = within(1..=u32::MAX as usize))]
    size: usize,
    /// How long to load
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = length(SOME))]
    seconds: Duration,
    /// Send so many messages instead, however long it takes
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "seconds"], value_parser = within(1..=u64::MAX))]
    messages: Option<u64>,
    /// Send at this fixed rate, in messages per second; latency counts from the moment each was due
    #[arg(long, value_name = "RATE", value_parser = within(0.001..=1e9))]
    rate: Option<f64>,
    /// A message without an answer for so long has failed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = length(SOME))]
    timeout: Duration,
    /// Speak TLS 1.3, with the client's keys in this directory, to a server with a certificate of the same authority: see
    /// `roadstead keys`
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Run on this processor only
    #[arg(long, value_name = "CPU", value_parser = within(0..=1023_usize))]
    core: Option<usize>,
    #[command(flatten)]
    output: Output,
}

/// Seconds that are more than none, and that clocks can still tell.
const SOME: RangeInclusive<f64> = 0.001..=1e9;

#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(flatten)]
    load: LoadReport,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
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
        layers: args.keys.as_deref().map(tls).transpose()?,
        core: args.core,
        ..Load::new(args.target)
    };
    signals::watch()?;
    if args.messages.is_none() {
        progress::announce(args.seconds);
    }
    let bar = progress::bar(100, "loading");
    let loaded = load.run(&mut |progress| {
        bar.set_position((progress.fraction * 100.0) as u64);
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    if loaded.is_err() {
        signals::check()?;
    }
    let report = loaded?;
    args.output.deliver(&Report { machine: Machine::here(), load: report })
}

fn tls(keys: &Path) -> Result<Arc<dyn Layers>> {
    Ok(Arc::new(Connector::new(Some(&Keys::load(keys)?), Expect::Known)?))
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.load.right + self.load.wrong + self.load.failed == 0
    }

    fn is_clean(&self) -> bool {
        self.load.is_clean()
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        let (report, latency) = (&self.load, &self.load.latency);
        let columns = ["messages/s", "right", "wrong", "failed", "mean ms", "p50 ms", "p99 ms", "p99.9 ms"];
        let mut table = Table::new(&columns.map(Column::Number)).known_by(0);
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
        table.print(stream)?;
        let faults = [
            ("connections could not be opened", &report.connect_errors),
            ("connections were lost", &report.lost),
            ("messages failed", &report.failures),
        ];
        for (what, faults) in faults.into_iter().filter(|(_, faults)| !faults.is_empty()) {
            let each: Vec<_> = faults.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
            tracing::error!("{what}: {}", each.join(", "));
        }
        if report.client_is_limit {
            tracing::warn!(
                "this client used {:.0} % of its core: it is the client that was measured",
                report.client_cpu_share * 100.0
            );
        }
        Ok(())
    }

    /// The latency by how many messages are faster.
    fn svg(&self) -> Result<String, ChartError> {
        let report = &self.load;
        let points = report.latency.percentiles();
        let series = Series { name: "latency".into(), subject: 0, line: Line::Solid, points };
        Chart {
            title: format!("{} messages/s from {}", number(report.messages_per_second, 0), report.target),
            subtitle: format!(
                "{} loop{}, connections: {}, in flight on each: {}, messages of {}, on {} cores",
                report.kind,
                if report.layered { " with TLS" } else { "" },
                count(report.connections as u64),
                report.depth,
                bytes(report.size as u64),
                self.machine.cores
            ),
            x_axis: "percentile of the messages".into(),
            panels: vec![Panel {
                y_axis: "latency, ms".into(),
                scale: Scale::Logarithmic,
                series: vec![series],
            }],
        }
        .svg_over_percentiles()
    }
}
