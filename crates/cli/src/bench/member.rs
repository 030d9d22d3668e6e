//! One of the three processes of `bench exchange`: takes part in the queries that its parent names.
//!
//! A worker does one query after the other: it sends its message to both peers and gathers theirs. The exchange itself
//! keeps the three processes in step. A query begins where the one before it ended, on the exchange's own loop; only
//! messages that take long to check go through a thread of their own.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    exchange::{self, Exchange, GatherError, Gathered, Key, Member, MemberId, Options, Strategy},
    layer::Credentials,
    tls::Keys,
};
use serde::{Deserialize, Serialize};

use super::payload::{Base, is_right};
use crate::{
    addresses::{Place, find_three, three},
    buffers::Buffers,
    numbers::seconds,
    outcome::{Outcome, Result},
    parent::end_with,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    id: u8,
    #[arg(long, value_parser = three)]
    peers: [Place; 3],
    #[arg(long)]
    peer_bind: SocketAddr,
    #[arg(long)]
    keys: Option<PathBuf>,
    #[arg(long)]
    strategy: Strategy,
    #[arg(long)]
    window: usize,
    #[arg(long)]
    loops: usize,
    #[arg(long, value_parser = seconds)]
    exchange_timeout: Duration,
    #[arg(long)]
    socket_buffer: Option<usize>,
    /// Bytes of the largest message
    #[arg(long)]
    largest: usize,
    /// Queries in flight at most
    #[arg(long)]
    most: usize,
    #[arg(long)]
    with_parent: i32,
}

/// What the parent wants done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Queries `first..first + count`, `level` at a time, with messages of `length` bytes.
    Run { first: u64, count: u64, level: u64, length: usize },
    /// Exchange messages of `length` bytes all the time, beside the runs.
    Begin { length: usize },
    /// Which of those is the latest that was begun.
    Latest,
    /// End with that one.
    End { latest: u64 },
}

/// What the member answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) latencies_us: Vec<u64>,
    pub(crate) wrong: Vec<u64>,
    pub(crate) failed: Vec<u64>,
    pub(crate) seconds: f64,
    pub(crate) connections_opened: u64,
    pub(crate) most_ahead: u64,
    pub(crate) background: u64,
}

/// Messages up to this size are checked where they arrive.
const AT_ONCE: usize = 128 << 10;
/// Background queries are numbered from here on.
const BACKGROUND: u128 = 1 << 64;

type Task = Box<dyn FnOnce() + Send>;

struct Worker {
    exchange: Exchange,
    base: Base,
    /// A query that takes longer has failed.
    patience: Duration,
    /// Where long checks are made.
    slow: mpsc::Sender<Task>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    end_with(args.with_parent)?;
    let member = |(id, address)| Member::new(id, address);
    let peers = find_three(&args.peers, Place::first)?;
    let members: Vec<Member> = (1..).zip(peers).map(member).collect();
    let mut options = Options::with(args.strategy);
    (options.window, options.loops) = (args.window, args.loops);
    options.largest = options.largest.max(args.largest);
    options.per_peer = options.per_peer.max(4 * args.largest + 2 * args.largest * args.most);
    options.total = 2 * options.per_peer;
    options.patience = args.exchange_timeout;
    let keys = args.keys.as_deref().map(Keys::load).transpose()?;
    let listener = exchange::listen(args.peer_bind)?;
    let buffers = Buffers::ask(args.socket_buffer, &mut options, &listener)?;
    let credentials = keys.as_ref().map(|keys| keys as &dyn Credentials);
    let exchange = exchange::start(MemberId(args.id), &members, listener, credentials, options)?;
    let (slow, tasks) = mpsc::channel::<Task>();
    thread::Builder::new().name("check".into()).spawn(move || tasks.iter().for_each(|task| task()))?;
    let (base, patience) = (Base::new(args.largest), args.exchange_timeout);
    let worker = Arc::new(Worker { exchange, base, patience, slow });
    let background = Arc::new(Background::default());
    let sizes = buffers.map(|buffers| format!(" {} {}", buffers.send_bytes, buffers.receive_bytes));
    writeln!(std::io::stdout(), "ready{}", sizes.unwrap_or_default())?;
    for line in std::io::stdin().lock().lines() {
        let answer = obey(&worker, &background, serde_json::from_str(&line?)?)?;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(Outcome::Done)
}

fn obey(worker: &Arc<Worker>, background: &Arc<Background>, order: Order) -> Result<Answer> {
    match order {
        Order::Run { first, count, level, length } => {
            let (run, ended) = Run::new(count, level, length, u128::from(first));
            let start = Instant::now();
            (0..level.min(count)).for_each(|number| next(worker, &run, number));
            ended.recv()?;
            return Ok(run.answer(worker, start.elapsed()));
        }
        Order::Begin { length } => background.begin(worker, length),
        Order::Latest => {}
        Order::End { latest } => background.end(latest),
    }
    let (run, _ended) = Run::new(0, 1, 0, 0);
    Ok(Answer { background: background.begun.load(SeqCst), ..run.answer(worker, Duration::ZERO) })
}

/// Queries that are measured.
struct Run {
    first: u128,
    count: u64,
    level: u64,
    length: usize,
    left: AtomicUsize,
    results: Mutex<Results>,
    ended: mpsc::Sender<()>,
}

#[derive(Default)]
struct Results {
    latencies_us: Vec<u64>,
    /// The queries that were not right, and whether they failed.
    bad: BTreeMap<u64, bool>,
}

impl Results {
    /// Takes what a query came to, and how long it took.
    fn note(&mut self, number: u64, took: Duration, result: Result<bool, GatherError>) {
        match result {
            Ok(true) => self.latencies_us.push(took.as_micros() as u64),
            Ok(false) => drop(self.bad.insert(number, false)),
            Err(error) => {
                if self.bad.is_empty() {
                    tracing::warn!(%error, "a query failed");
                }
                self.bad.insert(number, true);
            }
        }
    }

