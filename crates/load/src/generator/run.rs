//! The loop of the load generator: one thread waits for all connections, and answers at once.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::connect::Opened;
use super::fault::Fault;
use super::figures::{CPU_SHARE_MAX, CPU_SHARE_TIME, LoadReport, Progress, per_second};
use super::load::{Load, LoadError, Mode};
use super::pattern::{CHUNK, Pattern};
use super::plan::Plan;
use super::stream::Stream;
use super::waiting::{EVENTS, Waiting, nanoseconds, tick};
use super::wire::Wire;
use crate::{measure::Recorder, process::thread_cpu_time};

/// A connection that carries messages.
struct Active {
    wire: Wire,
    stream: Stream,
    /// Whether the system is asked to say when there is room to send.
    wants_room: bool,
    /// When the oldest message in flight began to be waited for.
    waiting_since: u64,
}

/// What has happened so far.
#[derive(Default)]
struct Tally {
    right: u64,
    wrong: u64,
    failures: BTreeMap<Fault, u64>,
    lost: BTreeMap<Fault, u64>,
    recorder: Recorder,
    in_flight: u64,
    last_answer: u64,
}

impl Tally {
    fn fail(&mut self, fault: Fault, messages: u64) {
        if messages > 0 {
            *self.failures.entry(fault).or_default() += messages;
        }
    }

    fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// A running load. All times are nanoseconds since it was started.
pub(super) struct Run<'l> {
    load: &'l Load,
    plan: Plan,
    pattern: Pattern,
    waiting: Waiting,
    /// Messages of the open loop that have become due.
    released: u64,
    active: Vec<Option<Active>>,
    alive: usize,
    /// Their tokens follow those of the active ones.
    idle: Vec<Option<Wire>>,
    connected: usize,
    connect_errors: BTreeMap<Fault, u64>,
    buffer: Box<[u8]>,
    tally: Tally,
    /// When the caller had enough.
    stopped: Option<u64>,
}

impl<'l> Run<'l> {
    pub(super) fn new(load: &'l Load, opened: Opened) -> Result<Self, LoadError> {
        let waiting = Waiting::new()?;
        for (token, socket) in opened.active.iter().chain(&opened.idle).enumerate() {
            waiting.watch(socket, token as u64)?;
        }
        let connected = opened.active.len() + opened.idle.len();
        let active: Vec<_> = opened
            .active
            .into_iter()
            .enumerate()
            .map(|(index, wire)| {
                Some(Active {
                    wire,
                    stream: Stream::new(index, load.size, load.depth),
                    wants_room: false,
                    waiting_since: 0,
                })
            })
            .collect();
        Ok(Self {
            load,
            plan: Plan::new(load.mode, active.len()),
            pattern: Pattern::new(),
            waiting,
            released: 0,
            alive: active.len(),
            active,
            idle: opened.idle.into_iter().map(Some).collect(),
            connected,
            connect_errors: opened.errors,
            buffer: vec![0; CHUNK].into_boxed_slice(),
            tally: Tally::default(),
            stopped: None,
        })
    }

