//! `roadstead bench loss`: a server is killed under load and started again, so many times; what the others' clients
//! see.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use roadstead::exchange::Strategy;
use roadstead_load::{
    chart::{Chart, ChartError, Line, Panel, Scale, Series},
    machine::Machine,
    report::{Column, ReportError, Stream, Table, bytes, millis, number},
};
use roadstead_trident::{
    client::{Client, ClientError, Options, Protocol},
    party::Party,
};

use crate::{
    numbers::within,
    outcome::{Outcome, Result},
    output::{Findings, Output},
    progress, signals, threads,
    trident::{
        cluster::{Between, Cluster, Exchanged},
        dataset::{Dataset, MADE_ROWS},
        level::scattered,
        sharing::with_shares,
    },
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often the server is killed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = within(1..=100_u16))]
    times: u16,
    /// Queries in flight
    #[arg(long, value_name = "L", default_value_t = 16, value_parser = within(1..=256_u16))]
    level: u16,
    /// How messages between the servers travel: shared, per-query, pool:N, multiplexed
    #[arg(long, value_name = "STRATEGY", default_value = "multiplexed")]
    exchange: Strategy,
    /// Without TLS, between client and servers and between the servers
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    output: Output,
}

/// The server that is killed: one whose answers the client could do without.
const VICTIM: Party = Party::ALL[1];
/// Undisturbed work before each loss, which is what full speed means.
const BEFORE: Duration = Duration::from_secs(2);
/// How long the server stays away.
const AWAY: Duration = Duration::from_millis(500);
/// How long full speed is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Full speed is nine tenths of what was before, over this time.
const WINDOW: Duration = Duration::from_millis(500);
/// Between a failed question and the next.
const PAUSE: Duration = Duration::from_millis(5);
/// What a point of the picture stands for, in milliseconds.
const STEP: u64 = 250;

/// One loss of the server.
#[derive(Debug, Serialize)]
struct Loss {
    /// Right answers per second before it.
    before_per_s: f64,
    /// Right answers per second once it is over.
    after_per_s: f64,
    /// Queries that failed from the loss on, all naming the server.
    failed: u64,
    /// The longest that a query took from the loss on, whatever it came to.
    slowest_ms: f64,
    /// From the start of the new process to full speed; none if it was not reached.
    back_after_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    level: u16,
    exchange: String,
    /// Whether clients and servers speak TLS with each other.
    tls: bool,
    right: u64,
    wrong: u64,
    /// Failures that do not name the lost server.
    unnamed: u64,
    losses: Vec<Loss>,
    /// Of the two servers that were not killed, before the first loss and when all was over.
    resident_bytes: [[u64; 2]; 2],
    /// Bytes of messages in the servers' memory, and queries that wait for messages, when the last deadline was over.
    held_bytes: u64,
    waiting: u64,
    /// Right answers per second, every so many milliseconds since the start.
    #[serde(skip)]
    over_time: Vec<(u64, f64)>,
}

/// What became of a query: when it ended, how long it took, and whether it was right.
struct Ended {
    at: Duration,
    took: Duration,
    right: bool,
}

/// What the questioners share.
struct Questions<'a> {
    client: &'a Client,
    rows: &'a [Vec<f32>],
    start: Instant,
    next: AtomicUsize,
    over: AtomicBool,
    ended: Mutex<Vec<Ended>>,
    bad: Mutex<Bad>,
}

#[derive(Default)]
struct Bad {
    wrong: u64,
    unnamed: BTreeMap<String, u64>,
}

