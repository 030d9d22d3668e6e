//! One level of concurrency, measured: so many questioners, each asking as soon as it has its answer.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use roadstead_load::{measure::Recorder, process::own_cpu_time};
use roadstead_trident::{
    client::{Client, ClientError},
    data::Rows,
    query::Neighbour,
};

use super::{
    ask::THIRDS,
    cluster::{Between, Cluster},
    dataset::{Dataset, Horizon, K},
    figures::{Op, Run},
};
use crate::{outcome::Result, signals, threads};

/// What a level is measured with.
pub(crate) struct Bench<'a> {
    pub(crate) dataset: &'a Dataset,
    pub(crate) cluster: &'a Cluster,
    pub(crate) client: &'a Client,
    pub(crate) checked: bool,
    /// How the servers reach each other, if they share results; rows are then read with that protocol.
    pub(crate) between: Option<Between>,
    /// Of every query that searches use.
    pub(crate) horizons: &'a [Horizon],
}

/// One answer and how long it took.
type Timed<T> = (usize, Duration, Result<T, ClientError>);

/// What the questions of a level cost together.
struct Cost {
    wall: Duration,
    bytes_up: u64,
    bytes_down: u64,
    bytes_between: u64,
    /// Of the servers.
    cpu: Duration,
    /// Of whoever asks.
    own_cpu: Duration,
}

impl Cost {
    /// The figures of answers of which so many were right, on so many processors.
    fn figures<T>(&self, right: usize, answers: &[Timed<T>], processors: usize) -> Run {
        let mut recorder = Recorder::new();
        let finished = answers.iter().filter(|(_, _, answer)| answer.is_ok());
        finished.for_each(|(_, time, _)| recorder.record(*time));
        let (finished, latency) = (recorder.count() as usize, recorder.latency());
        let each = |amount: f64| amount / answers.len().max(1) as f64;
        Run {
            right,
            wrong: finished - right,
            failed: answers.len() - finished,
            qps: right as f64 / self.wall.as_secs_f64(),
            mean_ms: latency.mean_ms,
            p50_ms: latency.p50_ms,
            p95_ms: latency.p95_ms,
            p99_ms: latency.p99_ms,
            overlap: recorder.overlap(self.wall),
            client_bytes_up: each(self.bytes_up as f64),
            client_bytes_down: each(self.bytes_down as f64),
            server_bytes: each(self.bytes_between as f64),
            server_cpu_ms: each(self.cpu.as_secs_f64() * 1e3),
            client_cpu_ms: each(self.own_cpu.as_secs_f64() * 1e3),
            busy: (self.cpu + self.own_cpu).as_secs_f64() / self.wall.as_secs_f64() / processors as f64,
            ..Run::NONE
        }
    }
}

