//! A desk that does what each frame asks of it: see [`roadstead_conformance::asks`].

use std::{
    collections::HashMap,
    io::{self, Write},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use roadstead::{
    Blob, Busy, Close, Closed, Context, Done, File, Frame, Input, Job, JobId, Lost, Peer, Ready, Scope,
    Service, Session, Step, Ticket,
    frame::{Fields, Limits, Parsed},
    signals,
};
use roadstead_conformance::{
    asks::{
        ANSWER, BOMB, BUSY, DROP, DRUDGE, FILE, FINISH, HOLD, HUSH, JOB, LATER, LOST, MADE_UP, PANIC,
        PANIC_JOB, PROGRAM, REFUSE, SLEEP, SLICES, STAY, TOIL,
    },
    client::{pattern, pattern_at},
};

use crate::say;

/// Each connection has its own tickets, so that all goes as well where each has its own process.
pub(crate) struct Desk {
    file: Arc<dyn Blob>,
    made_up: Arc<dyn Blob>,
}

/// A file of so many bytes that the system knows nothing of.
struct MadeUp(usize);

impl Blob for MadeUp {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        let places = offset as usize..self.0;
        let read = part.iter_mut().zip(places).map(|(byte, place)| *byte = pattern_at(place));
        Ok(read.count())
    }
}

impl Desk {
    /// One with a file of so many bytes.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&pattern(bytes))?;
        Ok(Self { file: Arc::new(File::from(file)), made_up: Arc::new(MadeUp(bytes)) })
    }
}

impl Service for Desk {
    type Session = DeskSession;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: &Peer) -> DeskSession {
        DeskSession {
            file: Arc::clone(&self.file),
            made_up: Arc::clone(&self.made_up),
            kinds: HashMap::new(),
            held: Vec::new(),
            stays: false,
            draining: false,
            hearing: None,
        }
    }
}

pub(crate) struct DeskSession {
    file: Arc<dyn Blob>,
    made_up: Arc<dyn Blob>,
    /// What was asked by those who wait for a reply.
    kinds: HashMap<JobId, u8>,
    held: Vec<Option<Ticket<u64>>>,
    stays: bool,
    draining: bool,
    hearing: Option<Hearing>,
}

/// What comes after the desk has said all.
struct Hearing {
    from: Duration,
    heard: usize,
}

impl Hearing {
    fn hear(&mut self, input: &mut Input<'_>, now: Duration) -> Done {
        if now < self.from {
            return Ok(());
        }
        if input.bytes().iter().zip(self.heard..).any(|(&byte, place)| byte != pattern_at(place)) {
            return Err(Close::violation("this is not what was to come"));
        }
        self.heard += input.len();
        input.consume(usize::MAX);
        Ok(())
    }
}

impl DeskSession {
    fn serve(&mut self, frame: &Frame<'_>, cx: &mut Context<'_, Self>) -> Done {
        let n = frame.number(1).unwrap_or(0);
        let deferred = match frame.kind {
            JOB => cx.run(n, move || n),
            TOIL => cx.run(n, move || toil(n)),
            PROGRAM => {
                let unblocked = n > 0;
                let of_the_session = inherited(unblocked);
                cx.run(n, move || of_the_session | inherited(unblocked))
            }
            SLICES => cx.defer(n, Slices(n)),
            PANIC_JOB => cx.run(0, || panic!("a job that is meant to panic")),
            BOMB => cx.defer(n, Bomb(n)),
            HOLD => self.hold(cx),
            LATER => later(cx, n),
            kind => return self.answer(kind, n, frame.body, cx),
        };
        match deferred {
            Ok(id) => drop(self.kinds.insert(id, frame.kind)),
            Err(Busy) => Frame::send(cx.output(), BUSY, &n.to_le_bytes()),
        }
        Ok(())
    }

    fn hold(&mut self, cx: &mut Context<'_, Self>) -> Result<JobId, Busy> {
        let ticket = cx.ticket()?;
        let id = ticket.id();
        self.held.push(Some(ticket));
        Ok(id)
    }

