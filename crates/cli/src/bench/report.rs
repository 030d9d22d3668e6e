//! The report of `bench exchange`: a table and a picture for people, JSON for programs.

use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    report::{Column, ReportError, Stream, Table, bytes, millis, number},
};
use serde::Serialize;

use crate::output::Findings;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Whether the members speak TLS with each other.
    pub(crate) tls: bool,
    pub(crate) background_bytes: Option<usize>,
    pub(crate) runs: Vec<Run>,
}

/// One strategy, payload, delay and level.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) strategy: String,
    pub(crate) payload_bytes: usize,
    pub(crate) delay_ms: f64,
    pub(crate) level: u64,
    /// At all three members.
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) failed: u64,
    pub(crate) exchanges_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Since the members were started.
    pub(crate) connections_opened: u64,
    /// The most that a message of a single part had before it on its link, since the members were started.
    pub(crate) most_ahead_bytes: u64,
    /// CPU time of all three members for one exchange.
    pub(crate) cpu_ms: f64,
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.wrong + run.failed == 0)
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        let mut columns = vec![Column::Text("strategy")];
        columns.extend(
            [
                "payload",
                "delay ms",
                "level",
                "right",
                "wrong",
                "failed",
                "exchanges/s",
                "p50 ms",
                "p99 ms",
                "opened",
                "ahead",
                "CPU ms",
            ]
            .map(Column::Number),
        );
        let mut table = Table::new(&columns).known_by(4);
        for run in &self.runs {
            table.row([
                run.strategy.clone(),
                bytes(run.payload_bytes as u64),
                number(run.delay_ms, 1),
                run.level.to_string(),
                run.right.to_string(),
                run.wrong.to_string(),
                run.failed.to_string(),
                number(run.exchanges_per_s, 1),
                millis(run.p50_ms),
                millis(run.p99_ms),
                run.connections_opened.to_string(),
                bytes(run.most_ahead_bytes),
                number(run.cpu_ms, 3),
            ]);
        }
        table.print(stream)
    }

    /// For every payload and delay throughput and latency against the level, a line for each strategy.
    fn svg(&self) -> Result<String, ChartError> {
        let mut cells: Vec<(usize, f64)> =
            self.runs.iter().map(|run| (run.payload_bytes, run.delay_ms)).collect();
        cells.dedup();
        cells.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        cells.dedup();
        let panels = cells.into_iter().flat_map(|(payload, delay)| self.panels(payload, delay)).collect();
        let background = self
            .background_bytes
            .map_or(String::new(), |size| format!(", beside exchanges of {}", bytes(size as u64)));
        Chart {
            title: "Three servers that exchange messages for every query".into(),
            subtitle: format!(
                "every message checked by hash, {} TLS, on {} cores{background}",
                if self.tls { "with" } else { "without" },
                self.machine.cores
            ),
            x_axis: "queries in flight".into(),
            panels,
        }
        .svg()
    }
}

impl Report {
    fn panels(&self, payload: usize, delay: f64) -> [Panel; 2] {
        let runs =
            || self.runs.iter().filter(move |run| run.payload_bytes == payload && run.delay_ms == delay);
        let mut strategies: Vec<&String> = Vec::new();
        for run in &self.runs {
            if !strategies.contains(&&run.strategy) {
                strategies.push(&run.strategy);
            }
        }
        let series = |subject: usize, name: String, line: Line, value: fn(&Run) -> f64| {
            let own = runs().filter(|run| run.strategy == *strategies[subject]);
            Series { name, subject, line, points: own.map(|run| (run.level, value(run))).collect() }
        };
        let throughput = strategies
            .iter()
            .enumerate()
            .map(|(subject, name)| series(subject, (*name).clone(), Line::Solid, |run| run.exchanges_per_s));
        let latency = strategies.iter().enumerate().flat_map(|(subject, name)| {
            [
                series(subject, format!("{name} p50"), Line::Solid, |run| run.p50_ms),
                series(subject, format!("{name} p99"), Line::Dashed, |run| run.p99_ms),
            ]
        });
        let what = format!("{}, {delay} ms", bytes(payload as u64));
        let panel = |y_axis: String, series: Vec<Series>| {
            let series = series.into_iter().filter(|series| !series.points.is_empty()).collect();
            Panel { y_axis, scale: Scale::Logarithmic, series }
        };
        [
            panel(format!("exchanges/s ({what})"), throughput.collect()),
            panel(format!("latency, ms ({what})"), latency.collect()),
        ]
    }
}
