//! Requests and answers in frames: at once, by jobs, by tickets that come back in another order or never, and large.

use std::{
    collections::{HashMap, VecDeque},
    sync::mpsc,
    time::Duration,
};

use roadstead_proto::{
    Busy, Closed, Context, Done, Frame, Input, Job, JobId, Lost, Peer, Ready, Scope, Service, Session, Step,
    Ticket, frame::Fields, frame::Limits, frame::Parsed,
};
use roadstead_sim::{Cut, Failure, Report, Sim};

use super::{LIMIT, budget, noise, server};

/// What a request may ask for.
const NOW: u8 = 0;
const BIG: u8 = 1;
const JOB: u8 = 2;
const SLICES: u8 = 3;
/// The answer waits for a release, or the end.
const KEEP: u8 = 4;
const RELEASE: u8 = 5;
/// The ticket is dropped.
const LOSE: u8 = 6;
const ASKS: u8 = 7;
/// Answers of another kind than the request's.
const LOST: u8 = 20;
const BUSY: u8 = 21;
/// The field that numbers a request.
const ID: u8 = 1;

/// How much larger a big answer is than its request.
const TIMES: usize = 6;

fn answer(kind: u8, body: &[u8]) -> Vec<u8> {
    let backwards: Vec<u8> = body.iter().rev().copied().collect();
    if kind == BIG { backwards.repeat(TIMES) } else { backwards }
}

fn write(output: &mut roadstead_proto::Output, kind: u8, id: u64, body: Vec<u8>) {
    Frame::begin(output, kind, &Fields::new().number(ID, id), body.len());
    output.send(body);
}

pub(crate) struct Desk {
    /// Output above which a connection is not to be read from.
    high_water: usize,
}

impl Service for Desk {
    type Session = Clerk;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Clerk {
        Clerk { high_water: self.high_water, ..Clerk::default() }
    }
}

#[derive(Default)]
pub(crate) struct Clerk {
    high_water: usize,
    /// Requests whose answers are being made: kind and id.
    open: HashMap<JobId, (u8, u64)>,
    kept: Vec<(Ticket<Vec<u8>>, Vec<u8>)>,
    /// Answers that have no room yet.
    waiting: VecDeque<(u8, u64, Vec<u8>)>,
}

/// Turns a body around, a byte a slice.
struct Turning {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Job for Turning {
    type Reply = Vec<u8>;
    fn run(&mut self, slice: Duration) -> Step<Vec<u8>> {
        while let Some(byte) = self.from.pop() {
            self.to.push(byte);
            if slice < Duration::MAX && self.to.len().is_multiple_of(100) {
                return Step::More;
            }
        }
        Step::Done(std::mem::take(&mut self.to))
    }
}

impl Clerk {
    fn say(&mut self, kind: u8, id: u64, body: Vec<u8>, cx: &mut Context<'_, Self>) {
        self.waiting.push_back((kind, id, body));
        self.speak(cx);
    }

    fn speak(&mut self, cx: &mut Context<'_, Self>) {
        while let Some((kind, id, body)) = self.waiting.pop_front() {
            if cx.output().room() < body.len() + 64 {
                self.waiting.push_front((kind, id, body));
                return;
            }
            write(cx.output(), kind, id, body);
        }
    }

    fn release(&mut self) {
        while let Some((ticket, body)) = self.kept.pop() {
            ticket.finish(answer(KEEP, &body));
        }
    }

    fn later(&mut self, kind: u8, body: Vec<u8>, cx: &mut Context<'_, Self>) -> Result<JobId, Busy> {
        match kind {
            JOB => cx.run(body.len() as u64, move || answer(JOB, &body)),
            SLICES => cx.defer(1, Turning { from: body, to: Vec::new() }),
            _ => {
                let ticket = cx.ticket()?;
                let job = ticket.id();
                if kind == KEEP {
                    self.kept.push((ticket, body));
                }
                Ok(job)
            }
        }
    }
}

impl Session for Clerk {
    type Reply = Vec<u8>;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        assert!(cx.output().buffered() <= self.high_water, "input comes although the peer does not read");
        self.speak(cx);
        if !self.waiting.is_empty() {
            return Ok(());
        }
        let frame = match Frame::parse(input.bytes(), &Limits::default())? {
            Parsed::Frame(frame) => frame,
            Parsed::Need(count) => {
                input.need(count);
                return Ok(());
            }
        };
        let (kind, id, body) =
            (frame.kind, frame.number(ID).expect("a numbered request"), frame.body.to_vec());
        input.consume(frame.len());
        if kind == RELEASE {
            self.release();
        }
        if matches!(kind, JOB | SLICES | KEEP | LOSE) {
            match self.later(kind, body, cx) {
                Ok(job) => assert!(self.open.insert(job, (kind, id)).is_none()),
                Err(Busy) => self.say(BUSY, id, Vec::new(), cx),
            }
        } else {
            self.say(kind, id, answer(kind, &body), cx);
        }
        Ok(())
    }

