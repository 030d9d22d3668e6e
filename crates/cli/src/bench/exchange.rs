//! `roadstead bench exchange`: the strategies of the exchange on the same work.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use roadstead::exchange::Strategy;
use roadstead_load::{machine::Machine, measure::Recorder, process::cpu_time};

use super::{
    member::{Answer, Order},
    payload::HASH,
    report::{Report, Run},
};
use crate::{
    buffers::{self, Buffers},
    keys,
    numbers::{bytes, length, milliseconds, seconds, within},
    outcome::{Outcome, Result},
    output::Output,
    progress,
    roads::Roads,
    signals,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes of a message: every member sends one to each of the two others
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_value = "500,64KiB,10MiB", allow_hyphen_values = true, value_parser = size())]
    payload: Vec<usize>,
    /// Queries in flight, one run for each
    #[arg(long, value_name = "L,...", value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_parser = within(1..=256_u64))]
    levels: Vec<u64>,
    /// How messages travel: shared, per-query, pool:N, multiplexed
    #[arg(
        long,
        value_name = "S,...",
        value_delimiter = ',',
        default_value = "shared,per-query,pool:4,multiplexed"
    )]
    strategies: Vec<Strategy>,
    /// Delays between members, one way, made by relays; a plain number is milliseconds
    #[arg(long, value_name = "TIME,...", value_delimiter = ',', default_value = "0ms,5ms", allow_hyphen_values = true, value_parser = milliseconds)]
    peer_delay: Vec<Duration>,
    /// About how long each run takes; at least one query for each in flight is finished, however long that takes
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Exchange messages of this size all the time, beside those that are measured
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = size())]
    background: Option<usize>,
    /// What a small message may have before it on a multiplexed link: more is faster for large ones on long roads
    #[arg(long, value_name = "BYTES", default_value = "256KiB", allow_hyphen_values = true, value_parser = size())]
    window: usize,
    /// Loops of each member, over which its links are spread
    #[arg(long, value_name = "N", default_value = "1", value_parser = within(1..=1024_u64))]
    loops: u64,
    /// How long a member waits for the messages of the others; a query that takes longer has failed
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = length(0.001..=3600.0))]
    exchange_timeout: Duration,
    /// Bytes that the kernel may hold of each link, for sending and for receiving, such as 16MiB; said if it gives less
    /// [default: it sizes them to the road]
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = buffers::size())]
    socket_buffer: Option<usize>,
    /// Without TLS between the members
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    output: Output,
}

/// Bytes of a message, or of a window.
fn size() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    bytes(2 * HASH..=64 << 20)
}

/// Keys that are deleted with the measurement, however it ends.
fn passing_keys() -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("roadstead-keys-").tempdir()?;
    signals::doom(dir.path());
    keys::passing(dir.path())?;
    Ok(dir)
}

/// Queries of one run at most.
const MOST: u64 = 20_000;

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    args.output.check()?;
    signals::watch()?;
    let cells = args.peer_delay.len() * args.strategies.len() * args.payload.len() * args.levels.len();
    progress::announce(args.seconds.saturating_mul(cells as u32));
    let bar = progress::bar(cells as u64, "measuring");
    let keys = (!args.plain).then(passing_keys).transpose()?;
    let mut report = Report {
        machine: Machine::here(),
        tls: keys.is_some(),
        background_bytes: args.background,
        socket_buffers: None,
        runs: Vec::new(),
    };
    'all: for (delay, strategy) in
        args.peer_delay.iter().flat_map(|delay| args.strategies.iter().map(move |it| (*delay, *it)))
    {
        for &payload in &args.payload {
            let mut members =
                Members::start(strategy, delay, payload, keys.as_ref().map(TempDir::path), args)?;
            report.socket_buffers = members.buffers(args.socket_buffer);
            if let Some(length) = args.background {
                members.order(&Order::Begin { length })?;
            }
            for &level in &args.levels {
                if signals::interrupted() {
                    break 'all;
                }
                let run = members.measure(level, payload, args.seconds)?;
                report.runs.push(run);
                bar.inc(1);
            }
            members.end_background(args.background)?;
        }
    }
    bar.finish_and_clear();
    args.output.deliver(&report)
}

/// Three processes. Dropping it ends them.
struct Members {
    all: Vec<Process>,
    strategy: Strategy,
    delay: Duration,
    /// The number of the next query.
    next: u64,
    _roads: Roads,
}

struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Bytes of the buffers of its links, for sending and for receiving, if they were asked for.
    buffers: Option<[usize; 2]>,
}

