//! `roadstead load`: the load generator.

mod both;
mod udp;

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;

use roadstead::{
    layer::Layers,
    tls::{Connector, Expect, Keys},
};
use roadstead_load::{
    chart::{Chart, ChartError},
    generator::{CONNECTIONS_MAX, DatagramLoad, IN_FLIGHT_MAX, Load, LoadReport, Mode},
    machine::Machine,
    report::{Column, ReportError, Stream, Table, bytes, count, millis, number},
};

use crate::{
    addresses::{Place, place},
    numbers::{length, within},
    outcome::{Outcome, Result},
    output::{Findings, Output},
    progress, signals,
};
use both::{latencies, warn_of_limit, with_bar};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server to load, at an address, a name or a Unix socket (unix:PATH, unix:@NAME); it must send back what it
    /// receives. Of several addresses of a name it is the first at which somebody listens
    #[arg(value_parser = place)]
    target: Place,
    /// Send datagrams, to a server of UDP: each connection is a socket that asks, what is not answered in time is lost, and
    /// every datagram has 8 to 65507 bytes
    #[arg(long, conflicts_with_all = ["idle", "keys"])]
    udp: bool,
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
    /// Speak TLS 1.3, with the client's keys in this directory, to a server with a certificate of the same authority:
    /// see `roadstead keys`
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
    if args.udp {
        signals::watch()?;
        announce(args);
        return udp::run(&wanted_by_datagram(args)?, &args.output);
    }
    let load = wanted(args)?;
    signals::watch()?;
    announce(args);
    let load = with_bar(|progress| load.run(progress))?;
    args.output.deliver(&Report { machine: Machine::here(), load })
}

fn announce(args: &Args) {
    if args.messages.is_none() {
        progress::announce(args.seconds);
    }
}

fn mode(args: &Args) -> Mode {
    match (args.messages, args.rate) {
        (Some(messages), _) => Mode::ClosedCount(messages),
        (None, Some(per_second)) => Mode::Open { per_second, duration: args.seconds },
        (None, None) => Mode::ClosedFor(args.seconds),
    }
}

fn wanted_by_datagram(args: &Args) -> Result<DatagramLoad> {
    let &Args { connections: peers, depth, size, timeout, core, .. } = args;
    let target = args.target.first()?;
    Ok(DatagramLoad { target, peers, depth, size, mode: mode(args), timeout, core })
}

fn wanted(args: &Args) -> Result<Load> {
    Ok(Load {
        idle: args.idle,
        connections: args.connections,
        depth: args.depth,
        size: args.size,
        mode: mode(args),
        timeout: args.timeout,
        layers: args.keys.as_deref().map(tls).transpose()?,
        core: args.core,
        ..Load::new(args.target.reached()?)
    })
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
        self.table().print(stream)?;
        self.warn();
        Ok(())
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg_over_percentiles()
    }
}

impl Report {
    fn table(&self) -> Table {
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
        table
    }

    /// Says what went wrong, and what makes the figures doubtful.
    fn warn(&self) {
        for fault in self.faults() {
            tracing::error!("{fault}");
        }
        warn_of_limit(self.load.client_is_limit, self.load.client_cpu_share);
    }

    /// What went wrong and how often, a line for each kind of thing.
    fn faults(&self) -> impl Iterator<Item = String> {
        let report = &self.load;
        let faults = [
            ("connections could not be opened", &report.connect_errors),
            ("connections were lost", &report.lost),
            ("messages failed", &report.failures),
        ];
        faults.into_iter().filter(|(_, faults)| !faults.is_empty()).map(|(what, faults)| {
            let each: Vec<_> = faults.iter().map(|(fault, count)| format!("{count} {fault}")).collect();
            format!("{what}: {}", each.join(", "))
        })
    }

