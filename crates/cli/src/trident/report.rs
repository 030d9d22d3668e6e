//! The sweep's report: a table and a picture for people, JSON for programs.

use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    process::Usage,
    report::{Column, ReportError, Stream, Table, bytes, millis, number},
};
use roadstead_trident::quantise::Significant;
use serde::Serialize;

use super::figures::{Op, Run};
use crate::output::Findings;

/// The columns of the table after the query.
const FIGURES: [&str; 13] = [
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
                run.recall_at_10.map_or("-".into(), |recall| number(recall, 3)),
            ]);
        }
        table.print(stream)?;
        if self.distance_error > 0.0 {
            stream.tell(&format!(
                "a search is right if rounding explains what differs from the truth: distances are within {} of it \
                 (recall makes no allowance)",
                Significant(self.distance_error)
            ))?;
        }
        Ok(())
    }

    /// Throughput above, latency below, against the level.
    fn svg(&self) -> Result<String, ChartError> {
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
        let chart = Chart {
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
        };
        chart.svg()
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