    fn answer(&mut self, kind: u8, n: u64, body: &[u8], cx: &mut Context<'_, Self>) -> Done {
        self.stays |= kind == STAY;
        match kind {
            FINISH => self.held(n)?.finish(n),
            DROP => drop(self.held(n)?),
            DRUDGE => cx.submit(n, Drudgery(n)),
            ANSWER => Frame::send(cx.output(), ANSWER, &vec![b'a'; n as usize]),
            FILE | MADE_UP => {
                let file = if kind == FILE { &self.file } else { &self.made_up };
                Frame::begin(cx.output(), kind, &Fields::new(), n as usize);
                cx.output().file(Arc::clone(file), 0, n);
            }
            SLEEP => {
                thread::sleep(Duration::from_millis(n));
                Frame::send(cx.output(), SLEEP, body);
            }
            HUSH => {
                let from = cx.now() + Duration::from_millis(n);
                self.hearing = Some(Hearing { from, heard: 0 });
                cx.wake_at(Some(from));
                cx.finish_sending();
            }
            PANIC => panic!("a session that is meant to panic"),
            REFUSE => {
                Frame::send(cx.output(), REFUSE, b"go away");
                return Err(Close::violation("refused"));
            }
            _ => Frame::send(cx.output(), kind, body),
        }
        Ok(())
    }

    fn held(&mut self, number: u64) -> Result<Ticket<u64>, Close> {
        let held = self.held.get_mut(number as usize).and_then(Option::take);
        held.ok_or_else(|| Close::violation("no such ticket is held"))
    }
}

fn toil(millis: u64) -> u64 {
    say::say("toils");
    thread::sleep(Duration::from_millis(millis));
    millis
}

/// The signals that a program which is started here has inherited as blocked or ignored: proc(5). All if that cannot be
/// learnt.
fn inherited(unblocked: bool) -> u64 {
    let mut command = Command::new("cat");
    if unblocked {
        signals::unblocked(&mut command);
    }
    let status = command.arg("/proc/self/status").output();
    let status = status.map_or_else(|_| Vec::new(), |output| output.stdout);
    let status = String::from_utf8_lossy(&status);
    let signals = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    signals("SigBlk:").zip(signals("SigIgn:")).map_or(u64::MAX, |(blocked, ignored)| blocked | ignored)
}

struct Drudgery(u64);

impl Job for Drudgery {
    type Reply = ();

    fn run(&mut self, _: Duration) -> Step<()> {
        toil(self.0);
        say::say("rests");
        Step::Done(())
    }
}

/// A thread that has a ticket, as whoever computes elsewhere would.
fn later(cx: &mut Context<'_, DeskSession>, millis: u64) -> Result<JobId, Busy> {
    let ticket = cx.ticket()?;
    let id = ticket.id();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(millis));
        ticket.finish(millis);
    });
    Ok(id)
}

struct Bomb(u64);

impl Job for Bomb {
    type Reply = u64;

    fn run(&mut self, _: Duration) -> Step<u64> {
        Step::Done(self.0)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a drop that is meant to panic");
    }
}

struct Slices(u64);

impl Job for Slices {
    type Reply = u64;

    fn run(&mut self, _: Duration) -> Step<u64> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Step::More
            }
            None => Step::Done(0),
        }
    }
}

impl Session for DeskSession {
    type Reply = u64;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if let Some(hearing) = &mut self.hearing {
            return hearing.hear(input, cx.now());
        }
        let limits = Limits { body: 1 << 30, ..Limits::default() };
        let used = match Frame::parse(input.bytes(), &limits)? {
            Parsed::Need(more) => {
                input.need(more);
                return Ok(());
            }
            Parsed::Frame(frame) => {
                self.serve(&frame, cx)?;
                frame.len()
            }
        };
        input.consume(used);
        if self.draining {
            cx.finish();
        }
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.draining |= why == Ready::Draining;
        if self.draining && !self.stays {
            cx.finish();
        }
        Ok(())
    }

    /// Nobody can ask for the tickets that were put aside any more.
    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.held.clear();
        match &self.hearing {
            // With both ends it is over in any case.
            Some(hearing) => say::say(&format!("heard {}", hearing.heard)),
            None => cx.finish(),
        }
        Ok(())
    }

    fn reply(&mut self, id: JobId, reply: Result<u64, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let kind = self.kinds.remove(&id).ok_or_else(|| Close::abort("a reply to nothing"))?;
        match reply {
            Ok(number) => Frame::send(cx.output(), kind, &number.to_le_bytes()),
            Err(Lost) => Frame::send(cx.output(), LOST, &[kind]),
        }
        Ok(())
    }

    fn closed(self, why: &Closed) {
        say::closed("closed", why);
    }
}