impl Members {
    fn start(
        strategy: Strategy,
        delay: Duration,
        payload: usize,
        keys: Option<&Path>,
        args: &Args,
    ) -> Result<Self> {
        let roads = Roads::new(delay)?;
        let largest = payload.max(args.background.unwrap_or(0));
        let most = args.levels.iter().max().copied().unwrap_or(1);
        let start = |index: usize| {
            let mut arguments: Vec<OsString> = roads.arguments(index).map(OsString::from).into();
            arguments.extend(["--window".into(), args.window.to_string().into()]);
            arguments.extend(["--loops".into(), args.loops.to_string().into()]);
            let timeout = args.exchange_timeout.as_secs_f64().to_string();
            arguments.extend(["--exchange-timeout".into(), timeout.into()]);
            if let Some(size) = args.socket_buffer {
                arguments.extend(["--socket-buffer".into(), size.to_string().into()]);
            }
            if let Some(keys) = keys {
                arguments.extend(["--keys".into(), keys.join(format!("server-{}", index + 1)).into()]);
            }
            Process::start(index, strategy, largest, most, &arguments)
        };
        let all = (0..3).map(start).collect::<Result<Vec<_>>>()?;
        let mut members = Self { all, strategy, delay, next: 0, _roads: roads };
        // Connects, so that no run pays for it.
        members.cell(1, payload, 3)?;
        Ok(members)
    }

    /// What each has been given of the buffers that were asked for: all have the same kernel.
    fn buffers(&self, asked: Option<usize>) -> Option<Buffers> {
        let [send_bytes, receive_bytes] = self.all.first()?.buffers?;
        Some(Buffers { asked_bytes: asked?, send_bytes, receive_bytes })
    }

    fn order(&mut self, order: &Order) -> Result<Vec<Answer>> {
        self.all.iter_mut().try_for_each(|process| process.order(order))?;
        self.all.iter_mut().map(Process::answer).collect()
    }

    fn cell(&mut self, level: u64, length: usize, count: u64) -> Result<Vec<Answer>> {
        let first = self.next;
        self.next += count;
        self.order(&Order::Run { first, count, level, length })
    }

    fn measure(&mut self, level: u64, payload: usize, wanted: Duration) -> Result<Run> {
        let (mut cpu, mut count) = (self.cpu_time(), level.max(3));
        let mut answers = self.cell(level, payload, count)?;
        if let Some(enough) = enough(count, longest(&answers), wanted.as_secs_f64()) {
            (cpu, count) = (self.cpu_time(), enough.clamp(4 * level, MOST));
            answers = self.cell(level, payload, count)?;
        }
        Ok(Run {
            strategy: self.strategy.to_string(),
            payload_bytes: payload,
            delay_ms: self.delay.as_secs_f64() * 1e3,
            level,
            ..figures(&answers, count, self.cpu_time().saturating_sub(cpu))
        })
    }

    fn cpu_time(&self) -> Duration {
        self.all.iter().filter_map(|process| cpu_time(process.child.id()).ok()).sum()
    }

    /// All three end with the same query of the background, one that none of them is past.
    fn end_background(&mut self, background: Option<usize>) -> Result<()> {
        if background.is_some() {
            let begun = self.order(&Order::Latest)?.iter().map(|answer| answer.background).max();
            self.order(&Order::End { latest: begun.unwrap_or(0) + 2 })?;
        }
        Ok(())
    }
}

/// How many queries take as long as was wanted where so many took so long; none if those were long enough.
fn enough(count: u64, took: f64, wanted: f64) -> Option<u64> {
    let enough = (count as f64 * wanted / took) as u64;
    (enough > 4 * count).then_some(enough)
}

/// What the members' answers to an order of `count` queries come to together. A query that is wrong anywhere is wrong.
fn figures(answers: &[Answer], count: u64, cpu: Duration) -> Run {
    let union = |bad: fn(&Answer) -> &Vec<u64>| answers.iter().flat_map(bad).collect::<BTreeSet<_>>();
    let (wrong, failed) = (union(|it| &it.wrong), union(|it| &it.failed));
    let failed = failed.difference(&wrong).count() as u64;
    let right = count - wrong.len() as u64 - failed;
    let mut recorder = Recorder::new();
    for latency in answers.iter().flat_map(|it| &it.latencies_us) {
        recorder.record(Duration::from_micros(*latency));
    }
    let latency = recorder.latency();
    Run {
        right,
        wrong: wrong.len() as u64,
        failed,
        exchanges_per_s: right as f64 / longest(answers),
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        connections_opened: answers.iter().map(|it| it.connections_opened).sum(),
        most_ahead_bytes: answers.iter().map(|it| it.most_ahead).max().unwrap_or(0),
        cpu_ms: cpu.as_secs_f64() * 1e3 / count as f64,
        ..Run::default()
    }
}

