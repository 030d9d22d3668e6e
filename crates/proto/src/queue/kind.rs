//! Which disciplines there are.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

use super::{fcfs::Fcfs, mlfq::Mlfq, rr::Rr, sjf::Sjf, task::Discipline};

/// The disciplines by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is described by `Queue::about`")]
pub enum Queue {
    #[default]
    Fcfs,
    Sjf,
    Rr,
    Mlfq,
}

impl Queue {
    /// Every discipline.
    pub const ALL: [Queue; 4] = [Queue::Fcfs, Queue::Sjf, Queue::Rr, Queue::Mlfq];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Queue::Fcfs => "fcfs",
            Queue::Sjf => "sjf",
            Queue::Rr => "rr",
            Queue::Mlfq => "mlfq",
        }
    }

    /// What it does, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Queue::Fcfs => "first come, first served",
            Queue::Sjf => "shortest job first, by the costs that sessions guess",
            Queue::Rr => "round robin: connections take turns, a slice each",
            Queue::Mlfq => "multi-level feedback: who has had the fewest slices is next",
        }
    }

    /// An empty queue of this discipline.
    #[doc(hidden)]
    pub fn discipline(self) -> Box<dyn Discipline> {
        match self {
            Queue::Fcfs => Box::<Fcfs>::default(),
            Queue::Sjf => Box::<Sjf>::default(),
            Queue::Rr => Box::<Rr>::default(),
            Queue::Mlfq => Box::<Mlfq>::default(),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no queue discipline of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no queue `{0}`; the queues are: {list}", list = Queue::ALL.map(Queue::name).join(", "))]
pub struct UnknownQueue(String);

impl FromStr for Queue {
    type Err = UnknownQueue;

    fn from_str(name: &str) -> Result<Self, UnknownQueue> {
        Queue::ALL.into_iter().find(|queue| queue.name() == name).ok_or_else(|| UnknownQueue(name.into()))
    }
}
