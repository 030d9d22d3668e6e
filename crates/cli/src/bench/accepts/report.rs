//! The report of `bench accepts`: a table and a picture for people, JSON for programs.

use std::{ops::RangeInclusive, time::Duration};

use roadstead::Model;
use serde::Serialize;

use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    measure::{Latency, Recorder, median},
    report::{Column, ReportError, Stream, Table, count, millis, number},
};

use super::clients::Tally;
use crate::output::Findings;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    clients: u16,
    seconds: f64,
    pub(super) runs: Vec<Run>,
}

/// One model with one setting.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) model: String,
    /// The fewest accepts outstanding, and the most.
    accepts_min: usize,
    accepts_max: usize,
    /// Connections of which the byte came back.
    right: u64,
    wrong: u64,
    failed: u64,
    /// Right ones, the median of the rounds.
    connections_per_second: f64,
    /// From the beginning of a connection to its first byte, over all rounds.
    first_byte: Latency,
    /// Connections per second, round by round.
    rounds: Vec<f64>,
    #[serde(skip)]
    times: Recorder,
}

impl Run {
    pub(super) fn new(model: Model, accepts: &RangeInclusive<usize>) -> Self {
        Self {
            model: model.to_string(),
            accepts_min: *accepts.start(),
            accepts_max: *accepts.end(),
            right: 0,
            wrong: 0,
            failed: 0,
            connections_per_second: f64::NAN,
            first_byte: Latency::UNKNOWN,
            rounds: Vec::new(),
            times: Recorder::new(),
        }
    }

    /// The setting, as the option takes it.
    pub(super) fn accepts(&self) -> String {
        format!("{}..{}", self.accepts_min, self.accepts_max)
    }

    /// Adds a round.
    pub(super) fn add(&mut self, tally: Tally) {
        self.rounds.push(tally.times.count() as f64 / tally.seconds);
        self.times.merge(&tally.times);
        self.wrong += tally.wrong;
        self.failed += tally.failed;
        self.right = self.times.count();
        self.connections_per_second = median(self.rounds.iter().copied());
        self.first_byte = self.times.latency();
    }

    fn row(&self) -> [String; 9] {
        let [least, most] = [f64::min, f64::max]
            .map(|better| number(self.rounds.iter().copied().reduce(better).unwrap_or(f64::NAN), 0));
        [
            self.model.clone(),
            self.accepts(),
            number(self.connections_per_second, 0),
            format!("{least}-{most}"),
            count(self.right),
            count(self.wrong),
            count(self.failed),
            millis(self.first_byte.p50_ms),
            millis(self.first_byte.p99_ms),
        ]
    }
}

impl Report {
    pub(super) fn new(machine: Machine, clients: u16, time: Duration, runs: Vec<Run>) -> Self {
        Self { machine, clients, seconds: time.as_secs_f64(), runs }
    }
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.rounds.is_empty())
    }

    fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.wrong + run.failed == 0)
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        self.table().print(stream)
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg()
    }
}

impl Report {
    fn table(&self) -> Table {
        let figures = ["connections/s", "min-max", "right", "wrong", "failed", "first byte p50 ms", "p99 ms"];
        let mut columns = vec![Column::Text("model"), Column::Text("accepts")];
        columns.extend(figures.map(Column::Number));
        let mut table = Table::new(&columns).known_by(2);
        self.runs.iter().for_each(|run| table.row(run.row()));
        table
    }

