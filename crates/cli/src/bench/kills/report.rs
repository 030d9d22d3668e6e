//! The report of `bench kills`: a table and a picture for people, JSON for programs.

use std::time::Duration;

use serde::Serialize;

use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    measure::median,
    report::{Column, ReportError, Stream, Table, count, number},
};

use super::{
    clients::Tally,
    killer::{Kill, Watched},
};
use crate::output::Findings;

/// The columns of the table after the model.
const FIGURES: [&str; 17] = [
    "kills",
    "right",
    "wrong",
    "opened",
    "failed: killed",
    "others",
    "dead p50 ms",
    "slowest",
    "beyond control",
    "replaced p50 ms",
    "slowest",
    "all served p50 ms",
    "slowest",
    "never",
    "zombies",
    "at once",
    "left",
];

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    level: u8,
    seconds: f64,
    seed: u64,
    pub(super) runs: Vec<Run>,
}

/// One model.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) model: String,
    #[serde(flatten)]
    pub(super) tally: Tally,
    #[serde(flatten)]
    pub(super) watched: Watched,
    /// Clients that were served at once when it was over.
    pub(super) at_once: usize,
    /// Of the server, after SIGTERM; none if it had to be killed.
    pub(super) exit_code: Option<i32>,
    /// Processes that were there when it had ended.
    pub(super) left: usize,
}

impl Run {
    fn is_clean(&self, level: u8) -> bool {
        let back = self.watched.kills.iter().all(|kill| kill.back_ms.is_some());
        let ended = self.exit_code == Some(0) && self.left == 0 && self.watched.lasting_zombies == 0;
        back && ended
            && self.tally.wrong + self.tally.failed_of_others == 0
            && self.at_once == usize::from(level)
    }

    fn row(&self, level: u8) -> [String; 1 + FIGURES.len()] {
        let kills = &self.watched.kills;
        let [ended, slowest_ended] = self.times(|kill| Some(kill.ended_ms));
        let [_, beyond_control] = self.times(|kill| Some(kill.ended_ms - kill.control_ms?));
        let [replaced, slowest_replaced] = self.times(|kill| kill.replaced_ms);
        let [back, slowest_back] = self.times(|kill| kill.back_ms);
        [
            self.model.clone(),
            count(kills.len() as u64),
            count(self.tally.right),
            count(self.tally.wrong),
            count(self.tally.connections),
            count(self.tally.failed_of_killed),
            count(self.tally.failed_of_others),
            ended,
            slowest_ended,
            beyond_control,
            replaced,
            slowest_replaced,
            back,
            slowest_back,
            kills.iter().filter(|kill| kill.back_ms.is_none()).count().to_string(),
            self.watched.lasting_zombies.to_string(),
            format!("{} of {level}", self.at_once),
            self.left.to_string(),
        ]
    }

    /// The median of a time after every kill, and the longest.
    fn times(&self, time: fn(&Kill) -> Option<f64>) -> [String; 2] {
        let all = || self.watched.kills.iter().filter_map(time);
        [median(all()), all().reduce(f64::max).unwrap_or(f64::NAN)].map(|ms| number(ms, 0))
    }
}

impl Report {
    pub(super) fn new(machine: Machine, level: u8, time: Duration, seed: u64) -> Self {
        Self { machine, level, seconds: time.as_secs_f64(), seed, runs: Vec::new() }
    }
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.runs.iter().all(|run| run.watched.kills.is_empty())
    }

    fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.is_clean(self.level))
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        self.table().print(stream)?;
        self.warn();
        Ok(())
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg()
    }
}

impl Report {
    /// Says which servers had to be killed, or ended with an error.
    fn warn(&self) {
        for run in self.runs.iter().filter(|run| run.exit_code != Some(0)) {
            tracing::error!(
                model = run.model,
                exit_code = run.exit_code,
                "the server did not end as it should"
            );
        }
    }

    fn table(&self) -> Table {
        let mut columns = vec![Column::Text("model")];
        columns.extend(FIGURES.map(Column::Number));
        let mut table = Table::new(&columns);
        for run in &self.runs {
            table.row(run.row(self.level));
        }
        table
    }

