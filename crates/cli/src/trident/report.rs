//! The sweep's report: a table and a picture for people, JSON for programs.

use serde::Serialize;

use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    process::Usage,
    report::{Column, ReportError, Stream, Table, bytes, millis, number},
};
use roadstead_trident::quantise::Significant;

use super::figures::{Op, Run};
use crate::output::Findings;

/// The columns of the table after the query.
const FIGURES: [&str; 15] = [
    "level",
    "right",
    "wrong",
    "failed",
    "queries/s",
    "p50 ms",
    "p99 ms",
    "in flight",
    "up",
    "down",
    "between",
    "CPU ms",
    "client ms",
    "busy",
    "recall",
];

/// All of a sweep.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) dataset: String,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    pub(crate) kernel: &'static str,
    /// Whether clients and servers speak TLS with each other.
    pub(crate) tls: bool,
    /// Between the servers, one way, in the runs of the protocol exchange.
    pub(crate) peer_delay_ms: f64,
    /// How far a distance that a search finds may be from the true one: what rounding can do.
    pub(crate) distance_error: f64,
    pub(crate) machine: Machine,
    /// Of each server, after the sweep; of one that has ended, nothing.
    pub(crate) servers: Vec<Option<Usage>>,
    /// How often each server contradicted the two whose answers had been enough for a row. Logged when it happens.
    #[serde(skip)]
    pub(crate) contradictions: [u64; 3],
    pub(crate) runs: Vec<Run>,
}

