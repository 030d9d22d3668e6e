//! The report of `bench exchange`: a table and a picture for people, JSON for programs.

use serde::Serialize;

use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    report::{Column, ReportError, Stream, Table, bytes, millis, number},
};

use crate::{buffers::Buffers, output::Findings};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Whether the members speak TLS with each other.
    pub(crate) tls: bool,
    pub(crate) background_bytes: Option<usize>,
    /// Of each link, in the kernel, if they were asked for.
    pub(crate) socket_buffers: Option<Buffers>,
    pub(crate) runs: Vec<Run>,
}

/// One strategy, payload, delay and level.
#[derive(Debug, Default, Serialize)]
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
        self.table().print(stream)?;
        self.socket_buffers.map_or(Ok(()), |buffers| stream.tell(&buffers.to_string()))
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg()
    }
}

impl Report {
    fn table(&self) -> Table {
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
        table
    }

    /// For every payload and delay throughput and latency against the level, a line for each strategy.
    fn chart(&self) -> Chart {
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
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::{cells, lines};

    fn run(strategy: &str, payload_bytes: usize, delay_ms: f64, level: u64) -> Run {
        Run {
            strategy: strategy.into(),
            payload_bytes,
            delay_ms,
            level,
            right: 1,
            wrong: 0,
            failed: 0,
            exchanges_per_s: 4.5,
            p50_ms: 5.0,
            p99_ms: 6.0,
            connections_opened: 7,
            most_ahead_bytes: 8192,
            cpu_ms: 0.9,
        }
    }

    fn report(runs: Vec<Run>) -> Report {
        Report {
            machine: Machine { cores: 9, ..Machine::here() },
            tls: true,
            background_bytes: Some(2048),
            socket_buffers: None,
            runs,
        }
    }

    #[test]
    fn every_figure_of_an_exchange_stands_under_its_title() {
        let table = report(vec![Run { wrong: 2, failed: 3, ..run("shared", 1024, 5.0, 16) }]).table();
        let [titles, figures] = &cells(&table)[..] else { panic!("{table}") };
        assert_eq!(
            titles[..],
            [
                "strategy",
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
                "CPU ms"
            ]
        );
        assert_eq!(
            figures[..],
            ["shared", "1.0 KiB", "5.0", "16", "1", "2", "3", "4.5", "5.00", "6.00", "7", "8.0 KiB", "0.900"]
        );
    }

    #[test]
    fn an_exchange_with_anything_wrong_or_failed_is_not_clean() {
        for (wrong, failed) in [(0, 0), (1, 0), (0, 1)] {
            let bad = Run { wrong, failed, ..run("shared", 64, 0.0, 1) };
            assert_eq!(report(vec![run("shared", 64, 0.0, 1), bad]).is_clean(), wrong + failed == 0);
        }
    }

    #[test]
    fn each_payload_and_delay_has_its_panels_and_each_strategy_its_lines() {
        let slow = Run { exchanges_per_s: 2.5, p50_ms: 7.0, p99_ms: 8.0, ..run("pool:4", 64, 0.0, 2) };
        let runs =
            vec![run("shared", 64, 0.0, 1), run("shared", 64, 5.0, 1), run("shared", 64, 0.0, 2), slow];
        let chart = report(runs).chart();
        assert!(
            chart.subtitle.contains("with TLS, on 9 cores, beside exchanges of 2.0 KiB"),
            "{}",
            chart.subtitle
        );
        let (shared, pool) = ([(1, 5.0), (2, 5.0)], [(2, 7.0)]);
        let (shared_slowest, pool_slowest) = ([(1, 6.0), (2, 6.0)], [(2, 8.0)]);
        let latency = [
            ("shared p50", &shared[..]),
            ("shared p99", &shared_slowest),
            ("pool:4 p50", &pool),
            ("pool:4 p99", &pool_slowest),
        ];
        assert_eq!(
            lines(&chart),
            [
                (
                    "exchanges/s (64 B, 0 ms)",
                    vec![("shared", &[(1, 4.5), (2, 4.5)][..]), ("pool:4", &[(2, 2.5)])]
                ),
                ("latency, ms (64 B, 0 ms)", latency.to_vec()),
                ("exchanges/s (64 B, 5 ms)", vec![("shared", &[(1, 4.5)])]),
                ("latency, ms (64 B, 5 ms)", vec![("shared p50", &[(1, 5.0)]), ("shared p99", &[(1, 6.0)])]),
            ]
        );
    }
}
