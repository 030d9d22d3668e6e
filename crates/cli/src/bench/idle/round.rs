//! One round: a server, the active connections alone, and the same beside the idle ones.

use std::{
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use roadstead_load::{
    generator::{Load, LoadReport, Mode},
    machine::pin,
    process::{cpu_time, descriptors, private_bytes},
};

use super::{args::Args, crowd::Crowd};
use crate::{echo_server::EchoServer, outcome::Result, signals};

/// Bytes of a message.
pub(super) const SIZE: usize = 128;
/// Work that no figure is taken from.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long the server may take to notice that connections have come, or gone.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who has opened and closed nothing for so long has noticed.
const QUIET: Duration = Duration::from_millis(100);
/// No connection is silent for longer than it may be.
const FOR_EVER: &str = "1000000";

/// What was measured of one server.
#[derive(Debug, Serialize)]
pub(super) struct Round {
    pub(super) alone: Window,
    pub(super) beside: Window,
    pub(super) memory: Memory,
    /// Idle connections that did not get back what they sent.
    pub(super) wrong: u64,
    /// Idle connections that did not last.
    pub(super) lost: u64,
}

/// The active connections for some time.
#[derive(Debug, Serialize)]
pub(super) struct Window {
    #[serde(flatten)]
    pub(super) load: LoadReport,
    /// CPU time of the server for one message, without what it took to open connections.
    pub(super) cpu_us: f64,
}

/// Memory of the server that is its own, in bytes; without active connections.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// Before there are idle connections.
    pub(super) before: u64,
    /// They are open, and nothing was sent.
    pub(super) opened: u64,
    /// Each has had its bytes echoed, and the active ones have worked beside them.
    pub(super) echoed: u64,
    /// They are gone: what the server and its allocator keep for the next.
    pub(super) closed: u64,
}

/// Measures for twice `time`; none if a signal cut it short, as halves of different lengths cannot be compared.
pub(super) fn run(args: &Args, time: Duration) -> Result<Option<Round>> {
    let mut server = start(args)?;
    // Now, as a server that is held up may still have closed none of the active connections when it seems to be quiet.
    let quiet = settle(&server, 0)?;
    work(args, &server, WARM_UP)?;
    let alone = work(args, &server, time)?;
    if signals::interrupted() {
        return Ok(None);
    }
    settle(&server, 0)?;
    let before = private_bytes(server.pid())?;
    let mut crowd = Crowd::connect(server.address(), args.idle.into())?;
    settle(&server, quiet + usize::from(args.idle))?;
    let opened = private_bytes(server.pid())?;
    let wrong = crowd.echo();
    let beside = work(args, &server, time)?;
    let echoed = private_bytes(server.pid())?;
    let lost = crowd.lost()?;
    drop(crowd);
    settle(&server, 0)?;
    let closed = private_bytes(server.pid())?;
    server.stop()?;
    let whole = !signals::interrupted();
    Ok(whole.then_some(Round {
        alone,
        beside,
        memory: Memory { before, opened, echoed, closed },
        wrong,
        lost,
    }))
}

/// Starts a server, with a core of its own where there are two.
fn start(args: &Args) -> Result<EchoServer> {
    let connections = (args.idle + args.active + 64).to_string();
    let model = args.model.to_string();
    let options = ["--model", &model, "--connections", &connections, "--per-address", &connections]
        .into_iter()
        // What a model costs is compared, not how many processors it may use.
        .chain(["--loops", "1"])
        .chain(["--first-byte", FOR_EVER, "--idle", FOR_EVER]);
    // It keeps the cores that it was started on.
    let _pinned = if apart() { Some(pin(0)?) } else { None };
    EchoServer::start(&options.map(str::to_owned).collect::<Vec<_>>())
}

fn apart() -> bool {
    thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// Has the active connections work for some time.
fn work(args: &Args, server: &EchoServer, time: Duration) -> Result<Window> {
    let load = Load {
        connections: args.active.into(),
        size: SIZE,
        mode: Mode::ClosedFor(time),
        core: apart().then_some(1),
        ..Load::new(server.address())
    };
    // When the first is taken, all connections are open and at work; the last is taken before they are closed.
    let mut moments = Vec::new();
    let report = load.run(&mut |progress| {
        if moments.is_empty() || progress.fraction >= 1.0 {
            moments.push((progress.right, cpu_time(server.pid())));
        }
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let mut moments = moments.into_iter();
    let cpu_us = match (moments.next(), moments.next_back()) {
        (Some((before, start)), Some((after, end))) if after > before => {
            each_us(after - before, end?.saturating_sub(start?))
        }
        _ => f64::NAN,
    };
    Ok(Window { load: report, cpu_us })
}

/// What one of so many messages costs that cost so much together.
fn each_us(messages: u64, cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6 / messages as f64
}

/// Waits until the server has at least so many descriptors open, and opens and closes none any more: how many it has.
fn settle(server: &EchoServer, least: usize) -> Result<usize> {
    let start = Instant::now();
    let (mut open, mut since) = (0, start);
    loop {
        let now = descriptors(server.pid())?;
        if now != open {
            (open, since) = (now, Instant::now());
        }
        if open >= least && since.elapsed() > QUIET {
            return Ok(open);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("the server has {open} descriptors open, and should have {least}").into());
        }
        thread::sleep(QUIET / 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_a_message_is_in_microseconds() {
        assert_eq!(each_us(4, Duration::from_micros(10)), 2.5);
        assert_eq!(each_us(1_000, Duration::from_secs(2)), 2_000.0);
    }
}
