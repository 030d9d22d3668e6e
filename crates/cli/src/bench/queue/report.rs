//! The report of `bench queue`: a table and a picture for people, JSON for programs.

use serde::{Serialize, Serializer};

use roadstead::Queue;
use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    measure::{Latency, Ratio, Recorder},
    report::{Column, ReportError, Stream, Table, count, millis, number},
};

use super::round::Tally;
use crate::output::Findings;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) workers: u16,
    pub(super) load: f64,
    pub(super) connections: usize,
    /// How long jobs came for each discipline.
    pub(super) seconds: f64,
    pub(super) seed: u64,
    /// The pace of the work, measured once for all.
    pub(super) links_per_ms: f64,
    pub(super) runs: Vec<Run>,
}

/// One discipline.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    #[serde(serialize_with = "by_name")]
    queue: Queue,
    right: u64,
    wrong: u64,
    lost: u64,
    short: Latency,
    long: Latency,
    /// What the loop adds before a job is in the queue; it is in the other latencies too.
    late: Latency,
    /// To that of FCFS, round by round; none if it was not measured.
    short_p99_ratio: Option<Ratio>,
    rounds: Vec<Round>,
    #[serde(skip)]
    all: [Recorder; 3],
}

/// One round of a discipline.
#[derive(Debug, Serialize)]
struct Round {
    short: Latency,
    long: Latency,
    late: Latency,
    /// The part of the workers' time that the jobs took.
    busy: f64,
    /// The part of the jobs' time in which they had a processor.
    on_processor: f64,
}

fn by_name<S: Serializer>(queue: &Queue, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(queue.name())
}

impl Run {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            right: 0,
            wrong: 0,
            lost: 0,
            short: Latency::UNKNOWN,
            long: Latency::UNKNOWN,
            late: Latency::UNKNOWN,
            short_p99_ratio: None,
            rounds: Vec::new(),
            all: Default::default(),
        }
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue
    }

    fn was_measured(&self) -> bool {
        self.right + self.wrong + self.lost > 0
    }

    /// Adds what a round with so many workers came to.
    pub(super) fn add(&mut self, tally: Tally, workers: u16) {
        self.right += tally.right;
        self.wrong += tally.wrong;
        self.lost += tally.lost;
        self.rounds.push(Round {
            short: tally.short.latency(),
            long: tally.long.latency(),
            late: tally.late.latency(),
            busy: tally.cpu.as_secs_f64() / tally.wall.as_secs_f64() / f64::from(workers),
            on_processor: tally.cpu.as_secs_f64() / tally.ran.as_secs_f64(),
        });
        for (all, round) in self.all.iter_mut().zip([&tally.short, &tally.long, &tally.late]) {
            all.merge(round);
        }
        [self.short, self.long, self.late] = self.all.each_ref().map(Recorder::latency);
    }

    fn mean(&self, figure: fn(&Round) -> f64) -> f64 {
        self.rounds.iter().map(figure).sum::<f64>() / self.rounds.len() as f64
    }

    /// Says so if something else has used the processors.
    fn warn(&self) {
        let had = self.mean(|round| round.on_processor);
        if had < 0.9 {
            tracing::warn!(
                queue = %self.queue,
                "jobs had a processor for {:.0} % of their time: what else this machine did was measured too",
                had * 100.0
            );
        }
    }
}

impl Report {
    /// Compares each round with that of FCFS on the same jobs.
    pub(super) fn compare(&mut self) {
        let p99 = |run: &Run| run.rounds.iter().map(|round| round.short.p99_ms).collect::<Vec<_>>();
        let Some(fcfs) = self.runs.iter().find(|run| run.queue == Queue::Fcfs).map(p99) else {
            return;
        };
        for run in &mut self.runs {
            run.short_p99_ratio = Ratio::of(p99(run).iter().zip(&fcfs).map(|(own, it)| own / it));
        }
    }
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        !self.runs.iter().any(Run::was_measured)
    }

    fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| run.wrong + run.lost == 0)
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        self.table().print(stream)?;
        self.measured().for_each(Run::warn);
        Ok(())
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg_over_percentiles()
    }
}

