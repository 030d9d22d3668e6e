//! One round: a real server whose sessions put the jobs of the schedule into its request queue when they are due.
//!
//! The jobs come by timers in the server's loop and not as requests of a client. The workers keep every core busy, so a
//! client would mostly measure how long the system takes to wake it and the loop for its sake. For the same reason a
//! job's time ends in the thread that finishes it. Latency counts from when a job should have come (an open loop), so
//! a loop that is late makes the jobs late and not fewer.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use roadstead::{
    Budget, Context, Done, Input, JobId, Lost, Peer, Queue, Ready, Scope, Server, Service, Session,
};
use roadstead_load::measure::Recorder;

use super::{
    schedule::{Arrival, Size},
    work::{Finished, Pace, Work},
};
use crate::{outcome::Result, signals};

/// How long jobs may take beyond the end of the schedule before they count as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the last connection to the first arrival.
const LEAD: Duration = Duration::from_millis(20);
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Nothing is sent in a round, and no connection is idle for that.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// What a round came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) begun: u64,
    pub(super) right: u64,
    pub(super) wrong: u64,
    pub(super) lost: u64,
    pub(super) short: Recorder,
    pub(super) long: Recorder,
    /// From when a job should have come to when the loop has deferred it.
    pub(super) late: Recorder,
    /// Processor time of all jobs.
    pub(super) cpu: Duration,
    /// How long all slices took together.
    pub(super) ran: Duration,
    /// From the first arrival to the end of the last job.
    pub(super) wall: Duration,
    /// No more jobs are to come.
    pub(super) over: bool,
}

impl Tally {
    fn ended(&self) -> u64 {
        self.right + self.wrong + self.lost
    }

    fn note(&mut self, start: Instant, reply: Result<Finished, Lost>) {
        let Ok(finished) = reply else {
            self.lost += 1;
            return;
        };
        match finished.right {
            true => self.right += 1,
            false => self.wrong += 1,
        }
        match finished.size {
            Size::Short => self.short.record(finished.took),
            Size::Long => self.long.record(finished.took),
        }
        self.cpu += finished.cpu;
        self.ran += finished.ran;
        self.wall = self.wall.max(finished.at.saturating_duration_since(start));
    }
}

/// Runs one schedule with one discipline. After Ctrl-C no more jobs come, and those under way are finished.
pub(super) fn run(queue: Queue, workers: u16, pace: &Arc<Pace>, lines: Vec<Vec<Arrival>>) -> Result<Tally> {
    let (count, connections) = (lines.iter().map(Vec::len).sum::<usize>(), lines.len());
    let length = lines.iter().filter_map(|line| line.last()).map(|last| last.at).max().unwrap_or_default();
    let round = Arc::new(Round {
        pace: Arc::clone(pace),
        lines,
        taken: AtomicUsize::new(0),
        start: OnceLock::new(),
        tally: Mutex::default(),
    });
    let budget = Budget::default().jobs(count).first_byte(FOR_EVER).idle(FOR_EVER);
    let server = Server::new(Arrivals(Arc::clone(&round)))
        .bind("127.0.0.1:0")
        .loops(1)
        .workers(workers.into())
        .queue(queue)
        .budget(budget)
        .start()?;
    let connect = |_| TcpStream::connect(server.addresses()[0]);
    let mut clients = (0..connections).map(connect).collect::<Result<Vec<_>, _>>()?;
    let start = *round.start.get_or_init(|| Instant::now() + LEAD);
    clients.iter_mut().try_for_each(|client| client.write_all(b"!"))?;
    loop {
        thread::sleep(LOOK);
        let mut tally = round.tally();
        tally.over |= signals::interrupted() || tally.begun == count as u64;
        if tally.over && tally.ended() == tally.begun || start.elapsed() > length + PATIENCE {
            break;
        }
    }
    let mut tally = std::mem::take(&mut *round.tally());
    let expected = if tally.over { tally.begun } else { count as u64 };
    tally.lost = expected - tally.right - tally.wrong;
    Ok(tally)
}

struct Round {
    pace: Arc<Pace>,
    /// What each connection has to bring.
    lines: Vec<Vec<Arrival>>,
    /// Lines that have a connection.
    taken: AtomicUsize,
    start: OnceLock<Instant>,
    tally: Mutex<Tally>,
}