    /// Runs to the end of the plan, or until nothing is left that could go on.
    pub(super) fn run(
        mut self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<LoadReport, LoadError> {
        let mut events = Vec::with_capacity(EVENTS);
        let tick = tick(self.load.timeout);
        let cpu = thread_cpu_time();
        self.waiting.started = Instant::now();
        let mut next_tick = tick;
        if self.plan.due(0).is_none() {
            for index in 0..self.active.len() {
                let now = self.waiting.now();
                self.send(index, now)?;
            }
        }
        loop {
            let now = self.waiting.now();
            self.release(now)?;
            if now >= next_tick {
                next_tick = now + tick;
                self.drop_unanswered(now, nanoseconds(self.load.timeout));
                if progress(&self.progress(now)).is_break() {
                    self.stopped.get_or_insert(now);
                }
            }
            if self.is_over(now) {
                break;
            }
            self.wait(&mut events, next_tick.saturating_sub(now))?;
            for event in events.drain(..) {
                self.handle(event)?;
            }
        }
        let elapsed = self.waiting.now();
        let cpu = thread_cpu_time().saturating_sub(cpu);
        // It is over, whatever is answered.
        let _ = progress(&self.progress(elapsed));
        Ok(self.report(elapsed, cpu))
    }

    fn is_over(&self, now: u64) -> bool {
        let all_sent = self.stopped.is_some() || self.plan.is_over(now);
        let done = all_sent && self.tally.in_flight == 0;
        let too_late =
            self.end().is_some_and(|end| now >= end.saturating_add(nanoseconds(self.load.timeout)));
        done || too_late || self.alive == 0
    }

    /// When no further message is due; `None` where no time is planned.
    fn end(&self) -> Option<u64> {
        self.stopped.or_else(|| self.plan.end())
    }

    /// Waits until `tick` or the end.
    fn wait(&self, events: &mut Vec<epoll::Event>, tick: u64) -> Result<(), LoadError> {
        let until_end = self.end().map_or(u64::MAX, |end| match end.saturating_sub(self.waiting.now()) {
            0 => u64::MAX,
            left => left,
        });
        self.waiting.wait(events, tick.min(until_end))
    }

    fn handle(&mut self, event: epoll::Event) -> Result<(), LoadError> {
        // Copied out: the system's structure is packed.
        let (token, flags) = (event.data.u64(), event.flags);
        let index = token as usize;
        if index >= self.active.len() {
            self.look_at_idle(index - self.active.len());
            return Ok(());
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            self.receive(index);
        }
        let now = self.waiting.now();
        self.send(index, now)
    }

    fn receive(&mut self, index: usize) {
        let Some(active) = &mut self.active[index] else {
            return;
        };
        let fault = match active.wire.read(&mut self.buffer) {
            Ok(0) => Some(Fault::Closed),
            Ok(count) => {
                let now = self.waiting.now();
                let tally = &mut self.tally;
                let waiting_since = &mut active.waiting_since;
                active
                    .stream
                    .receive(&self.pattern, &self.buffer[..count], now, |answer| {
                        tally.in_flight -= 1;
                        tally.last_answer = now;
                        *waiting_since = now;
                        if answer.right {
                            tally.right += 1;
                            tally.recorder.record_ns(answer.latency);
                        } else {
                            tally.wrong += 1;
                        }
                    })
                    .err()
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => None,
                _ => Some(Fault::from(&error)),
            },
        };
        if let Some(fault) = fault {
            self.lose(index, fault);
        }
    }

    /// Begins the messages that may be in flight on this connection, and sends what the system takes.
    fn send(&mut self, index: usize, now: u64) -> Result<(), LoadError> {
        let Some(active) = &mut self.active[index] else {
            return Ok(());
        };
        let stream = &mut active.stream;
        if stream.in_flight() == 0 {
            active.waiting_since = now;
        }
        while self.stopped.is_none()
            && stream.in_flight() < self.load.depth
            && let Some(since) = self.plan.take(index, stream.issued(), now)
        {
            stream.issue(since);
            self.tally.in_flight += 1;
        }
        let wants_room = loop {
            let bytes = stream.unsent(&self.pattern);
            let sent =
                if bytes.is_empty() { active.wire.flush().map(|()| 0) } else { active.wire.write(bytes) };
            match sent {
                Ok(0) => break false,
                Ok(count) => stream.advance(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break true,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        self.lose(index, Fault::from(&error));
                        return Ok(());
                    }
                },
            }
        };
        if wants_room != active.wants_room {
            active.wants_room = wants_room;
            self.waiting.watch_room(&active.wire, index as u64, wants_room)?;
        }
        Ok(())
    }