fn longest(answers: &[Answer]) -> f64 {
    answers.iter().map(|answer| answer.seconds).fold(1e-6, f64::max)
}

impl Process {
    fn start(
        index: usize,
        strategy: Strategy,
        largest: usize,
        most: u64,
        arguments: &[OsString],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "member", "--id", &(index + 1).to_string()]);
        command.args(["--strategy", &strategy.to_string(), "--largest", &largest.to_string()]);
        command.args(["--most", &most.to_string(), "--with-parent", &std::process::id().to_string()]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C reaches us alone: a run that was begun is finished.
        let mut child = command.process_group(0).spawn()?;
        let (Some(orders), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a member without pipes".into());
        };
        let mut process = Self { child, orders, answers: BufReader::new(out), buffers: None };
        let mut line = String::new();
        process.answers.read_line(&mut line)?;
        let told = line.strip_prefix("ready").ok_or_else(|| format!("member {} did not start", index + 1))?;
        let sizes = told.split_whitespace().map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        process.buffers = sizes.try_into().ok();
        Ok(process)
    }

    fn order(&mut self, order: &Order) -> Result<()> {
        serde_json::to_writer(&mut self.orders, order)?;
        writeln!(self.orders)?;
        Ok(self.orders.flush()?)
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|error| format!("a member has ended: {error}").into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that would be lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_hold_two_hashes_at_least() {
        for (text, size) in [
            ("64", Some(64)),
            ("64B", Some(64)),
            ("1KiB", Some(1 << 10)),
            ("64 KiB", Some(64 << 10)),
            ("64MiB", Some(64 << 20)),
            ("67108864", Some(64 << 20)),
        ] {
            assert_eq!(self::size()(text).ok(), size, "{text}");
        }
        for odd in ["63", "0", "65MiB", "67108865", "1GiB", "KiB", "1.5KiB", "18446744073709551615MiB"] {
            assert!(size()(odd).unwrap_err().starts_with(&format!("`{odd}` is not a size")), "{odd}");
        }
    }

    fn answer(seconds: f64) -> Answer {
        Answer {
            latencies_us: Vec::new(),
            wrong: Vec::new(),
            failed: Vec::new(),
            seconds,
            connections_opened: 0,
            most_ahead: 0,
            background: 0,
        }
    }

    #[test]
    fn a_run_takes_as_long_as_the_member_that_took_longest_and_never_no_time() {
        assert_eq!(longest(&[answer(0.5), answer(2.0), answer(1.0)]), 2.0);
        assert_eq!(longest(&[answer(0.0)]), 1e-6);
    }

    #[test]
    fn a_run_is_done_again_with_as_many_queries_as_take_the_time_if_that_is_far_more() {
        assert_eq!(enough(10, 0.5, 20.0), Some(400));
        assert_eq!([enough(10, 1.0, 4.0), enough(10, 1.0, 4.2), enough(3, 2.0, 1.0)], [None, Some(42), None]);
    }

    #[test]
    fn a_query_is_right_if_it_is_at_all_three_and_is_counted_once_whatever_it_comes_to() {
        let (mut one, mut two, mut three) = (answer(1.0), answer(2.0), answer(0.5));
        (one.wrong, two.wrong) = (vec![3, 4], vec![4]);
        (one.failed, two.failed, three.failed) = (vec![5], vec![4, 5, 6], vec![3]);
        (one.connections_opened, two.connections_opened, three.connections_opened) = (1, 2, 4);
        (one.most_ahead, two.most_ahead, three.most_ahead) = (10, 30, 20);
        one.latencies_us = vec![1_000; 98];
        two.latencies_us = vec![1_000; 99];
        three.latencies_us = vec![80_000; 3];
        let run = figures(&[one, two, three], 10, Duration::from_millis(50));
        assert_eq!((run.right, run.wrong, run.failed), (6, 2, 2));
        assert_eq!((run.exchanges_per_s, run.cpu_ms), (3.0, 5.0));
        assert_eq!((run.connections_opened, run.most_ahead_bytes), (7, 30));
        let near = |found: f64, wanted: f64| (found / wanted - 1.0).abs() < 2e-3;
        assert!(near(run.p50_ms, 1.0) && near(run.p99_ms, 80.0), "{run:?}");
    }
}
