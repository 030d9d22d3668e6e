//! The services under test: an echo, and a desk that does what each frame asks of it.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead::{
    Close, Closed, Context, Done, Frame, Input, Job, JobId, Lost, Peer, Service, Session, Step, Ticket,
    frame::{Fields, Limits, Parsed},
};

/// Why connections were closed, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends(Arc<Mutex<Vec<String>>>);

impl Ends {
    pub(crate) fn push(&self, why: &Closed) {
        self.0.lock().unwrap().push(why.to_string());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for the first end.
    pub(crate) fn first(&self) -> String {
        super::client::eventually("a connection ends", || !self.all().is_empty());
        self.all()[0].clone()
    }
}

/// Sends back what comes.
#[derive(Default)]
pub(crate) struct Echo(pub(crate) Ends);

pub(crate) struct EchoSession(Ends);

impl Service for Echo {
    type Session = EchoSession;
    fn open(&self, _: &Peer) -> EchoSession {
        EchoSession(self.0.clone())
    }
}

impl Session for EchoSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let chunk = input.take(usize::MAX).ok_or_else(|| Close::abort("no memory for an echo"))?;
        cx.output().forward(chunk);
        Ok(())
    }

    fn closed(self, why: &Closed) {
        self.0.push(why);
    }
}

/// What a frame asks of the desk. The answers have the same kind, unless said otherwise.
pub(crate) const ECHO: u8 = 1;
/// A job that answers the number.
pub(crate) const JOB: u8 = 2;
/// A job in as many slices as the number says.
pub(crate) const SLICES: u8 = 3;
/// A ticket is put where the test finds it.
pub(crate) const HOLD: u8 = 4;
/// A job that panics.
pub(crate) const PANIC_JOB: u8 = 5;
/// The session itself panics.
pub(crate) const PANIC: u8 = 6;
/// A body of as many bytes as the number says.
pub(crate) const ANSWER: u8 = 7;
/// The file, as many bytes as the number says.
pub(crate) const FILE: u8 = 8;
/// The desk calls the frame a violation, after a last word.
pub(crate) const REFUSE: u8 = 9;
/// An answer: the budget has no room.
pub(crate) const BUSY: u8 = 100;
/// An answer: the job was lost.
pub(crate) const LOST: u8 = 101;

#[derive(Clone, Default)]
pub(crate) struct Desk {
    pub(crate) ends: Ends,
    pub(crate) held: Arc<Mutex<Vec<Ticket<u64>>>>,
    pub(crate) file: Option<Arc<File>>,
}

impl Desk {
    /// Waits until the test may take `count` held tickets, and takes them.
    pub(crate) fn tickets(&self, count: usize) -> Vec<Ticket<u64>> {
        super::client::eventually("the tickets are held", || self.held.lock().unwrap().len() == count);
        std::mem::take(&mut *self.held.lock().unwrap())
    }
}

impl Service for Desk {
    type Session = DeskSession;
    fn open(&self, _: &Peer) -> DeskSession {
        DeskSession { desk: self.clone(), kinds: HashMap::new() }
    }
}

pub(crate) struct DeskSession {
    desk: Desk,
    kinds: HashMap<JobId, u8>,
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

impl DeskSession {
    fn serve(&mut self, frame: &Frame<'_>, cx: &mut Context<'_, Self>) -> Done {
        let n = frame.number(1).unwrap_or(0);
        let job = match frame.kind {
            JOB => cx.run(n, move || n),
            SLICES => cx.defer(n, Slices(n)),
            PANIC_JOB => cx.run(0, || panic!("a job of the test that is meant to panic")),
            HOLD => cx.ticket().map(|ticket| {
                let id = ticket.id();
                self.desk.held.lock().unwrap().push(ticket);
                id
            }),
            PANIC => panic!("a session of the test that is meant to panic"),
            REFUSE => {
                Frame::send(cx.output(), REFUSE, b"go away");
                return Err(Close::violation("refused"));
            }
            kind => {
                let fields = Fields::new();
                match (kind, &self.desk.file) {
                    (ANSWER, _) => Frame::send(cx.output(), ANSWER, &vec![b'a'; n as usize]),
                    (FILE, Some(file)) => {
                        Frame::begin(cx.output(), FILE, &fields, n as usize);
                        cx.output().file(Arc::clone(file), 0, n);
                    }
                    _ => Frame::send(cx.output(), kind, frame.body),
                }
                return Ok(());
            }
        };
        match job {
            Ok(id) => drop(self.kinds.insert(id, frame.kind)),
            Err(_) => Frame::send(cx.output(), BUSY, &n.to_le_bytes()),
        }
        Ok(())
    }
}

impl Session for DeskSession {
    type Reply = u64;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
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
        self.desk.ends.push(why);
    }
}