impl Report {
    fn measured(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.was_measured())
    }

    fn table(&self) -> Table {
        let mut columns = vec![Column::Text("queue")];
        columns.extend(
            [
                "right",
                "wrong",
                "lost",
                "short p50 ms",
                "p99 ms",
                "p99.9 ms",
                "long p50 ms",
                "p99 ms",
                "late p99 ms",
                "busy %",
                "short p99 to fcfs (min-max)",
            ]
            .map(Column::Number),
        );
        let mut table = Table::new(&columns);
        for run in self.measured() {
            table.row([
                run.queue.to_string(),
                count(run.right),
                count(run.wrong),
                count(run.lost),
                millis(run.short.p50_ms),
                millis(run.short.p99_ms),
                millis(run.short.p999_ms),
                millis(run.long.p50_ms),
                millis(run.long.p99_ms),
                millis(run.late.p99_ms),
                number(run.mean(|round| round.busy) * 100.0, 0),
                run.short_p99_ratio.map_or("-".into(), |ratio| ratio.to_string()),
            ]);
        }
        table
    }

    /// The latency of short and of long jobs by how many are faster, a line for each discipline.
    fn chart(&self) -> Chart {
        let panel = |what: &str, latency: fn(&Run) -> &Latency| {
            let series = self.runs.iter().enumerate().map(|(subject, run)| {
                let points = latency(run).percentiles();
                Series { name: run.queue.to_string(), subject, line: Line::Solid, points }
            });
            let y_axis = format!("latency of {what} jobs, ms");
            Panel { y_axis, scale: Scale::Logarithmic, series: series.collect() }
        };
        Chart {
            title: "Short and long jobs in one queue".into(),
            subtitle: format!(
                "90 % of 0.1 ms and 10 % of 10 ms, {} workers, load {}, on {} cores",
                self.workers, self.load, self.machine.cores
            ),
            x_axis: "percentile of the jobs".into(),
            panels: vec![panel("short", |run| &run.short), panel("long", |run| &run.long)],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::tests::{cells, lines, logged};

    fn report(runs: Vec<Run>) -> Report {
        Report {
            machine: Machine { cores: 2, ..Machine::here() },
            workers: 2,
            load: 0.7,
            connections: 8,
            seconds: 1.0,
            seed: 1,
            links_per_ms: 1.0,
            runs,
        }
    }

    /// A discipline after rounds in which its short jobs took so many milliseconds.
    fn run(queue: Queue, rounds: &[u64]) -> Run {
        let all = |ms| {
            let mut recorder = Recorder::new();
            recorder.record(Duration::from_millis(ms));
            recorder
        };
        let mut run = Run::new(queue);
        for &ms in rounds {
            let [cpu, ran, wall] = [3, 4, 5].map(Duration::from_secs);
            let (short, long, late) = (all(ms), all(100 * ms), all(1));
            run.add(Tally { right: 2, short, long, late, cpu, ran, wall, ..Tally::default() }, 2);
        }
        run
    }

    #[test]
    fn a_run_with_anything_wrong_or_lost_is_not_clean() {
        for (wrong, lost, clean) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
            let mut run = run(Queue::Rr, &[1]);
            run.add(Tally { wrong, lost, ..Tally::default() }, 2);
            assert_eq!(report(vec![run]).is_clean(), clean);
        }
    }

    #[test]
    fn every_figure_of_a_discipline_stands_under_its_title_and_who_was_not_measured_has_no_row() {
        let mut fcfs = run(Queue::Fcfs, &[2, 4, 4]);
        (fcfs.wrong, fcfs.lost) = (7, 8);
        let mut report = report(vec![run(Queue::Sjf, &[1, 1, 1]), fcfs, Run::new(Queue::Mlfq)]);
        report.compare();
        let table = cells(&report.table());
        assert_eq!(
            table[0],
            [
                "queue",
                "right",
                "wrong",
                "lost",
                "short p50 ms",
                "p99 ms",
                "p99.9 ms",
                "long p50 ms",
                "p99 ms",
                "late p99 ms",
                "busy %",
                "short p99 to fcfs (min-max)"
            ]
        );
        let near = |cell: &str, ms: f64| (cell.parse::<f64>().unwrap() / ms - 1.0).abs() < 2e-3;
        for (row, name, ends, [short, long]) in
            [(1, "sjf", ["6", "0", "0"], [1.0, 100.0]), (2, "fcfs", ["6", "7", "8"], [4.0, 400.0])]
        {
            let row = &table[row];
            assert_eq!((&row[0][..], &row[1..4], &row[10][..]), (name, &ends.map(str::to_owned)[..], "30"));
            let times = [short, short, short, long, long, 1.0];
            assert!(row[4..10].iter().zip(times).all(|(cell, ms)| near(cell, ms)), "{row:?}");
        }
        assert!(table[1][11].starts_with("0.250 (0.250-0.500)"), "{table:?}");
        assert_eq!((table[2][11].as_str(), table.len()), ("1.000 (1.000-1.000)", 3));
    }

    #[test]
    fn a_round_tells_how_busy_the_workers_were_and_how_often_jobs_had_a_processor() {
        let run = run(Queue::Fcfs, &[1]);
        assert_eq!((run.rounds[0].busy, run.rounds[0].on_processor), (0.3, 0.75));
        assert!(
            !report(vec![Run::new(Queue::Rr), run]).is_empty()
                && report(vec![Run::new(Queue::Rr)]).is_empty()
        );
    }

    #[test]
    fn who_had_a_processor_for_less_than_nine_tenths_of_the_time_is_told() {
        let of = |cpu, ran| {
            let mut run = Run::new(Queue::Sjf);
            let [cpu, ran, wall] = [cpu, ran, 100].map(Duration::from_millis);
            run.add(Tally { right: 1, cpu, ran, wall, ..Tally::default() }, 1);
            logged(|| run.warn())
        };
        assert_eq!(of(95, 100), "");
        let said = of(40, 50);
        assert!(said.contains("WARN") && said.contains("had a processor for 80 % of their time"), "{said}");
        assert!(said.contains("queue=sjf"), "{said}");
    }

    #[test]
    fn programs_find_what_was_asked_for_and_came_of_it() {
        let mut report = report(vec![run(Queue::Fcfs, &[2, 4])]);
        report.compare();
        let json = serde_json::to_value(&report).unwrap();
        let asked =
            ["workers", "load", "connections", "seconds", "seed", "links_per_ms"].map(|name| &json[name]);
        assert_eq!(asked.map(|it| it.as_f64().unwrap()), [2.0, 0.7, 8.0, 1.0, 1.0, 1.0]);
        let run = &json["runs"][0];
        assert_eq!(
            (&run["queue"], &run["right"], run["short_p99_ratio"]["max"].as_f64()),
            (&"fcfs".into(), &4.into(), Some(1.0))
        );
        for (at, ms) in [2.0, 4.0].into_iter().enumerate() {
            let round = &run["rounds"][at];
            assert_eq!((&round["busy"], &round["on_processor"]), (&0.3.into(), &0.75.into()));
            let near = |of: &str, ms: f64| (round[of]["p50_ms"].as_f64().unwrap() / ms - 1.0).abs() < 2e-3;
            assert!(near("short", ms) && near("long", 100.0 * ms) && near("late", 1.0), "{round}");
        }
    }

    #[test]
    fn the_picture_has_short_and_long_jobs_apart() {
        let chart = report(vec![run(Queue::Fcfs, &[2]), run(Queue::Rr, &[3])]).chart();
        let axes: Vec<&str> = lines(&chart).iter().map(|(axis, _)| *axis).collect();
        assert_eq!(axes, ["latency of short jobs, ms", "latency of long jobs, ms"]);
        for ((_, drawn), times) in lines(&chart).iter().zip([[2.0, 3.0], [200.0, 300.0]]) {
            for ((name, points), (queue, ms)) in drawn.iter().zip(["fcfs", "rr"].into_iter().zip(times)) {
                assert_eq!((*name, points.len()), (queue, 4));
                assert!(points.iter().all(|(_, figure)| (figure / ms - 1.0).abs() < 2e-3), "{points:?}");
            }
        }
    }
}