impl Bench<'_> {
    /// How long one question of each kind takes.
    pub(crate) fn one_by_one(&self, ops: &[Op]) -> Result<Duration> {
        let start = Instant::now();
        for op in ops {
            match op {
                Op::Fetch => drop(self.client.fetch(0)?),
                Op::Search => drop(self.client.search(&self.dataset.queries[0], K)?),
            }
        }
        Ok(start.elapsed())
    }

    /// Asks `count` questions, `level` of them at a time. `progress` hears of every answer.
    pub(crate) fn level(
        &self,
        op: Op,
        level: usize,
        count: usize,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Run> {
        match op {
            Op::Fetch => {
                let rows: Vec<usize> =
                    (0..count).map(|number| scattered(number, self.dataset.rows)).collect();
                let ask = |number: usize| self.client.fetch(rows[number]);
                let (answers, cost) = self.ask(level, count, progress, ask)?;
                let checked = self.check_fetches(&rows, &answers)?;
                Ok(self.figures(op, level, &answers, &cost, checked))
            }
            Op::Search => {
                let query = |number: usize| number % self.horizons.len();
                let ask = |number: usize| self.client.search(&self.dataset.queries[query(number)], K);
                let (answers, cost) = self.ask(level, count, progress, ask)?;
                let checked = self.check_searches(&query, &answers)?;
                Ok(self.figures(op, level, &answers, &cost, checked))
            }
        }
    }

    /// The answers to all questions of a level, and what they cost.
    fn ask<T: Send>(
        &self,
        level: usize,
        count: usize,
        progress: &(dyn Fn() + Sync),
        ask: impl Fn(usize) -> Result<T, ClientError> + Sync,
    ) -> Result<(Vec<Timed<T>>, Cost)> {
        // What third servers still do for answers that two were enough for belongs to the questions before.
        self.client.settle(THIRDS);
        let between = self.cluster.exchanged()?.bytes;
        let (bytes, cpu) = (self.client.stats(), self.cluster.cpu_time());
        let (own_cpu, start) = (own_cpu_time(), Instant::now());
        let answers = closed_loop(level, count, progress, ask)?;
        let (wall, own_cpu) = (start.elapsed(), own_cpu_time() - own_cpu);
        self.client.settle(THIRDS);
        let (bytes_after, cpu_after) = (self.client.stats(), self.cluster.cpu_time());
        let cost = Cost {
            wall,
            bytes_up: bytes_after.bytes_out - bytes.bytes_out,
            bytes_down: bytes_after.bytes_in - bytes.bytes_in,
            bytes_between: self.cluster.exchanged()?.bytes - between,
            cpu: cpu_after.saturating_sub(cpu),
            own_cpu,
        };
        let failures: Vec<_> = answers.iter().filter_map(|(_, _, answer)| answer.as_ref().err()).collect();
        if let Some(first) = failures.first() {
            tracing::warn!("{} questions failed, one of them so: {first}", failures.len());
        }
        Ok((answers, cost))
    }

    /// The figures of a level whose finished answers were checked: how many were right, and the recall.
    fn figures<T>(
        &self,
        op: Op,
        level: usize,
        answers: &[Timed<T>],
        cost: &Cost,
        (right, recall_at_10): (usize, Option<f64>),
    ) -> Run {
        Run {
            op,
            protocol: match op {
                Op::Search => "scan",
                Op::Fetch if self.between.is_some() => "exchange",
                Op::Fetch => "direct",
            },
            exchange: self.between.map(|between| between.strategy.to_string()),
            peer_delay_ms: self.between.map_or(0.0, |between| between.delay.as_secs_f64() * 1e3),
            checked: op == Op::Fetch || self.checked,
            level,
            recall_at_10,
            ..cost.figures(right, answers, thread::available_parallelism().map_or(1, usize::from))
        }
    }

    fn check_fetches(
        &self,
        rows: &[usize],
        answers: &[Timed<roadstead_trident::query::Row>],
    ) -> Result<(usize, Option<f64>)> {
        let answered =
            answers.iter().filter_map(|(number, _, answer)| Some((rows[*number], answer.as_ref().ok()?)));
        Ok((right_rows(self.dataset, answered.map(|(index, row)| (index, row.values())))?, None))
    }

    /// A search is right when rounding explains all that differs from the truth: which rows it found, and how far away
    /// it says they are. Recall makes no allowance: it is the mean share of true neighbours.
    fn check_searches(
        &self,
        query: &dyn Fn(usize) -> usize,
        answers: &[Timed<Vec<Neighbour>>],
    ) -> Result<(usize, Option<f64>)> {
        let mut source = self.dataset.source()?;
        let (mut right, mut found, mut answered) = (0, 0, 0);
        let mut wrong = None;
        for (number, _, answer) in answers {
            let Ok(nearest) = answer else { continue };
            let query = query(*number);
            let (hits, unexplained) = self.compare(source.as_mut(), query, nearest)?;
            match unexplained {
                Some(what) => wrong = wrong.or(Some(format!("query {query}: {what}"))),
                None => right += 1,
            }
            found += hits;
            answered += 1;
        }
        if let Some(wrong) = wrong {
            tracing::warn!("{} answers are wrong, one of them so: {wrong}", answered - right);
        }
        Ok((right, (answered > 0).then(|| found as f64 / (answered * K) as f64)))
    }

    /// How many true neighbours were found, and what rounding does not explain.
    fn compare(
        &self,
        source: &mut dyn Rows,
        query: usize,
        nearest: &[Neighbour],
    ) -> Result<(usize, Option<String>)> {
        let (vector, horizon) = (&self.dataset.queries[query], &self.horizons[query]);
        let found: BTreeMap<usize, f64> = nearest.iter().map(|near| (near.index, near.distance)).collect();
        let mut unexplained = (found.len() != K).then(|| format!("{} rows instead of {K}", found.len()));
        let mut hits = 0;
        for (index, distance) in found {
            let row = self.dataset.row(source, index)?;
            let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
            let squared: f64 = row.iter().zip(vector).map(difference).sum();
            hits += usize::from(squared <= horizon.squared);
            let (truth, error) = (squared.sqrt(), self.client.collection().distance_error(vector, index)?);
            if truth - error > horizon.rounded || (distance - truth).abs() > error {
                unexplained = Some(format!(
                    "row {index} is at {truth} and was found at {distance}; the nearest {K} are within {}, and \
                     rounding explains {error}",
                    horizon.squared.sqrt()
                ));
            }
        }
        Ok((hits, unexplained))
    }
}