    /// The queries that failed, or those that were wrong.
    fn bad(&self, failed: bool) -> Vec<u64> {
        self.bad.iter().filter(|(_, it)| **it == failed).map(|(at, _)| *at).collect()
    }
}

impl Run {
    fn new(count: u64, level: u64, length: usize, first: u128) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (ended, hear) = mpsc::channel();
        let (left, results) = (AtomicUsize::new(count as usize), Mutex::default());
        (Arc::new(Self { first, count, level, length, left, results, ended }), hear)
    }

    fn answer(&self, worker: &Worker, took: Duration) -> Answer {
        let stats = worker.exchange.stats();
        let results = std::mem::take(&mut *self.results.lock().unwrap_or_else(PoisonError::into_inner));
        Answer {
            wrong: results.bad(false),
            failed: results.bad(true),
            latencies_us: results.latencies_us,
            seconds: took.as_secs_f64(),
            connections_opened: stats.peers.iter().map(|(_, peer)| peer.connections_opened).sum(),
            most_ahead: stats.peers.iter().map(|(_, peer)| peer.most_ahead).max().unwrap_or(0),
            background: 0,
        }
    }
}

/// Begins query `number` of a run; the next of its worker follows when it has ended.
fn next(worker: &Arc<Worker>, run: &Arc<Run>, number: u64) {
    let (again, run) = (Arc::clone(worker), Arc::clone(run));
    let (query, length) = (run.first + u128::from(number), run.length);
    let start = Instant::now();
    worker.ask(query, length, move |result| {
        let took = start.elapsed();
        run.results.lock().unwrap_or_else(PoisonError::into_inner).note(number, took, result);
        if run.left.fetch_sub(1, SeqCst) == 1 {
            // The parent may have gone; then nobody wants to know.
            let _ = run.ended.send(());
        } else if number + run.level < run.count {
            next(&again, &run, number + run.level);
        }
    });
}

impl Worker {
    /// Takes part in a query; `done` hears whether both messages were right.
    fn ask(
        self: &Arc<Self>,
        query: u128,
        length: usize,
        done: impl FnOnce(Result<bool, GatherError>) + Send + 'static,
    ) {
        let key = Key { query, round: 0 };
        let message = self.base.message(query, self.exchange.me().0, length);
        if let Err(error) = self.exchange.send_all(key, message) {
            tracing::error!(%error, "a message could not be sent");
        }
        let worker = Arc::clone(self);
        self.exchange.gather(key, self.patience, move |result| {
            let check = move |gathered: Gathered| {
                let mut all = gathered.iter();
                gathered.len() == 2 && all.all(|(from, message)| is_right(message, query, from.0, length))
            };
            if length <= AT_ONCE {
                return done(result.map(check));
            }
            // Fails only when the process ends.
            let _ = worker.slow.send(Box::new(move || done(result.map(check))));
        });
    }
}

/// One query after the other beside those that are measured.
#[derive(Default)]
struct Background {
    begun: AtomicU64,
    latest: AtomicU64,
}

impl Background {
    fn begin(self: &Arc<Self>, worker: &Arc<Worker>, length: usize) {
        self.latest.store(u64::MAX, SeqCst);
        self.next(worker, length);
    }

    fn next(self: &Arc<Self>, worker: &Arc<Worker>, length: usize) {
        let number = self.begun.fetch_add(1, SeqCst);
        let (background, again) = (Arc::clone(self), Arc::clone(worker));
        worker.ask(BACKGROUND + u128::from(number), length, move |result| {
            if !matches!(result, Ok(true)) {
                tracing::error!("a background query was not right");
            }
            if number + 1 < background.latest.load(SeqCst) {
                background.next(&again, length);
            }
        });
    }

    fn end(&self, latest: u64) {
        self.latest.store(latest, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_was_right_has_a_latency_and_any_other_its_number_among_the_wrong_or_the_failed() {
        let mut results = Results::default();
        let took = Duration::from_micros(1_500);
        results.note(0, took, Ok(true));
        results.note(3, took, Ok(false));
        results.note(1, took, Err(GatherError::Repeated));
        results.note(2, 2 * took, Ok(true));
        results.note(4, took, Err(GatherError::Repeated));
        assert_eq!((&results.latencies_us[..], results.bad(false)), (&[1_500, 3_000][..], vec![3]));
        assert_eq!(results.bad(true), [1, 4]);
    }
}
