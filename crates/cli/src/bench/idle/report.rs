//! The report of `bench idle`: two tables and a picture for people, JSON for programs.

use serde::Serialize;

use roadstead::Model;
use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    generator::CPU_SHARE_MAX,
    machine::Machine,
    measure::{Ratio, median},
    report::{Column, ReportError, Stream, Table, bytes, count, millis, number},
};

use super::{
    crowd::FIRST,
    round::{Round, SIZE, Window},
};
use crate::output::Findings;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    model: String,
    idle: u16,
    active: u16,
    /// Bytes of a message of the active ones.
    size: usize,
    /// Bytes that each idle one has had echoed.
    first: usize,
    /// Beside the idle ones to alone, round by round.
    cpu_ratio: Option<Ratio>,
    p50_ratio: Option<Ratio>,
    p99_ratio: Option<Ratio>,
    /// Bytes of the server's own memory for each idle connection: the median of the rounds.
    each: Each,
    pub(super) rounds: Vec<Round>,
}

/// Memory against that without idle connections, for each of them.
#[derive(Debug, Clone, Copy, Serialize)]
struct Each {
    opened: f64,
    echoed: f64,
    /// What stays when they are gone.
    closed: f64,
}

impl Report {
    pub(super) fn new(machine: Machine, model: Model, idle: u16, active: u16) -> Self {
        Self {
            machine,
            model: model.to_string(),
            idle,
            active,
            size: SIZE,
            first: FIRST,
            cpu_ratio: None,
            p50_ratio: None,
            p99_ratio: None,
            each: Each { opened: f64::NAN, echoed: f64::NAN, closed: f64::NAN },
            rounds: Vec::new(),
        }
    }

    /// Compares the halves of each round.
    pub(super) fn compare(&mut self) {
        let ratio = |figure: fn(&Window) -> f64| {
            Ratio::of(self.rounds.iter().map(|round| figure(&round.beside) / figure(&round.alone)))
        };
        let cpu = ratio(|window| window.cpu_us);
        let p50 = ratio(|window| window.load.latency.p50_ms);
        let p99 = ratio(|window| window.load.latency.p99_ms);
        let each = |then: fn(&Round) -> u64| {
            let more = |round: &Round| then(round) as f64 - round.memory.before as f64;
            median(self.rounds.iter().map(|round| more(round) / f64::from(self.idle)))
        };
        self.each = Each {
            opened: each(|round| round.memory.opened),
            echoed: each(|round| round.memory.echoed),
            closed: each(|round| round.memory.closed),
        };
        (self.cpu_ratio, self.p50_ratio, self.p99_ratio) = (cpu, p50, p99);
    }

    fn row(&self, title: String, half: fn(&Round) -> &Window) -> Vec<String> {
        let middle = |figure: fn(&Window) -> f64| median(self.rounds.iter().map(|round| figure(half(round))));
        let sum = |figure: fn(&Window) -> u64| self.rounds.iter().map(|round| figure(half(round))).sum();
        vec![
            title,
            number(middle(|window| window.load.messages_per_second), 0),
            count(sum(|window| window.load.right)),
            count(sum(|window| window.load.wrong)),
            count(sum(|window| window.load.failed)),
            number(middle(|window| window.cpu_us), 2),
            millis(middle(|window| window.load.latency.p50_ms)),
            millis(middle(|window| window.load.latency.p99_ms)),
        ]
    }

    /// Says what makes the figures doubtful.
    fn warn(&self) {
        let idle = |figure: fn(&Round) -> u64| self.rounds.iter().map(figure).sum::<u64>();
        let (wrong, lost) = (idle(|round| round.wrong), idle(|round| round.lost));
        if wrong + lost > 0 {
            tracing::error!(wrong, lost, "idle connections did not get their echo, or did not last");
        }
        let halves = self.rounds.iter().flat_map(|round| [&round.alone, &round.beside]);
        if halves.into_iter().any(|window| window.load.client_is_limit) {
            tracing::info!(
                "the client used more than {:.0} % of its core: messages/s and latency are the client's too",
                CPU_SHARE_MAX * 100.0
            );
        }
    }
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    fn is_clean(&self) -> bool {
        let clean = |round: &Round| {
            round.wrong + round.lost == 0 && round.alone.load.is_clean() && round.beside.load.is_clean()
        };
        self.rounds.iter().all(clean)
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        self.work().print(stream)?;
        self.memory().print(stream)?;
        self.warn();
        Ok(())
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg()
    }
}