impl Round {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Arrivals(Arc<Round>);

impl Service for Arrivals {
    type Session = Line;
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> Line {
        let line = self.0.taken.fetch_add(1, Relaxed);
        Line { round: Arc::clone(&self.0), line, next: 0 }
    }
}

/// One connection's part of the schedule.
struct Line {
    round: Arc<Round>,
    line: usize,
    next: usize,
}

impl Line {
    /// Defers all jobs that are due, and waits for the next.
    fn bring(&mut self, cx: &mut Context<'_, Self>) {
        let (Some(start), Some(line)) = (self.round.start.get(), self.round.lines.get(self.line)) else {
            return;
        };
        while let Some(arrival) = line.get(self.next) {
            let due = *start + arrival.at;
            let now = Instant::now();
            let wait = due.saturating_duration_since(now);
            if !wait.is_zero() {
                return cx.wake_at(Some(cx.now() + wait));
            }
            let mut tally = self.round.tally();
            if tally.over {
                return;
            }
            tally.begun += 1;
            tally.late.record(now.saturating_duration_since(due));
            drop(tally);
            self.next += 1;
            let work = Work::new(Arc::clone(&self.round.pace), arrival.size, due);
            if cx.defer(arrival.size.time().as_micros() as u64, work).is_err() {
                self.round.tally().lost += 1;
            }
        }
    }
}

impl Session for Line {
    type Reply = Finished;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(input.bytes().len());
        self.bring(cx);
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Timer {
            self.bring(cx);
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<Finished, Lost>, _: &mut Context<'_, Self>) -> Done {
        if let Some(start) = self.round.start.get() {
            self.round.tally().note(*start, reply);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Vec<Arrival>> {
        let arrival = |number: u64| {
            let size = if number % 4 == 3 { Size::Long } else { Size::Short };
            Arrival { at: Duration::from_micros(300 * number), size }
        };
        vec![(0..8).map(arrival).collect(), (0..4).map(arrival).collect(), Vec::new()]
    }

    #[test]
    fn a_job_adds_its_own_times_and_a_lost_one_none() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let finished = |size, right, at_ms, took_ms| Finished {
            size,
            right,
            took: Duration::from_millis(took_ms),
            at: start + Duration::from_millis(at_ms),
            cpu: Duration::from_millis(3),
            ran: Duration::from_millis(5),
        };
        tally.note(start, Ok(finished(Size::Long, true, 90, 40)));
        tally.note(start, Ok(finished(Size::Short, false, 70, 20)));
        tally.note(start, Err(Lost));
        assert_eq!((tally.right, tally.wrong, tally.lost, tally.ended()), (1, 1, 1, 3));
        assert_eq!([&tally.short, &tally.long, &tally.late].map(Recorder::count), [1, 1, 0]);
        assert_eq!((tally.short.latency().mean_ms, tally.long.latency().mean_ms), (20.0, 40.0));
        assert_eq!([tally.cpu, tally.ran, tally.wall], [6, 10, 90].map(Duration::from_millis));
    }

    #[test]
    fn every_job_of_every_connection_is_counted_once() {
        let pace = Arc::new(Pace::measure(1).unwrap());
        for queue in Queue::ALL {
            let tally = run(queue, 2, &pace, lines()).unwrap();
            assert_eq!((tally.begun, tally.right, tally.wrong, tally.lost), (12, 12, 0, 0), "{queue}");
            assert_eq!((tally.short.count(), tally.long.count(), tally.late.count()), (9, 3, 12));
            assert!(tally.wall >= Duration::from_micros(2100) && tally.cpu > Duration::ZERO);
        }
    }

    #[test]
    fn work_that_comes_to_something_else_is_wrong() {
        let pace = Arc::new(Pace::broken());
        let tally = run(Queue::Mlfq, 1, &pace, lines()).unwrap();
        assert_eq!((tally.begun, tally.right, tally.wrong, tally.lost), (12, 0, 12, 0));
    }

    #[test]
    fn a_round_without_jobs_is_over_at_once() {
        let tally = run(Queue::Fcfs, 1, &Arc::new(Pace::broken()), vec![Vec::new(); 2]).unwrap();
        assert_eq!((tally.begun, tally.lost), (0, 0));
    }
}