    /// How long it took after each kill until the process was dead, and then until all clients were served.
    fn chart(&self) -> Chart {
        let panel = |y_axis: &str, time: fn(&Kill) -> Option<f64>| {
            let series = self.runs.iter().enumerate().map(|(subject, run)| {
                let times = run.watched.kills.iter().map(|kill| time(kill).unwrap_or(f64::NAN));
                Series {
                    name: run.model.clone(),
                    subject,
                    line: Line::Solid,
                    points: (1..).zip(times).collect(),
                }
            });
            Panel { y_axis: y_axis.into(), scale: Scale::Logarithmic, series: series.collect() }
        };
        Chart {
            title: "Processes of a server are killed under load".into(),
            subtitle: format!("{} clients, on {} cores", self.level, self.machine.cores),
            x_axis: "kill".into(),
            panels: vec![
                panel("dead after the signal, ms", |kill| Some(kill.ended_ms)),
                panel("all served after its end, ms", |kill| kill.back_ms),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::{cells, lines, logged};

    fn run(kills: Vec<Kill>) -> Run {
        let tally =
            Tally { right: 1_000, wrong: 0, connections: 30, failed_of_killed: 4, failed_of_others: 0 };
        let watched = Watched { kills, lasting_zombies: 0 };
        Run { model: "prefork".into(), tally, watched, at_once: 5, exit_code: Some(0), left: 0 }
    }

    fn report(run: Run) -> Report {
        let mut report = Report::new(Machine { cores: 2, ..Machine::here() }, 5, Duration::from_secs(60), 7);
        report.runs.push(run);
        report
    }

    /// Three kills, of which one had no control and after one not all were served again.
    fn kills() -> Vec<Kill> {
        let times = [
            [Some(10.0), Some(20.0), Some(30.0)],
            [Some(30.0), Some(40.0), Some(90.0)],
            [Some(20.0), Some(60.0), None],
        ];
        let mut kills = times.map(Kill::of);
        (kills[1].control_ms, kills[2].control_ms) = (None, Some(1.0));
        kills.into()
    }

    #[test]
    fn every_figure_of_the_kills_stands_under_its_title() {
        let mut run = run(kills());
        (run.tally.wrong, run.tally.failed_of_others, run.watched.lasting_zombies, run.left) = (2, 3, 6, 8);
        let table = report(run).table();
        let [titles, figures] = &cells(&table)[..] else { panic!("{table}") };
        let figures: Vec<(&str, &str)> =
            titles.iter().map(String::as_str).zip(figures.iter().map(String::as_str)).collect();
        assert_eq!(
            figures,
            [
                ("model", "prefork"),
                ("kills", "3"),
                ("right", "1,000"),
                ("wrong", "2"),
                ("opened", "30"),
                ("failed: killed", "4"),
                ("others", "3"),
                ("dead p50 ms", "20"),
                ("slowest", "30"),
                ("beyond control", "19"),
                ("replaced p50 ms", "40"),
                ("slowest", "60"),
                ("all served p50 ms", "60"),
                ("slowest", "90"),
                ("never", "1"),
                ("zombies", "6"),
                ("at once", "5 of 5"),
                ("left", "8"),
            ]
        );
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_not_clean() {
        let whole = || run(vec![Kill::of([1.0, 2.0, 3.0].map(Some))]);
        assert!(report(whole()).is_clean(), "connections of killed processes may fail");
        let spoils: [fn(&mut Run); 8] = [
            |run| run.tally.wrong = 1,
            |run| run.tally.failed_of_others = 1,
            |run| run.watched.kills[0].back_ms = None,
            |run| run.watched.lasting_zombies = 1,
            |run| run.at_once = 4,
            |run| run.exit_code = None,
            |run| run.exit_code = Some(1),
            |run| run.left = 1,
        ];
        for (number, spoil) in spoils.iter().enumerate() {
            let mut bad = whole();
            spoil(&mut bad);
            assert!(!report(bad).is_clean(), "{number}");
        }
    }

    #[test]
    fn a_server_that_did_not_end_as_it_should_is_named_with_its_exit_code() {
        let said = |exit_code| {
            let report = report(Run { exit_code, ..run(kills()) });
            logged(|| report.warn())
        };
        assert_eq!(said(Some(0)), "");
        let failed = said(Some(3));
        assert!(failed.contains("ERROR") && failed.contains("exit_code=3"), "{failed}");
        let killed = said(None);
        assert!(killed.contains("model=\"prefork\"") && !killed.contains("exit_code"), "{killed}");
    }

    #[test]
    fn programs_find_every_time_of_a_kill_and_none_that_was_not_seen() {
        let mut report = report(run(kills()));
        report.runs[0].watched.kills.truncate(2);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["level"], &json["seconds"], &json["seed"]), (&5.into(), &60.0.into(), &7.into()));
        let run = &json["runs"][0];
        let counts =
            ["right", "connections", "failed_of_killed", "at_once", "exit_code"].map(|name| &run[name]);
        assert_eq!(counts.map(|count| count.as_i64().unwrap()), [1_000, 30, 4, 5, 0]);
        let times = |at: usize| {
            let names = ["ended_ms", "control_ms", "replaced_ms", "back_ms"];
            names.map(|name| run["kills"][at][name].as_f64())
        };
        assert_eq!(times(0), [10.0, 9.0, 20.0, 30.0].map(Some));
        assert_eq!(times(1), [Some(30.0), None, Some(40.0), Some(90.0)]);
    }

    #[test]
    fn a_measurement_without_a_kill_is_empty() {
        assert!(report(run(Vec::new())).is_empty() && !report(run(kills())).is_empty());
    }

    #[test]
    fn the_picture_has_every_kill_in_its_place() {
        let mut kills = kills();
        kills.swap(1, 2);
        let chart = report(run(kills)).chart();
        let [(dead, ended), (served, back)] = &lines(&chart)[..] else { panic!("{chart:?}") };
        assert_eq!((*dead, *served), ("dead after the signal, ms", "all served after its end, ms"));
        assert_eq!(ended[..], [("prefork", &[(1, 10.0), (2, 20.0), (3, 30.0)][..])]);
        let back = back[0].1;
        assert_eq!((back[0], back[2]), ((1, 30.0), (3, 90.0)));
        assert!(back[1].1.is_nan(), "nothing is drawn where not all were served");
    }
}