impl Report {
    fn work(&self) -> Table {
        let mut columns = vec![Column::Text("active connections")];
        columns.extend(
            ["messages/s", "right", "wrong", "failed", "CPU us", "p50 ms", "p99 ms"].map(Column::Number),
        );
        let mut table = Table::new(&columns);
        table.row(self.row(format!("{}, alone", self.active), |round| &round.alone));
        table.row(self.row(format!("beside {} idle", count(self.idle.into())), |round| &round.beside));
        let mut last = vec!["to alone (min-max)".to_owned()];
        last.resize(5, String::new());
        let ratios = [self.cpu_ratio, self.p50_ratio, self.p99_ratio];
        last.extend(ratios.map(|ratio| ratio.map_or("-".into(), |ratio| ratio.to_string())));
        table.row(last);
        table
    }

    fn memory(&self) -> Table {
        let memory = ["opened", "after the echo", "kept when closed"].map(Column::Number);
        let mut table = Table::new(&[&[Column::Text("memory for each idle one")], &memory[..]].concat());
        let each = [self.each.opened, self.each.echoed, self.each.closed];
        let title = format!("bytes, {} echoed", bytes(FIRST as u64));
        table.row([title].into_iter().chain(each.map(|each| number(each, 0))));
        table
    }

    /// The active ones alone and beside the idle ones, round by round.
    fn chart(&self) -> Chart {
        let series = |subject: usize, name: &str, half: fn(&Round) -> &Window, figure: fn(&Window) -> f64| {
            let points = (1..).zip(self.rounds.iter().map(|round| figure(half(round)))).collect();
            Series { name: name.into(), subject, line: Line::Solid, points }
        };
        let panel = |y_axis: &str, figure: fn(&Window) -> f64| Panel {
            y_axis: y_axis.into(),
            scale: Scale::Linear,
            series: vec![
                series(0, "alone", |round| &round.alone, figure),
                series(1, "beside idle ones", |round| &round.beside, figure),
            ],
        };
        Chart {
            title: format!(
                "{} active connections, alone and beside {} idle ones",
                self.active,
                count(self.idle.into())
            ),
            subtitle: format!("{}, messages of {SIZE} B, on {} cores", self.model, self.machine.cores),
            x_axis: "round".into(),
            panels: vec![
                panel("CPU for a message, us", |window| window.cpu_us),
                panel("latency p99, ms", |window| window.load.latency.p99_ms),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use roadstead_load::{generator::LoadReport, measure::Latency};

    use super::*;
    use crate::{
        bench::idle::round::Memory,
        load::tests::loaded,
        output::tests::{cells, lines, logged},
    };

    /// A window whose figures are so many times those of a load.
    fn window(times: f64) -> Window {
        let latency = Latency { p50_ms: 2.0 * times, p99_ms: 8.0 * times, ..loaded().latency };
        Window {
            load: LoadReport { latency, messages_per_second: 1_000.0 / times, ..loaded() },
            cpu_us: 4.0 * times,
        }
    }

    fn round(times: f64) -> Round {
        let memory = Memory { before: 1_000, opened: 3_000, echoed: 5_000, closed: 1_100 };
        Round { alone: window(1.0), beside: window(times), memory, wrong: 0, lost: 0 }
    }

    fn report(rounds: Vec<Round>) -> Report {
        let mut report = Report::new(Machine { cores: 2, ..Machine::here() }, Model::Epoll, 10, 7);
        report.rounds = rounds;
        report.compare();
        report
    }

    #[test]
    fn what_idle_connections_cost_is_compared_round_by_round() {
        let report = report(vec![round(2.0), round(3.0), round(1.0)]);
        assert_eq!(
            cells(&report.work()),
            [
                [
                    "active connections",
                    "messages/s",
                    "right",
                    "wrong",
                    "failed",
                    "CPU us",
                    "p50 ms",
                    "p99 ms"
                ],
                ["7, alone", "1,000", "27", "0", "0", "4.00", "2.00", "8.00"],
                ["beside 10 idle", "500", "27", "0", "0", "8.00", "4.00", "16.0"],
                [
                    "to alone (min-max)",
                    "",
                    "",
                    "",
                    "",
                    "2.000 (1.000-3.000)",
                    "2.000 (1.000-3.000)",
                    "2.000 (1.000-3.000)"
                ],
            ]
        );
        assert_eq!(
            cells(&report.memory()),
            [
                ["memory for each idle one", "opened", "after the echo", "kept when closed"],
                ["bytes, 16.0 KiB echoed", "200", "400", "10"],
            ]
        );
    }

    #[test]
    fn each_figure_is_compared_with_its_own() {
        let mut one = round(1.0);
        (one.beside.cpu_us, one.beside.load.latency.p50_ms, one.beside.load.latency.p99_ms) =
            (8.0, 6.0, 32.0);
        (one.beside.load.wrong, one.beside.load.failed) = (5, 6);
        let report = report(vec![one]);
        let ratio = |figure| Some(Ratio { median: figure, min: figure, max: figure });
        assert_eq!([report.cpu_ratio, report.p50_ratio, report.p99_ratio], [2.0, 3.0, 4.0].map(ratio));
        assert_eq!(
            cells(&report.work())[2],
            ["beside 10 idle", "1,000", "9", "5", "6", "8.00", "6.00", "32.0"]
        );
    }

    #[test]
    fn anything_wrong_or_lost_in_either_half_or_of_an_idle_connection_is_not_clean() {
        assert!(report(vec![round(1.0), round(2.0)]).is_clean());
        let spoils: [fn(&mut Round); 4] = [
            |round| round.wrong = 1,
            |round| round.lost = 1,
            |round| round.alone.load.wrong = 1,
            |round| round.beside.load.failed = 1,
        ];
        for spoil in spoils {
            let mut bad = round(1.0);
            spoil(&mut bad);
            assert!(!report(vec![round(1.0), bad]).is_clean());
        }
    }

    #[test]
    fn what_makes_the_figures_doubtful_is_said_and_nothing_else() {
        let said = |spoil: fn(&mut Round)| {
            let mut odd = round(1.0);
            spoil(&mut odd);
            let report = report(vec![round(1.0), odd]);
            logged(|| report.warn())
        };
        assert_eq!(said(|_| ()), "");
        let idle = said(|round| (round.wrong, round.lost) = (2, 3));
        assert!(idle.contains("ERROR") && idle.contains("wrong=2 lost=3"), "{idle}");
        assert!(said(|round| round.lost = 1).contains("wrong=0 lost=1"));
        for limit in [
            said(|round| round.alone.load.client_is_limit = true),
            said(|round| round.beside.load.client_is_limit = true),
        ] {
            assert!(limit.contains("INFO") && limit.contains("more than 90 % of its core"), "{limit}");
        }
    }

    #[test]
    fn the_picture_has_both_halves_of_every_round() {
        let chart = report(vec![round(2.0), round(3.0)]).chart();
        assert_eq!(
            lines(&chart),
            [
                (
                    "CPU for a message, us",
                    vec![("alone", &[(1, 4.0), (2, 4.0)][..]), ("beside idle ones", &[(1, 8.0), (2, 12.0)])]
                ),
                (
                    "latency p99, ms",
                    vec![("alone", &[(1, 8.0), (2, 8.0)]), ("beside idle ones", &[(1, 16.0), (2, 24.0)])]
                ),
            ]
        );
        assert_eq!(chart.title, "7 active connections, alone and beside 10 idle ones");
    }
}