    fn reply(&mut self, job: JobId, reply: Result<Vec<u8>, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let (kind, id) = self.open.remove(&job).expect("a reply to what was asked, once");
        match reply {
            Ok(body) => self.say(kind, id, body, cx),
            Err(Lost) => self.say(LOST, id, Vec::new(), cx),
        }
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.speak(cx);
        if why == Ready::Draining {
            self.release();
            cx.finish();
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.release();
        cx.finish();
        Ok(())
    }
}

/// What an asker knows when its connection is gone.
pub(crate) struct Asked {
    /// Where each request ended in the stream.
    ends: Vec<u64>,
    answered: Vec<bool>,
}

/// Sends requests, a few ahead of the answers, and checks each answer.
pub(crate) struct Asker {
    salt: u64,
    total: usize,
    ahead: usize,
    open: usize,
    asked: Asked,
    tell: mpsc::Sender<Asked>,
}

impl Asker {
    fn request(&self, id: u64) -> (u8, Vec<u8>) {
        // A kept answer may wait for a release that is yet to be asked for, so the last request is one.
        let last = id as usize + 1 == self.total;
        let kind = if last { RELEASE } else { NOW + (noise(self.salt, id) % u64::from(ASKS)) as u8 };
        let length = noise(self.salt, 1000 + id) % if kind == BIG { 200 } else { 300 };
        (kind, (0..length).map(|index| noise(self.salt, id << 16 | index) as u8).collect())
    }

    /// Asks as much as is allowed ahead of the answers. Never more than a connection with the smallest buffers may
    /// hold before it stops reading: two sides that each wait for the other to read would wait for ever.
    fn ask(&mut self, cx: &mut Context<'_, Self>) {
        while self.asked.ends.len() < self.total {
            let id = self.asked.ends.len() as u64;
            let (kind, body) = self.request(id);
            if self.open >= self.ahead && kind != RELEASE {
                break;
            }
            let before = cx.output().buffered();
            if before + body.len() + 32 > 512 {
                cx.wake_at(Some(cx.now() + Duration::from_millis(3)));
                break;
            }
            write(cx.output(), kind, id, body);
            let length = (cx.output().buffered() - before) as u64;
            self.asked.ends.push(self.asked.ends.last().unwrap_or(&0) + length);
            self.asked.answered.push(false);
            self.open += usize::from(kind != KEEP);
        }
        if self.asked.answered.len() == self.total && self.asked.answered.iter().all(|answered| *answered) {
            cx.finish();
        }
    }
}

impl Session for Asker {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened || why == Ready::Timer {
            self.ask(cx);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let frame = match Frame::parse(input.bytes(), &Limits::default())? {
            Parsed::Frame(frame) => frame,
            Parsed::Need(count) => {
                input.need(count);
                return Ok(());
            }
        };
        let id = frame.number(ID).expect("a numbered answer");
        let (kind, body) = self.request(id);
        match frame.kind {
            LOST => assert_eq!(kind, LOSE),
            BUSY => assert!(matches!(kind, JOB | SLICES | KEEP | LOSE)),
            other => {
                assert_eq!(other, kind);
                assert_ne!(other, LOSE);
                assert_eq!(frame.body, answer(kind, &body));
            }
        }
        assert!(!std::mem::replace(&mut self.asked.answered[id as usize], true), "{id} is answered twice");
        self.open -= usize::from(kind != KEEP);
        input.consume(frame.len());
        self.ask(cx);
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send(self.asked).unwrap();
    }
}

/// Runs askers against a desk, and checks that each answer that is due has come.
pub(crate) fn run(sim: Sim, drain_after: Option<Duration>) -> Result<Report, Failure> {
    let seed = sim.seed();
    let (tell, told) = mpsc::channel();
    let budget = budget(seed).jobs([2, 1000][(noise(seed, 9) % 2) as usize]);
    let desk = Desk { high_water: budget.buffer_each / 4 };
    let mut sim = sim.budget(budget).serve(server(), desk);
    if let Some(when) = drain_after {
        sim = sim.drain_after(when);
    }
    let clients = 1 + noise(seed, 10) % 2;
    for client in 0..clients {
        let total = 1 + noise(seed, 20 + client) as usize % 20;
        let ahead = 1 + noise(seed, 30 + client) as usize % 4;
        let asked = Asked { ends: Vec::new(), answered: Vec::new() };
        let tell = tell.clone();
        sim = sim.client(server(), Asker { salt: seed ^ client << 40, total, ahead, open: 0, asked, tell });
    }
    drop(tell);
    let report = sim.run(LIMIT)?;
    let asked: Vec<_> = told.iter().collect();
    assert_eq!(asked.len(), clients as usize, "every session hears of its end, once");
    if drain_after.is_some() {
        return Ok(report);
    }
    let cut = report.connections.iter().filter(|link| link.cut.is_some()).count();
    let whole =
        asked.iter().filter(|one| !one.answered.is_empty() && one.answered.iter().all(|answered| *answered));
    assert!(whole.count() + cut >= asked.len(), "an answer is missing although nothing was cut");
    if let ([link], [asked]) = (&report.connections[..], &asked[..])
        && link.cut == Some(Cut::HalfClosed { to_server: true })
    {
        let came = asked.ends.iter().filter(|end| **end <= link.up.arrived).count();
        let answered = asked.answered.iter().filter(|answered| **answered).count();
        assert_eq!(answered, came, "all that came before the end is answered");
    }
    Ok(report)
}