    /// Sends the messages of the open loop that have become due, and sets the timer to the next one.
    fn release(&mut self, now: u64) -> Result<(), LoadError> {
        let width = self.active.len() as u64;
        // One visit serves all that is due on a connection, so after a stall no one is visited twice.
        let mut visits = 0;
        while let Some(due) = self.plan.due(self.released) {
            if due > now {
                return self.waiting.set_timer(due, now);
            }
            if visits < width {
                self.send((self.released % width) as usize, now)?;
                visits += 1;
            }
            self.released += 1;
        }
        Ok(())
    }

    /// Gives up connections whose oldest message in flight has waited for `timeout`.
    fn drop_unanswered(&mut self, now: u64, timeout: u64) {
        for index in 0..self.active.len() {
            let overdue = self.active[index].as_ref().is_some_and(|active| {
                active.stream.in_flight() > 0 && now.saturating_sub(active.waiting_since) >= timeout
            });
            if overdue {
                self.lose(index, Fault::TimedOut);
            }
        }
    }

    fn lose(&mut self, index: usize, fault: Fault) {
        // Dropping the wire closes it, which also takes it out of epoll.
        let Some(active) = self.active[index].take() else {
            return;
        };
        let unanswered = active.stream.in_flight() as u64;
        self.tally.in_flight -= unanswered;
        self.tally.fail(fault, unanswered);
        let unsent = self.plan.forfeit(index, active.stream.issued());
        if self.stopped.is_none() {
            self.tally.fail(Fault::Unsent, unsent);
        }
        *self.tally.lost.entry(fault).or_default() += 1;
        self.alive -= 1;
    }

    /// A silent connection that has something to tell is one that is lost.
    fn look_at_idle(&mut self, index: usize) {
        let Some(socket) = &mut self.idle[index] else {
            return;
        };
        let fault = match socket.read(&mut self.buffer[..1]) {
            Ok(0) => Fault::Closed,
            Ok(_) => Fault::Unasked,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return;
            }
            Err(error) => Fault::from(&error),
        };
        self.idle[index] = None;
        *self.tally.lost.entry(fault).or_default() += 1;
    }

    fn progress(&self, now: u64) -> Progress {
        Progress {
            elapsed: Duration::from_nanos(now),
            fraction: self.plan.fraction(now),
            right: self.tally.right,
            wrong: self.tally.wrong,
            failed: self.tally.failed(),
        }
    }

    fn report(mut self, elapsed: u64, cpu: Duration) -> LoadReport {
        self.drop_unanswered(elapsed, 0);
        if self.stopped.is_none() {
            self.tally.fail(Fault::Unsent, self.plan.left());
        }
        // Waiting for those that never answer is no part of what the others needed.
        let planned = self.end().unwrap_or(elapsed);
        let wall = Duration::from_nanos(elapsed.min(planned.max(self.tally.last_answer)));
        let (load, tally) = (self.load, self.tally);
        let client_cpu_share = cpu.as_secs_f64() / Duration::from_nanos(elapsed).as_secs_f64();
        LoadReport {
            target: load.target.clone(),
            kind: match load.mode {
                Mode::ClosedFor(_) | Mode::ClosedCount(_) => "closed",
                Mode::Open { .. } => "open",
            },
            rate: match load.mode {
                Mode::Open { per_second, .. } => Some(per_second),
                _ => None,
            },
            connections: load.connections,
            idle: load.idle,
            layered: load.layers.is_some(),
            depth: load.depth,
            size: load.size,
            connected: self.connected,
            connect_errors: self.connect_errors,
            right: tally.right,
            wrong: tally.wrong,
            failed: tally.failed(),
            seconds: wall.as_secs_f64(),
            messages_per_second: per_second(tally.right, wall),
            latency: tally.recorder.latency(),
            overlap: tally.recorder.overlap(wall),
            client_cpu_share,
            client_is_limit: client_cpu_share >= CPU_SHARE_MAX && wall >= CPU_SHARE_TIME,
            lost: tally.lost,
            failures: tally.failures,
        }
    }
}