impl Bad {
    /// Takes an answer that was not right. That queries fail by the server that is lost is no surprise.
    fn note(&mut self, answer: Result<(), ClientError>) {
        match answer {
            Ok(()) => self.wrong += 1,
            Err(error) => {
                let words = error.to_string();
                if !words.contains(&VICTIM.to_string()) {
                    *self.unnamed.entry(words).or_default() += 1;
                }
            }
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    let dataset = Dataset::made(MADE_ROWS);
    let rows = dataset.source()?.read_all()?;
    let report = with_shares(&dataset, !args.plain, |scratch| {
        let between = Between { strategy: args.exchange, delay: Duration::ZERO };
        let mut cluster = Cluster::start(scratch, None, Some(between))?;
        let client = cluster.client(Options { protocol: Protocol::Exchange, ..Options::default() })?;
        measure(args, &rows, &client, &mut cluster)
    })?;
    args.output.deliver(&report)
}

fn measure(args: &Args, rows: &[Vec<f32>], client: &Client, cluster: &mut Cluster) -> Result<Report> {
    client.fetch(0)?;
    let questions = Questions {
        client,
        rows,
        start: Instant::now(),
        next: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        ended: Mutex::default(),
        bad: Mutex::default(),
    };
    let (losses, resident) = lose_all(args, &questions, cluster)?;
    let left = settled(cluster)?;
    let ended = questions.ended();
    let bad = std::mem::take(&mut *questions.bad.lock().unwrap_or_else(PoisonError::into_inner));
    for (error, count) in &bad.unnamed {
        tracing::error!(count, "a query failed without naming {VICTIM}: {error}");
    }
    Ok(Report {
        machine: Machine::here(),
        level: args.level,
        exchange: args.exchange.to_string(),
        tls: !args.plain,
        right: ended.iter().filter(|it| it.right).count() as u64,
        wrong: bad.wrong,
        unnamed: bad.unnamed.values().sum(),
        losses,
        resident_bytes: [resident, survivors(cluster)],
        held_bytes: left.held,
        waiting: left.waiting,
        over_time: over_time(&ended),
    })
}

/// The losses, under load, and how much memory the two other servers had before the first.
fn lose_all(args: &Args, questions: &Questions<'_>, cluster: &mut Cluster) -> Result<(Vec<Loss>, [u64; 2])> {
    progress::announce(BEFORE + (2 * BEFORE + AWAY + WINDOW) * args.times.into());
    let bar = progress::bar(args.times.into(), "killing a server and starting it again");
    let all = thread::scope(|scope| -> Result<_> {
        let _over = Over(&questions.over);
        for _ in 0..args.level {
            threads::begin(scope, || questions.ask())?;
        }
        thread::sleep(BEFORE);
        let resident = survivors(cluster);
        let mut losses = Vec::new();
        for _ in 0..args.times {
            if signals::interrupted() {
                break;
            }
            losses.push(lose(questions, cluster)?);
            bar.inc(1);
        }
        Ok((losses, resident))
    })?;
    bar.finish_and_clear();
    Ok(all)
}

/// What the servers hold when every query has been answered or given up.
fn settled(cluster: &Cluster) -> Result<Exchanged> {
    let spinner = progress::spinner("waiting for what is given up by its deadline");
    let deadline = Instant::now() + PATIENCE;
    let left = loop {
        let left = cluster.exchanged()?;
        if left.held + left.waiting == 0 || Instant::now() > deadline {
            break left;
        }
        thread::sleep(WINDOW);
    };
    spinner.finish_and_clear();
    Ok(left)
}

/// Ends the questions, also when the measurement fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Kills the server, starts it again, and waits until all is as before.
fn lose(questions: &Questions<'_>, cluster: &mut Cluster) -> Result<Loss> {
    thread::sleep(BEFORE);
    let lost = questions.start.elapsed();
    let before = questions.rate(lost - BEFORE, lost);
    cluster.kill(VICTIM)?;
    thread::sleep(AWAY);
    let started = questions.start.elapsed();
    cluster.revive(VICTIM)?;
    let mut back = None;
    while back.is_none() && questions.start.elapsed() < started + PATIENCE {
        thread::sleep(WINDOW / 20);
        let now = questions.start.elapsed();
        if now >= started + WINDOW && questions.rate(now - WINDOW, now) >= 0.9 * before {
            back = Some(now - WINDOW);
        }
    }
    let full = questions.start.elapsed();
    thread::sleep(BEFORE);
    let after = questions.rate(full, full + BEFORE);
    let ended = questions.ended.lock().unwrap_or_else(PoisonError::into_inner);
    let (failed, slowest_ms) = since(&ended, lost);
    Ok(Loss {
        before_per_s: before,
        after_per_s: after,
        failed,
        slowest_ms,
        back_after_ms: back.map(|back| back.saturating_sub(started).as_secs_f64() * 1e3),
    })
}

/// How many queries failed from a moment on, and the longest that one took, in milliseconds.
fn since(ended: &[Ended], lost: Duration) -> (u64, f64) {
    let since = || ended.iter().filter(|it| it.at >= lost);
    let slowest = since().map(|it| it.took).max().unwrap_or_default();
    (since().filter(|it| !it.right).count() as u64, slowest.as_secs_f64() * 1e3)
}

/// Right answers per second between two moments.
fn rate(ended: &[Ended], from: Duration, to: Duration) -> f64 {
    let right = ended.iter().filter(|it| it.right && it.at >= from && it.at < to).count();
    right as f64 / to.saturating_sub(from).as_secs_f64()
}

impl Questions<'_> {
    /// Asks one question after the other until it is over.
    fn ask(&self) {
        while !self.over.load(SeqCst) {
            let index = scattered(self.next.fetch_add(1, SeqCst), self.rows.len());
            let start = Instant::now();
            let answer = self.client.fetch(index);
            let right = answer.as_ref().is_ok_and(|row| row.values() == self.rows[index]);
            let ended = Ended { at: self.start.elapsed(), took: start.elapsed(), right };
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
            if !right {
                self.bad.lock().unwrap_or_else(PoisonError::into_inner).note(answer.map(drop));
                thread::sleep(PAUSE);
            }
        }
    }

    /// Right answers per second between two moments.
    fn rate(&self, from: Duration, to: Duration) -> f64 {
        rate(&self.ended.lock().unwrap_or_else(PoisonError::into_inner), from, to)
    }

    fn ended(&self) -> Vec<Ended> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Resident memory of the two servers that are not killed.
fn survivors(cluster: &Cluster) -> [u64; 2] {
    let usage = cluster.usage();
    [0, 2].map(|at| usage[at].as_ref().map_or(0, |usage| usage.resident_bytes))
}

fn over_time(ended: &[Ended]) -> Vec<(u64, f64)> {
    let mut steps = BTreeMap::<u64, u64>::new();
    for it in ended {
        *steps.entry(it.at.as_millis() as u64 / STEP).or_default() += u64::from(it.right);
    }
    // The last step is cut off by the end.
    let whole = steps.keys().next_back().copied().unwrap_or(0);
    let rate = |step| steps.get(&step).copied().unwrap_or(0) as f64 * 1e3 / STEP as f64;
    (0..whole).map(|step| (step * STEP, rate(step))).collect()
}

impl Findings for Report {
    fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    fn is_clean(&self) -> bool {
        let back = self.losses.iter().all(|loss| loss.back_after_ms.is_some());
        back && self.wrong + self.unnamed + self.held_bytes + self.waiting == 0
    }

    fn print(&self, stream: Stream) -> Result<(), ReportError> {
        self.table().print(stream)?;
        stream.tell(&self.summary())
    }

    fn svg(&self) -> Result<String, ChartError> {
        self.chart().svg()
    }
}

impl Report {
    fn table(&self) -> Table {
        let figures = ["answers/s before", "failed", "slowest ms", "full speed after ms", "answers/s then"];
        let columns: Vec<Column> =
            [Column::Number("loss")].into_iter().chain(figures.map(Column::Number)).collect();
        let mut table = Table::new(&columns);
        for (at, loss) in self.losses.iter().enumerate() {
            table.row([
                (at + 1).to_string(),
                number(loss.before_per_s, 0),
                loss.failed.to_string(),
                millis(loss.slowest_ms),
                loss.back_after_ms.map_or("not reached".into(), |back| number(back, 0)),
                number(loss.after_per_s, 0),
            ]);
        }
        table
    }

    fn summary(&self) -> String {
        let [before, after] = self.resident_bytes.map(|both| both.map(bytes).join(" and "));
        format!(
            "{} TLS: {} right, {} wrong, {} failed without naming {VICTIM}; in the end the servers held {} of messages and {} \
             queries; the two that lived on had {before} of memory before, {after} after",
            if self.tls { "with" } else { "without" },
            self.right,
            self.wrong,
            self.unnamed,
            bytes(self.held_bytes),
            self.waiting
        )
    }

    fn chart(&self) -> Chart {
        let series =
            Series { name: "right".into(), subject: 0, line: Line::Solid, points: self.over_time.clone() };
        Chart {
            title: format!("One of three servers ({VICTIM}) is killed and started again"),
            subtitle: format!(
                "rows read with the protocol exchange ({}, {} TLS), {} in flight, on {} cores",
                self.exchange,
                if self.tls { "with" } else { "without" },
                self.level,
                self.machine.cores
            ),
            x_axis: "time, ms".into(),
            panels: vec![Panel { y_axis: "answers/s".into(), scale: Scale::Linear, series: vec![series] }],
        }
    }
}

#[cfg(test)]
mod tests;
