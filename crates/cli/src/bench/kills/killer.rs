//! Kills a random process of the server now and then, and watches the others.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::Serialize;

use super::{
    census::{Census, Count},
    clients::{Clients, WHAT},
    control::Control,
    group::{self, LASTING},
};
use crate::{bench::dice::Dice, echo_server::EchoServer, outcome::Result, signals};

/// Between one kill and the next.
const PAUSE_MS: std::ops::Range<u64> = 100..300;
/// How often the processes are counted.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is asked whether a process is still.
const GLANCE: Duration = Duration::from_millis(1);
/// How long full strength is waited for at the end, and for a process to stop.
const PATIENCE: Duration = Duration::from_secs(20);
/// The dice of the clients have lower numbers.
const PART: u64 = 1 << 32;

/// What was seen of the server's processes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Watched {
    pub(super) kills: Vec<Kill>,
    /// Processes that were dead for a second and that nobody had joined.
    pub(super) lasting_zombies: usize,
}

/// The end of one process.
#[derive(Debug, Serialize)]
pub(super) struct Kill {
    /// Since the start.
    at_s: f64,
    /// Connections that it had.
    connections: usize,
    /// From the signal until the system had ended it.
    pub(super) ended_ms: f64,
    /// The same of the control; none if it was not ready.
    pub(super) control_ms: Option<f64>,
    /// From its end until as many processes lived as should, where that is known; none if that was not seen.
    pub(super) replaced_ms: Option<f64>,
    /// From its end until every client has been served after that; none if that was not seen.
    pub(super) back_ms: Option<f64>,
}

pub(super) struct Killer<'a> {
    server: &'a EchoServer,
    clients: &'a Clients,
    /// How many processes there should be; none if that depends on who comes.
    workers: Option<usize>,
    dice: Dice,
    census: Census,
    control: Option<Control>,
    /// The controls that were killed, by the numbers of the kills.
    dying: Vec<(usize, JoinHandle<io::Result<f64>>)>,
    start: Instant,
    watched: Watched,
    /// Kills after which not everything has been seen to be there again, by their numbers.
    open: Vec<(usize, Instant)>,
    /// Since when as many processes live as should.
    complete: Option<Instant>,
    /// Since when the dead are dead.
    dead: HashMap<u32, Instant>,
    lasting: HashSet<u32>,
}

impl<'a> Killer<'a> {
    pub(super) fn new(
        server: &'a EchoServer,
        clients: &'a Clients,
        workers: Option<usize>,
        seed: u64,
    ) -> Self {
        Self {
            server,
            clients,
            workers,
            dice: Dice::new(WHAT, seed, PART),
            census: Census::new(server.pid()),
            control: None,
            dying: Vec::new(),
            start: Instant::now(),
            watched: Watched::default(),
            open: Vec::new(),
            complete: None,
            dead: HashMap::new(),
            lasting: HashSet::new(),
        }
    }

    /// Kills for so long, or until Ctrl-C, and waits until all is as before.
    pub(super) fn run(mut self, time: Duration, bar: &ProgressBar) -> Result<Watched> {
        let end = self.start + time;
        let mut due = self.start + self.pause();
        loop {
            let now = Instant::now();
            bar.set_position((now - self.start).as_millis() as u64);
            let over = now >= end || signals::interrupted();
            let children = self.look()?;
            if over && self.open.is_empty() || now >= end + PATIENCE {
                break;
            }
            // It may take as long to begin as to end; not while somebody is waited for.
            if self.control.is_none() && self.open.is_empty() {
                self.control = Some(Control::begin()?);
            }
            if !over && now >= due && !children.is_empty() {
                let victim = children[self.dice.below(children.len() as u64) as usize];
                self.kill(victim)?;
                due = Instant::now() + self.pause();
            }
            thread::sleep(LOOK);
        }
        self.watched.lasting_zombies = self.lasting.len();
        for (number, control) in self.dying {
            let ended = control.join().map_err(|_| "a control was not waited for")?;
            self.watched.kills[number].control_ms = Some(ended?);
        }
        Ok(self.watched)
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(PAUSE_MS.start + self.dice.below(PAUSE_MS.end - PAUSE_MS.start))
    }

    /// Takes note of how things are; answers the children that live.
    fn look(&mut self) -> Result<Vec<u32>> {
        let Some(Count { live, dead }) = self.census.take()? else {
            return Err("the server has ended, and not only some of its processes".into());
        };
        let now = Instant::now();
        self.dead.retain(|pid, _| dead.contains(pid));
        for pid in dead {
            let since = *self.dead.entry(pid).or_insert(now);
            if now - since > LASTING {
                self.lasting.insert(pid);
            }
        }
        let complete = self.workers.is_none_or(|workers| live.len() == workers);
        self.complete = complete.then(|| self.complete.unwrap_or(now));
        if self.complete.is_some() && self.workers.is_some() {
            for (number, at) in &self.open {
                self.watched.kills[*number].replaced_ms.get_or_insert((now - *at).as_secs_f64() * 1e3);
            }
        }
        if self.complete.is_some_and(|since| self.clients.all_served_since(since)) {
            for (number, at) in self.open.drain(..) {
                self.watched.kills[number].back_ms = Some((now - at).as_secs_f64() * 1e3);
            }
        }
        Ok(live)
    }

    /// Kills a child, unless it ends by itself meanwhile.
    fn kill(&mut self, victim: u32) -> Result<()> {
        // The number may be another process's by now. Once it is open it stays this one's.
        let Some(pid) = Pid::from_raw(victim.cast_signed()) else { return Ok(()) };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        let server = self.server.pid();
        if group::look(victim).is_none_or(|(member, group)| (member.parent, group) != (server, server)) {
            return Ok(());
        }
        // It may end at any time before it is stopped.
        if pidfd_send_signal(&process, Signal::STOP).is_err() {
            return Ok(());
        }
        wait_until(|| group::is_still(victim));
        let ports = group::connected(victim, self.server.address().port())?;
        self.clients.doom(ports.iter().copied());
        let lives = || group::look(victim).is_some_and(|(member, _)| !member.is_zombie());
        if !lives() {
            return Ok(());
        }
        let at = Instant::now();
        if pidfd_send_signal(&process, Signal::KILL).is_err() {
            return Ok(());
        }
        let number = self.watched.kills.len();
        self.dying.extend(self.control.take().map(|control| (number, control.kill())));
        // Until it is dead it would count as one that is there. Who looks at it meanwhile keeps it from dying.
        await_end(&process)?;
        let ended = Instant::now();
        self.complete = None;
        self.open.push((number, ended));
        self.watched.kills.push(Kill {
            at_s: (at - self.start).as_secs_f64(),
            connections: ports.len(),
            ended_ms: (ended - at).as_secs_f64() * 1e3,
            control_ms: None,
            replaced_ms: None,
            back_ms: None,
        });
        Ok(())
    }
}

/// Waits until the process has ended: pidfd_open(2).
fn await_end(process: &OwnedFd) -> Result<()> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    retry_on_intr(|| poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience)))?;
    Ok(())
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() && Instant::now() < deadline {
        thread::sleep(GLANCE);
    }
}

#[cfg(test)]
impl Kill {
    /// One of a process that the system has ended in the first time, a millisecond after its control; that was replaced
    /// in the second, and after which all were served in the third.
    pub(super) fn of([ended, replaced_ms, back_ms]: [Option<f64>; 3]) -> Self {
        let ended_ms = ended.unwrap_or(f64::NAN);
        Self { at_s: 0.0, connections: 0, ended_ms, control_ms: Some(ended_ms - 1.0), replaced_ms, back_ms }
    }
}