impl Report {
    /// Mean recall over all searches, if there were any.
    pub(crate) fn recall(&self) -> Option<f64> {
        let recalls: Vec<f64> = self.runs.iter().filter_map(|run| run.recall_at_10).collect();
        (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
    }

    /// What the lines of the picture are about, in the order in which it was measured.
    fn subjects(&self) -> Vec<String> {
        let mut subjects = Vec::new();
        for subject in self.runs.iter().map(subject_of) {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        subjects
    }
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn is_clean(&self) -> bool {
        self.contradictions == [0; 3] && self.runs.iter().all(|run| run.wrong == 0 && run.failed == 0)
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        self.table().print(stream)?;
        if self.distance_error > 0.0 {
            stream.tell(&format!(
                "a search is right if rounding explains what differs from the truth: distances are within {} of it \
                 (recall makes no allowance)",
                Significant(self.distance_error)
            ))?;
        }
        Ok(())
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg()
    }
}

impl Report {
    fn table(&self) -> Table {
        let mut columns = vec![Column::Text(if self.tls { "query, with TLS" } else { "query, without TLS" })];
        columns.extend(FIGURES.map(Column::Number));
        let mut table = Table::new(&columns).known_by(2);
        for run in &self.runs {
            let op = if run.op == Op::Fetch { "fetch" } else { "search" };
            table.row([
                format!("{op} {}{}", run.way(), if run.checked { "" } else { ", unchecked" }),
                run.level.to_string(),
                run.right.to_string(),
                run.wrong.to_string(),
                run.failed.to_string(),
                number(run.qps, 0),
                millis(run.p50_ms),
                millis(run.p99_ms),
                number(run.overlap, 1),
                bytes(run.client_bytes_up as u64),
                bytes(run.client_bytes_down as u64),
                bytes(run.server_bytes as u64),
                number(run.server_cpu_ms, 3),
                number(run.client_cpu_ms, 3),
                format!("{} %", number(100.0 * run.busy, 0)),
                run.recall_at_10.map_or("-".into(), |recall| number(recall, 3)),
            ]);
        }
        table
    }

    /// Throughput above, latency below, against the level.
    fn chart(&self) -> Chart {
        let subjects = self.subjects();
        let series = |subject: usize, name: String, line: Line, value: fn(&Run) -> f64| {
            let runs = self.runs.iter().filter(|run| subject_of(run) == subjects[subject]);
            let points = runs.map(|run| (run.level as u64, value(run))).collect();
            Series { name, subject, line, points }
        };
        let names = || subjects.iter().enumerate();
        let throughput =
            names().map(|(subject, name)| series(subject, name.clone(), Line::Solid, |run| run.qps));
        let latency = names().flat_map(|(subject, name)| {
            [
                series(subject, format!("{name} p50"), Line::Solid, |run| run.p50_ms),
                series(subject, format!("{name} p99"), Line::Dashed, |run| run.p99_ms),
            ]
        });
        let all = self.runs.iter().all(|run| run.checked);
        let checked = if all { "every answer checked" } else { "searches unchecked" };
        Chart {
            title: "Trident: private queries on three servers".into(),
            subtitle: format!(
                "{}: {} rows x {}, {}, {} TLS, {} on {} cores",
                self.dataset,
                self.rows,
                self.dim,
                checked,
                if self.tls { "with" } else { "without" },
                self.kernel,
                self.machine.cores
            ),
            x_axis: "queries in flight".into(),
            panels: vec![
                Panel {
                    y_axis: "right answers per second".into(),
                    scale: Scale::Logarithmic,
                    series: throughput.collect(),
                },
                Panel { y_axis: "latency, ms".into(), scale: Scale::Logarithmic, series: latency.collect() },
            ],
        }
    }
}

/// The name of a run's lines: the operation alone, unless the servers exchange something for it.
fn subject_of(run: &Run) -> String {
    match (run.op, &run.exchange) {
        (Op::Search, _) => "search".into(),
        (Op::Fetch, None) => "fetch".into(),
        (Op::Fetch, Some(_)) => run.way(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::{cells, lines};

    fn run(op: Op, level: usize) -> Run {
        Run {
            op,
            protocol: if op == Op::Fetch { "direct" } else { "scan" },
            exchange: None,
            peer_delay_ms: 0.0,
            checked: true,
            level,
            right: 3,
            wrong: 0,
            failed: 0,
            qps: 6.0,
            mean_ms: 7.0,
            p50_ms: 8.0,
            p95_ms: 9.0,
            p99_ms: 10.0,
            overlap: 1.5,
            client_bytes_up: 1024.0,
            client_bytes_down: 2048.0,
            server_bytes: 3072.0,
            server_cpu_ms: 0.25,
            client_cpu_ms: 0.125,
            busy: 0.97,
            recall_at_10: (op == Op::Search).then_some(0.5),
        }
    }

    fn report(runs: Vec<Run>) -> Report {
        Report {
            dataset: "made-9".into(),
            rows: 9,
            dim: 128,
            kernel: "portable",
            tls: true,
            peer_delay_ms: 0.0,
            distance_error: 0.0,
            machine: Machine { cores: 2, ..Machine::here() },
            servers: Vec::new(),
            contradictions: [0; 3],
            runs,
        }
    }

    #[test]
    fn every_figure_of_a_level_stands_under_its_title() {
        let shared = Run {
            exchange: Some("shared".into()),
            protocol: "exchange",
            peer_delay_ms: 5.0,
            ..run(Op::Fetch, 4)
        };
        let unchecked = Run { checked: false, wrong: 1, failed: 2, ..run(Op::Search, 2) };
        let mut report = report(vec![shared, unchecked]);
        let figures = ["6", "8.00", "10.0", "1.5", "1.0 KiB", "2.0 KiB", "3.0 KiB", "0.250", "0.125", "97 %"];
        let row = |query: &str, ends: [&str; 4], recall: &str| -> Vec<String> {
            [&[query][..], &ends, &figures, &[recall]].concat().into_iter().map(str::to_owned).collect()
        };
        let titles = [
            "query, with TLS",
            "level",
            "right",
            "wrong",
            "failed",
            "queries/s",
            "p50 ms",
            "p99 ms",
            "in flight",
            "up",
            "down",
            "between",
            "CPU ms",
            "client ms",
            "busy",
            "recall",
        ];
        let first = row("fetch exchange shared 5 ms", ["4", "3", "0", "0"], "-");
        let second = row("search scan, unchecked", ["2", "3", "1", "2"], "0.500");
        assert_eq!(cells(&report.table()), [titles.map(str::to_owned).to_vec(), first, second]);
        report.tls = false;
        assert_eq!(cells(&report.table())[0][0], "query, without TLS");
    }

    #[test]
    fn wrong_and_failed_answers_and_contradictions_of_any_server_are_not_clean() {
        assert!(report(vec![run(Op::Fetch, 1)]).is_clean());
        for bad in [Run { wrong: 1, ..run(Op::Fetch, 1) }, Run { failed: 1, ..run(Op::Fetch, 1) }] {
            assert!(!report(vec![run(Op::Search, 1), bad]).is_clean());
        }
        for contradictions in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
            assert!(!Report { contradictions, ..report(vec![run(Op::Fetch, 1)]) }.is_clean());
        }
    }

    #[test]
    fn recall_is_the_mean_over_searches_and_none_without_them() {
        let better = Run { recall_at_10: Some(1.0), ..run(Op::Search, 2) };
        assert_eq!(report(vec![run(Op::Fetch, 1), run(Op::Search, 1), better]).recall(), Some(0.75));
        assert_eq!(report(vec![run(Op::Fetch, 1)]).recall(), None);
    }

    #[test]
    fn the_picture_has_a_line_for_each_way_of_asking_over_the_levels() {
        let way = |level, qps| Run {
            exchange: Some("pool:2".into()),
            protocol: "exchange",
            qps,
            ..run(Op::Fetch, level)
        };
        let runs = vec![run(Op::Fetch, 1), run(Op::Search, 1), way(1, 2.0), way(8, 4.0)];
        let chart = report(runs).chart();
        let (one, both) = (&[(1, 6.0)][..], &[(1, 2.0), (8, 4.0)][..]);
        let names = ["fetch", "search", "exchange pool:2"];
        let lines = lines(&chart);
        assert_eq!(
            lines[0],
            ("right answers per second", names.into_iter().zip([one, one, both]).collect::<Vec<_>>())
        );
        let (p50, p99) = (&[(1, 8.0)][..], &[(1, 10.0)][..]);
        assert_eq!(lines[1].0, "latency, ms");
        assert_eq!(
            lines[1].1[..4],
            [("fetch p50", p50), ("fetch p99", p99), ("search p50", p50), ("search p99", p99)]
        );
        assert_eq!(
            chart.subtitle,
            "made-9: 9 rows x 128, every answer checked, with TLS, portable on 2 cores"
        );
    }
}