/// How many of these rows are those of the set, element by element.
fn right_rows(dataset: &Dataset, found: impl Iterator<Item = (usize, Vec<f32>)>) -> Result<usize> {
    let mut source = dataset.source()?;
    let mut right = 0;
    for (index, row) in found {
        right += usize::from(row == dataset.row(source.as_mut(), index)?);
    }
    Ok(right)
}

/// `level` threads ask until `count` questions have been asked, or a signal has come.
fn closed_loop<T: Send>(
    level: usize,
    count: usize,
    progress: &(dyn Fn() + Sync),
    ask: impl Fn(usize) -> Result<T, ClientError> + Sync,
) -> io::Result<Vec<Timed<T>>> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::with_capacity(count));
    let questioner = || {
        let mut mine = Vec::new();
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= count || signals::interrupted() {
                break;
            }
            let start = Instant::now();
            let answer = ask(number);
            mine.push((number, start.elapsed(), answer));
            progress();
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).append(&mut mine);
    };
    thread::scope(|scope| {
        let begin = |_| threads::begin(scope, questioner).map(drop);
        (0..level).try_for_each(begin).inspect_err(|_| next.store(count, Relaxed))
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The row of question `number`: all over the collection, the same in every run.
pub(crate) fn scattered(number: usize, rows: usize) -> usize {
    // Knuth's multiplicative hash; the quality of the scatter does not matter.
    ((number as u64 + 1).wrapping_mul(2_654_435_761) % rows as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use roadstead::Dialer;
    use roadstead_trident::{
        client::Options,
        query::Collection,
        share::{self, CLIENT_DIR},
    };

    use super::*;

    /// What `work` comes to with a bench over the rows of `set`, which can be searched, and its first query.
    fn with_bench<T>(set: &Dataset, work: impl FnOnce(&Bench<'_>, Vec<Neighbour>) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let options = share::Options { search: true, ..Default::default() };
        share::share(&mut *set.source().unwrap(), dir.path(), options, |_, _| {}).unwrap();
        let collection = Arc::new(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap());
        let horizons = set.horizons(1, &collection).unwrap();
        let nowhere = [1, 2, 3].map(|port| ([127, 0, 0, 1], port));
        let client = Client::new(collection, nowhere, None, Options::default(), Dialer::start).unwrap();
        let rows = set.source().unwrap().read_all().unwrap();
        let far = |row: &[f32]| -> f64 {
            row.iter().zip(&set.queries[0]).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        let mut all: Vec<Neighbour> =
            rows.iter().enumerate().map(|(index, row)| Neighbour { index, distance: far(row) }).collect();
        all.sort_by(|a, b| a.distance.total_cmp(&b.distance));
        let (cluster, checked) = (Cluster::of_nobody(), true);
        let bench = Bench {
            dataset: set,
            cluster: &cluster,
            client: &client,
            checked,
            between: None,
            horizons: &horizons,
        };
        work(&bench, all)
    }

    #[test]
    fn a_search_is_right_if_rounding_explains_its_rows_their_distances_and_nothing_is_missing() {
        let set = Dataset::made(30);
        with_bench(&set, |bench, all| {
            let compare =
                |nearest: &[Neighbour]| bench.compare(&mut *set.source().unwrap(), 0, nearest).unwrap();
            let error = bench.client.collection().distance_error(&set.queries[0], all[3].index).unwrap();
            let ten = || all[..K].to_vec();
            assert_eq!(compare(&ten()), (K, None));
            let mut backwards = ten();
            backwards.reverse();
            assert_eq!(compare(&backwards), (K, None), "in whatever order");
            for off in [error + 0.01, -error - 0.01] {
                let mut moved = ten();
                moved[3].distance += off;
                let (hits, why) = compare(&moved);
                assert!(hits == K && why.unwrap().contains(&format!("row {} is at", all[3].index)));
            }
            let mut farther = ten();
            farther[0] = all[25];
            let (hits, why) = compare(&farther);
            assert!(hits == K - 1 && why.unwrap().contains(&format!("row {} is at", all[25].index)));
            let mut twice = ten();
            twice[1] = twice[0];
            for (few, count) in [(&all[..K - 1], K - 1), (&all[..0], 0), (&twice[..], K - 1)] {
                assert_eq!(compare(few), (count, Some(format!("{count} rows instead of {K}"))));
            }
            let (hits, why) = compare(&all[..=K]);
            assert!(hits == K && why.is_some(), "one too many");
        });
    }

    #[test]
    fn recall_is_of_the_searches_that_were_answered_and_right_are_those_that_rounding_explains() {
        let set = Dataset::made(30);
        with_bench(&set, |bench, all| {
            let took = Duration::from_millis(1);
            let mut farther = all[..K].to_vec();
            farther[9] = all[25];
            let failed = Err(ClientError::Randomness("none".into()));
            let answers = [(0, took, Ok(all[..K].to_vec())), (1, took, Ok(farther)), (2, took, failed)];
            assert_eq!(bench.check_searches(&|_| 0, &answers).unwrap(), (1, Some(0.95)));
            assert_eq!(bench.check_searches(&|_| 0, &answers[2..]).unwrap(), (0, None));
        });
    }

    #[test]
    fn every_question_is_asked_once_whoever_asks_it() {
        for (level, count) in [(1, 0), (1, 5), (3, 1), (3, 100)] {
            let told = AtomicUsize::new(0);
            let ask = |number| {
                if number % 2 == 0 { Ok(number) } else { Err(ClientError::Randomness("odd".into())) }
            };
            let answers = closed_loop(level, count, &|| _ = told.fetch_add(1, Relaxed), ask).unwrap();
            let asked: BTreeSet<usize> = answers.iter().map(|(number, ..)| *number).collect();
            assert_eq!((answers.len(), asked), (count, (0..count).collect()));
            assert!(answers.iter().all(|(number, _, answer)| answer.is_ok() == (number % 2 == 0)));
            assert_eq!(told.into_inner(), count);
        }
    }

    #[test]
    fn a_row_is_right_if_it_is_the_one_that_was_asked_for_and_every_element_is() {
        let set = Dataset::made(20);
        let rows = set.source().unwrap().read_all().unwrap();
        let mut changed = rows[5].clone();
        changed[127] += 1.0;
        let found = [(3, rows[3].clone()), (5, changed), (7, rows[3].clone()), (9, rows[9][..127].to_vec())];
        assert_eq!(right_rows(&set, found.into_iter()).unwrap(), 1);
        let all = rows.iter().cloned().enumerate();
        assert_eq!(right_rows(&set, all).unwrap(), 20);
    }

    #[test]
    fn a_question_costs_its_share_and_every_figure_is_its_own() {
        let cost = Cost {
            wall: Duration::from_secs(2),
            bytes_up: 100,
            bytes_down: 200,
            bytes_between: 300,
            cpu: Duration::from_millis(40),
            own_cpu: Duration::from_millis(120),
        };
        let times = [(13, 10), (4, 100), (1, 1_000)];
        let all =
            times.into_iter().flat_map(|(count, ms)| (0..count).map(move |_| Duration::from_millis(ms)));
        let mut answers: Vec<Timed<()>> =
            all.enumerate().map(|(number, took)| (number, took, Ok(()))).collect();
        let failed = || Err(ClientError::Randomness("none".into()));
        answers.extend([(18, Duration::from_secs(9), failed()), (19, Duration::from_secs(9), failed())]);
        let run = cost.figures(16, &answers, 4);
        assert_eq!((run.right, run.wrong, run.failed), (16, 2, 2));
        // 130 ms, 400 ms and 1 s by the eighteen that were answered.
        assert_eq!((run.qps, run.mean_ms, run.overlap), (8.0, 85.0, 0.765));
        let near = |found: f64, ms: f64| (found / ms - 1.0).abs() < 2e-3;
        assert!(near(run.p50_ms, 10.0) && near(run.p95_ms, 1_000.0) && near(run.p99_ms, 1_000.0), "{run:?}");
        let bytes = [run.client_bytes_up, run.client_bytes_down, run.server_bytes];
        assert_eq!((bytes, run.server_cpu_ms, run.client_cpu_ms), ([5.0, 10.0, 15.0], 2.0, 6.0));
        assert_eq!(run.busy, 0.02, "160 ms of four times two seconds");
        let nothing = cost.figures::<()>(0, &[], 1);
        assert_eq!((nothing.asked(), nothing.client_bytes_up), (0, 100.0));
        assert!(nothing.p50_ms.is_nan());
    }

    #[test]
    fn questions_are_all_over_the_collection() {
        for rows in [1, 2, 1_000] {
            let found: BTreeSet<usize> = (0..10 * rows).map(|number| scattered(number, rows)).collect();
            assert_eq!((found.first(), found.last()), (Some(&0), Some(&(rows - 1))));
            assert!(found.len() * 10 >= rows * 9, "{} of {rows}", found.len());
        }
        assert_eq!(
            [0, 1, 2].map(|number| scattered(number, 1_000)),
            [761, 522, 283],
            "as in every run before"
        );
    }
}