    fn chart(&self) -> Chart {
        let report = &self.load;
        let title = format!("{} messages/s from {}", number(report.messages_per_second, 0), report.target);
        let subtitle = format!(
            "{} loop{}, connections: {}, in flight on each: {}, messages of {}, on {} cores",
            report.kind,
            if report.layered { " with TLS" } else { "" },
            count(report.connections as u64),
            report.depth,
            bytes(report.size as u64),
            self.machine.cores
        );
        latencies(title, subtitle, "messages", &report.latency)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;

    use roadstead_load::{generator::Fault, measure::Latency};

    use super::*;
    use crate::output::tests::{cells, lines, logged};

    /// A clean load no two of whose figures are alike.
    pub(crate) fn loaded() -> LoadReport {
        LoadReport {
            target: ([127, 0, 0, 1], 7007).into(),
            kind: "closed",
            rate: None,
            connections: 3,
            idle: 4,
            layered: false,
            depth: 6,
            size: 2048,
            connected: 8,
            connect_errors: BTreeMap::new(),
            lost: BTreeMap::new(),
            right: 9,
            wrong: 0,
            failed: 0,
            failures: BTreeMap::new(),
            seconds: 12.0,
            messages_per_second: 13.0,
            latency: Latency {
                mean_ms: 14.0,
                p50_ms: 15.0,
                p95_ms: 16.0,
                p99_ms: 17.0,
                p999_ms: 18.0,
                max_ms: 19.0,
            },
            overlap: 20.0,
            client_cpu_share: 0.21,
            client_is_limit: false,
        }
    }

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn each_option_sets_what_it_is_called_and_nothing_else() {
        let given = |options: &str| {
            let words = ["load", "127.0.0.1:9"].into_iter().chain(options.split_whitespace());
            let load = wanted(&Given::try_parse_from(words).unwrap().args).unwrap();
            let numbers = (load.connections, load.idle, load.depth, load.size, load.core);
            (load.target.to_string(), numbers, load.mode, load.timeout, load.layers.is_some())
        };
        let (second, target) = (Duration::from_secs(1), "127.0.0.1:9".to_owned());
        let five = Mode::ClosedFor(5 * second);
        let open = |duration| Mode::Open { per_second: 2.5, duration };
        for (options, numbers, mode, timeout) in [
            ("", (1, 0, 1, 128, None), five, 5),
            ("--connections 2", (2, 0, 1, 128, None), five, 5),
            ("--idle 2", (1, 2, 1, 128, None), five, 5),
            ("--depth 2", (1, 0, 2, 128, None), five, 5),
            ("--size 2", (1, 0, 1, 2, None), five, 5),
            ("--core 2", (1, 0, 1, 128, Some(2)), five, 5),
            ("--timeout 2", (1, 0, 1, 128, None), five, 2),
            ("--seconds 2", (1, 0, 1, 128, None), Mode::ClosedFor(2 * second), 5),
            ("--messages 2", (1, 0, 1, 128, None), Mode::ClosedCount(2), 5),
            ("--rate 2.5", (1, 0, 1, 128, None), open(5 * second), 5),
            ("--rate 2.5 --seconds 2", (1, 0, 1, 128, None), open(2 * second), 5),
        ] {
            assert_eq!(given(options), (target.clone(), numbers, mode, timeout * second, false), "{options}");
        }
    }

    #[test]
    fn each_option_of_a_load_by_datagram_sets_what_it_is_called() {
        let words = "load --udp 127.0.0.1:9 --connections 2 --depth 3 --size 40 --rate 5 --seconds 6 --timeout 7 --core 8";
        let load = wanted_by_datagram(&Given::try_parse_from(words.split(' ')).unwrap().args).unwrap();
        let mode = Mode::Open { per_second: 5.0, duration: Duration::from_secs(6) };
        let numbers = (load.peers, load.depth, load.size, load.core);
        assert_eq!((load.target.to_string(), numbers), ("127.0.0.1:9".to_owned(), (2, 3, 40, Some(8))));
        assert_eq!((load.mode, load.timeout), (mode, Duration::from_secs(7)));
        for other in ["--idle 1", "--keys nowhere"] {
            let words = format!("load --udp 127.0.0.1:9 {other}");
            assert!(Given::try_parse_from(words.split(' ')).is_err(), "{other}");
        }
    }

    fn report(load: LoadReport) -> Report {
        Report { machine: Machine { cores: 22, ..Machine::here() }, load }
    }

    #[test]
    fn every_figure_of_a_load_stands_under_its_title() {
        let report = report(LoadReport { wrong: 10, failed: 11, ..loaded() });
        assert_eq!(
            cells(&report.table()),
            [
                ["messages/s", "right", "wrong", "failed", "mean ms", "p50 ms", "p99 ms", "p99.9 ms"],
                ["13", "9", "10", "11", "14.0", "15.0", "17.0", "18.0"],
            ]
        );
    }

    #[test]
    fn what_went_wrong_is_said_of_the_connections_or_messages_that_it_befell() {
        let said = |load| report(load).faults().collect::<Vec<_>>();
        let one = |fault, count| BTreeMap::from([(fault, count)]);
        assert!(said(loaded()).is_empty());
        let failures = BTreeMap::from([(Fault::TimedOut, 3), (Fault::Reset, 4)]);
        let load = LoadReport {
            connect_errors: one(Fault::Refused, 1),
            lost: one(Fault::Closed, 2),
            failures,
            ..loaded()
        };
        assert_eq!(
            said(load),
            [
                "connections could not be opened: 1 refused",
                "connections were lost: 2 closed by the server",
                "messages failed: 3 not answered in time, 4 reset",
            ]
        );
    }

    #[test]
    fn a_client_that_is_the_limit_is_told_with_how_much_it_used() {
        let said = |load| {
            let report = report(load);
            logged(|| report.warn())
        };
        assert_eq!(said(loaded()), "");
        let limited = said(LoadReport { client_is_limit: true, client_cpu_share: 0.953, ..loaded() });
        assert!(limited.contains("WARN") && limited.contains("used 95 % of its core"), "{limited}");
        let lost = BTreeMap::from([(Fault::Reset, 3)]);
        let lost = said(LoadReport { lost, ..loaded() });
        assert!(lost.contains("ERROR") && lost.contains("connections were lost: 3 reset"), "{lost}");
    }

    #[test]
    fn a_load_is_empty_only_if_no_message_has_come_to_any_end() {
        let ends = |right, wrong, failed| report(LoadReport { right, wrong, failed, ..loaded() }).is_empty();
        assert!(ends(0, 0, 0));
        assert!(!ends(1, 0, 0) && !ends(0, 1, 0) && !ends(0, 0, 1));
    }

    #[test]
    fn the_picture_of_a_load_has_its_percentiles_and_says_how_it_was_made() {
        let chart = report(LoadReport { layered: true, ..loaded() }).chart();
        let points = [(500, 15.0), (950, 16.0), (990, 17.0), (999, 18.0)];
        assert_eq!(lines(&chart), [("latency, ms", vec![("latency", &points[..])])]);
        assert_eq!(chart.title, "13 messages/s from 127.0.0.1:7007");
        assert_eq!(
            chart.subtitle,
            "closed loop with TLS, connections: 3, in flight on each: 6, messages of 2.0 KiB, on 22 cores"
        );
        assert!(report(loaded()).chart().subtitle.starts_with("closed loop, connections"));
    }
}
