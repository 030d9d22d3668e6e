//! The report of `bench idle`: two tables and a picture for people, JSON for programs.

use roadstead::Model;
use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    generator::CPU_SHARE_MAX,
    machine::Machine,
    measure::{Ratio, median},
    report::{Column, ReportError, Stream, Table, bytes, count, millis, number},
};
use serde::Serialize;

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
        table.print(stream)?;
        let memory = ["opened", "after the echo", "kept when closed"].map(Column::Number);
        let mut table = Table::new(&[&[Column::Text("memory for each idle one")], &memory[..]].concat());
        let each = [self.each.opened, self.each.echoed, self.each.closed];
        let title = format!("bytes, {} echoed", bytes(FIRST as u64));
        table.row([title].into_iter().chain(each.map(|each| number(each, 0))));
        table.print(stream)?;
        self.warn();
        Ok(())
    }

    /// The active ones alone and beside the idle ones, round by round.
    fn svg(&self) -> Result<String, ChartError> {
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
        .svg()
    }
}
