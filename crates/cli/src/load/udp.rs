//! `roadstead load --udp`: the load by datagram.

use serde::Serialize;

use roadstead_load::{
    chart::{Chart, ChartError},
    generator::{DatagramLoad, DatagramReport},
    machine::Machine,
    report::{Column, ReportError, Stream, Table, bytes, count, millis, number},
};

use super::both::{latencies, warn_of_limit, with_bar};
use crate::{
    outcome::{Outcome, Result},
    output::{Findings, Output},
};

#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(flatten)]
    load: DatagramReport,
}

/// Runs `load`, with a bar, and delivers what it showed.
pub(super) fn run(load: &DatagramLoad, output: &Output) -> Result<Outcome> {
    let load = with_bar(|progress| load.run(progress))?;
    output.deliver(&Report { machine: Machine::here(), load })
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.load.sent == 0
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
        let columns = [
            "answers/s",
            "sent",
            "right",
            "wrong",
            "lost",
            "late",
            "twice",
            "mean ms",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
        ];
        let mut table = Table::new(&columns.map(Column::Number)).known_by(0);
        table.row([
            number(report.messages_per_second, 0),
            count(report.sent),
            count(report.right),
            count(report.wrong),
            count(report.lost),
            count(report.late),
            count(report.duplicate),
            millis(latency.mean_ms),
            millis(latency.p50_ms),
            millis(latency.p99_ms),
            millis(latency.p999_ms),
        ]);
        table
    }

    /// Says what went wrong beside what the table shows, and what makes the figures doubtful.
    fn warn(&self) {
        if self.load.unreachable > 0 {
            let times = match self.load.unreachable {
                1 => "once".into(),
                times => format!("{times} times"),
            };
            tracing::error!("the network said that nobody receives there: {times}");
        }
        if self.load.unasked > 0 {
            tracing::error!("datagrams that nobody had asked for: {}", self.load.unasked);
        }
        warn_of_limit(self.load.client_is_limit, self.load.client_cpu_share);
    }

    fn chart(&self) -> Chart {
        let report = &self.load;
        let title = format!("{} answers/s from {}", number(report.messages_per_second, 0), report.target);
        let subtitle = format!(
            "{} loop, peers: {}, in flight of each: {}, datagrams of {}, on {} cores",
            report.kind,
            count(report.peers as u64),
            report.depth,
            bytes(report.size as u64),
            self.machine.cores
        );
        latencies(title, subtitle, "answers", &report.latency)
    }
}

#[cfg(test)]
mod tests {
    use roadstead_load::measure::Latency;

    use super::*;
    use crate::output::tests::{cells, logged};

    /// No two figures of it are alike.
    fn report() -> Report {
        let latency =
            Latency { mean_ms: 14.0, p50_ms: 15.0, p95_ms: 16.0, p99_ms: 17.0, p999_ms: 18.0, max_ms: 19.0 };
        let load = DatagramReport {
            target: ([127, 0, 0, 1], 7007).into(),
            kind: "open",
            rate: Some(2.5),
            peers: 3,
            depth: 4,
            size: 2048,
            sent: 5,
            right: 6,
            wrong: 7,
            late: 8,
            lost: 9,
            duplicate: 10,
            unasked: 0,
            unreachable: 0,
            seconds: 12.0,
            messages_per_second: 13.0,
            latency,
            client_cpu_share: 0.21,
            client_is_limit: false,
        };
        Report { machine: Machine { cores: 22, ..Machine::here() }, load }
    }

    #[test]
    fn every_figure_stands_under_its_title() {
        let titles = ["answers/s", "sent", "right", "wrong", "lost", "late", "twice", "mean ms", "p50 ms"];
        let figures = ["13", "5", "6", "7", "9", "8", "10", "14.0", "15.0"];
        let cells = cells(&report().table());
        assert_eq!([&cells[0][..9], &cells[1][..9]], [titles, figures]);
        assert_eq!([&cells[0][9..], &cells[1][9..]], [["p99 ms", "p99.9 ms"], ["17.0", "18.0"]]);
        let chart = report().chart();
        assert_eq!(chart.title, "13 answers/s from 127.0.0.1:7007");
        let subtitle = "open loop, peers: 3, in flight of each: 4, datagrams of 2.0 KiB, on 22 cores";
        assert_eq!(chart.subtitle, subtitle);
    }

    #[test]
    fn what_no_column_shows_is_said() {
        let said = |load| logged(|| Report { load, ..report() }.warn());
        assert_eq!(said(report().load), "");
        let odd = said(DatagramReport { unasked: 3, unreachable: 4, ..report().load });
        assert!(odd.contains("asked for: 3") && odd.contains("receives there: 4 times"), "{odd}");
        let once = said(DatagramReport { unreachable: 1, ..report().load });
        assert!(once.contains("receives there: once"), "{once}");
        let limit = said(DatagramReport { client_is_limit: true, client_cpu_share: 0.953, ..report().load });
        assert!(limit.contains("used 95 % of its core"), "{limit}");
        let report = DatagramReport { sent: 0, ..report().load };
        assert!(Report { load: report, ..self::report() }.is_empty() && !self::report().is_empty());
    }
}
