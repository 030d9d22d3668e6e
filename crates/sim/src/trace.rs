//! What happened in a run, in order: the same for the same seed, to the byte.

use std::{cell::RefCell, env, fmt, rc::Rc, sync::Arc, time::Duration};

use crate::seeds::SEED;

/// How many events are shown with a failure: the last few, or all if just one seed is run to look at them.
fn shown() -> usize {
    if env::var_os(SEED).is_some() { usize::MAX } else { 40 }
}

/// Everything the network did in a run, in order. Two runs of one seed have equal traces; [`Display`](fmt::Display)
/// writes one line per event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace(Arc<Vec<Record>>);

/// The trace of a run that is under way, for those who note in it and for whoever wants to know why it was cut short.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Rc<RefCell<Trace>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    at: Duration,
    /// The connection and which of its ends; for [`What::Drain`] and [`What::Stop`] the node.
    who: (usize, usize),
    what: What,
}

/// One event. Numbers are bytes and the checksum of those bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Connect,
    Refused,
    Answered,
    Accepted,
    Turned,
    Sent(usize, u32),
    Full,
    Exhausted,
    Arrived(usize),
    Received(usize, u32),
    Shutdown,
    EndArrived,
    Cut,
    Reset,
    Closed,
    Aborted,
    Drain,
    Stop,
}

impl Notes {
    pub(crate) fn note(&self, at: Duration, who: (usize, usize), what: What) {
        Arc::make_mut(&mut self.0.borrow_mut().0).push(Record { at, who, what });
    }

    pub(crate) fn so_far(&self) -> Trace {
        self.0.borrow().clone()
    }
}

impl Trace {
    /// How many events there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing happened at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last `count` events, a line each.
    pub fn tail(&self, count: usize) -> String {
        let from = self.0.len().saturating_sub(count);
        self.0[from..].iter().map(|entry| format!("{entry}\n")).collect()
    }

    /// `why` something is wrong with a run, and its last events, where the reason is to be found.
    pub(crate) fn told(&self, why: impl fmt::Display) -> String {
        match self.is_empty() {
            true => why.to_string(),
            false => format!("{why}; the last events were\n{}", self.tail(shown())),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14.6} ms  ", self.at.as_secs_f64() * 1e3)?;
        let (number, side) = self.who;
        let end = if side == 0 { "client" } else { "server" };
        if !matches!(self.what, What::Drain | What::Stop) {
            write!(f, "#{number} {end} ")?;
        }
        match self.what {
            What::Drain => write!(f, "node {number} drains"),
            What::Stop => write!(f, "node {number} stops"),
            What::Connect => write!(f, "connects"),
            What::Refused => write!(f, "is refused"),
            What::Answered => write!(f, "is answered"),
            What::Accepted => write!(f, "accepts"),
            What::Turned => write!(f, "loses it in the backlog"),
            What::Sent(count, sum) => write!(f, "sends {count} ({sum:08x})"),
            What::Full => write!(f, "would block sending"),
            What::Exhausted => write!(f, "finds no room in the system"),
            What::Arrived(count) => write!(f, "has {count} arrive"),
            What::Received(count, sum) => write!(f, "receives {count} ({sum:08x})"),
            What::Shutdown => write!(f, "finishes sending"),
            What::EndArrived => write!(f, "has the end arrive"),
            What::Cut => write!(f, "is cut by the network"),
            What::Reset => write!(f, "is reset"),
            What::Closed => write!(f, "closes"),
            What::Aborted => write!(f, "closes with a reset"),
        }
    }
}