    fn of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.model == model)
    }

    /// Rate and latency for each setting, a line for each model.
    fn chart(&self) -> Chart {
        let mut models: Vec<&str> = self.runs.iter().map(|run| run.model.as_str()).collect();
        models.dedup();
        let panel = |y_axis: &str, figure: fn(&Run) -> f64| Panel {
            y_axis: y_axis.into(),
            scale: Scale::Linear,
            series: models
                .iter()
                .enumerate()
                .map(|(subject, model)| Series {
                    name: (*model).into(),
                    subject,
                    line: Line::Solid,
                    points: (1..).zip(self.of(model).map(figure)).collect(),
                })
                .collect(),
        };
        let settings: Vec<_> =
            models.first().into_iter().flat_map(|model| self.of(model)).map(Run::accepts).collect();
        Chart {
            title: "A connection for every byte".into(),
            subtitle: format!("{} clients, on {} cores", self.clients, self.machine.cores),
            x_axis: format!("accepts outstanding: {}", settings.join(", ")),
            panels: vec![
                panel("connections/s", |run| run.connections_per_second),
                panel("first byte p99, ms", |run| run.first_byte.p99_ms),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::{cells, lines};

    /// So many connections in two seconds, each of which took so long.
    fn tally(count: u64, ms: u64) -> Tally {
        let mut times = Recorder::new();
        (0..count).for_each(|_| times.record(Duration::from_millis(ms)));
        Tally { times, wrong: 0, failed: 0, seconds: 2.0 }
    }

    fn report() -> Report {
        let settings = [1..=1, 4..=64];
        let runs = [Model::Epoll, Model::Uring]
            .into_iter()
            .flat_map(|model| settings.iter().map(move |accepts| Run::new(model, accepts)));
        let machine = Machine { cores: 2, ..Machine::here() };
        let mut report = Report::new(machine, 7, Duration::from_secs(8), runs.collect());
        for (run, [first, second, third]) in
            report.runs.iter_mut().zip([[10, 30, 20], [40, 40, 40], [2, 2, 4], [6, 8, 10]])
        {
            [first, second, third].into_iter().for_each(|count| run.add(tally(count, count)));
        }
        report
    }

    #[test]
    fn each_model_and_setting_has_a_row_of_its_rounds() {
        let mut report = report();
        (report.runs[1].wrong, report.runs[2].failed) = (3, 4);
        let title = [
            "model",
            "accepts",
            "connections/s",
            "min-max",
            "right",
            "wrong",
            "failed",
            "first byte p50 ms",
            "p99 ms",
        ];
        assert_eq!(
            cells(&report.table()),
            [
                title,
                ["epoll", "1..1", "10", "5-15", "60", "0", "0", "20.0", "30.0"],
                ["epoll", "4..64", "20", "20-20", "120", "3", "0", "40.0", "40.0"],
                ["uring", "1..1", "1", "1-2", "8", "0", "4", "2.00", "4.00"],
                ["uring", "4..64", "4", "3-5", "24", "0", "0", "8.00", "10.0"],
            ]
        );
    }

    #[test]
    fn what_was_wrong_or_failed_is_not_clean_and_what_has_no_round_is_empty() {
        assert!(report().is_clean() && !report().is_empty());
        for spoil in [|run: &mut Run| run.wrong = 1, |run: &mut Run| run.failed = 1] {
            let mut report = report();
            spoil(&mut report.runs[3]);
            assert!(!report.is_clean());
        }
        let one = Run::new(Model::Epoll, &(1..=2));
        assert!(Report::new(Machine::here(), 1, Duration::ZERO, vec![one]).is_empty());
    }

    #[test]
    fn the_picture_has_a_line_for_each_model_over_the_settings() {
        let report = report();
        let chart = report.chart();
        let p99 = |run: usize| report.runs[run].first_byte.p99_ms;
        assert_eq!(
            lines(&chart),
            [
                (
                    "connections/s",
                    vec![("epoll", &[(1, 10.0), (2, 20.0)][..]), ("uring", &[(1, 1.0), (2, 4.0)])]
                ),
                (
                    "first byte p99, ms",
                    vec![("epoll", &[(1, p99(0)), (2, p99(1))][..]), ("uring", &[(1, p99(2)), (2, p99(3))])]
                ),
            ]
        );
        assert_eq!(chart.x_axis, "accepts outstanding: 1..1, 4..64");
    }
}
