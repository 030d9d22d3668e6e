//! What there is to say of each I/O model: its name, its core, and how a server begins on it.
#![forbid(unsafe_code)]

use std::{fmt, io, sync::Arc};

use roadstead_drivers::{blocking::iterative::Iterative, proactor::emulated::Direct, reactor::workers::Io};
use roadstead_os::{
    completions::{
        aio::Requests,
        uring::{self, RingPoller, Uring},
    },
    pollers::{epoll::Epoll, poll::Poll, select::Select, signal::Signal, spin::Spin},
    processes::{
        parent::Forking,
        prefork::{self, Prefork},
        process::{self, Process},
    },
    threads::{
        each::Threads,
        pool::{self, Pool},
        server::{Begun, Parts, ServerThreads, Shape, Sockets},
    },
};
use roadstead_proto::{budget::Budget, host::Shared};

/// What there is to say of a model.
pub(crate) struct Entry {
    /// On the command line.
    pub(crate) name: &'static str,
    /// What it does, in a few words.
    pub(crate) about: &'static str,
    pub(crate) core: Core,
    /// Why it has no datagrams; none if it has.
    pub(crate) no_datagrams: Option<&'static str>,
    pub(crate) begin: Begin,
}

/// How a server begins on a model.
pub(crate) enum Begin {
    /// With threads of this process.
    Here(fn(Parts) -> io::Result<Begun>),
    /// With children of this process: how many there may be, by the budget and the workers that were asked for; and
    /// when there are some.
    Forking { size: fn(&Budget, usize) -> usize, strategy: fn(usize) -> Box<dyn Forking> },
    /// With threads of this process, where the system is asked first whether it can: why it cannot.
    Asking { obstacle: fn() -> Option<&'static str>, begin: fn(Parts) -> io::Result<Begun> },
    /// Not at all, and why.
    Not(&'static str),
}

impl Entry {
    const fn missing(name: &'static str, about: &'static str, core: Core, why: &'static str) -> Self {
        Self { name, about, core, no_datagrams: Some(why), begin: Begin::Not(why) }
    }

    /// Begins with threads of this process.
    ///
    /// # Errors
    /// If the system has not what they need, or the model does not begin like that.
    pub(crate) fn start(
        &self,
        shape: Shape,
        shared: Arc<Shared>,
        sockets: Sockets,
    ) -> io::Result<ServerThreads> {
        match self.begin {
            Begin::Here(begin) | Begin::Asking { begin, .. } => {
                ServerThreads::start(begin, shape, shared, sockets)
            }
            Begin::Forking { .. } | Begin::Not(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// How the system is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// "Do this, I wait."
    Blocking,
    /// "Tell me when it is ready."
    Reactor,
    /// "Tell me when it is done."
    Proactor,
}

impl fmt::Display for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Core::Blocking => "blocking",
            Core::Reactor => "reactor",
            Core::Proactor => "proactor",
        })
    }
}

pub(crate) const ITERATIVE: Entry = Entry {
    name: "iterative",
    about: "one client at a time",
    core: Core::Blocking,
    no_datagrams: Some("it serves one client at a time, and of datagrams none is ever the last"),
    begin: Begin::Here(|parts| parts.blocking(Iterative)),
};

pub(crate) const PROCESS: Entry = Entry {
    name: "process",
    about: "a child process per connection",
    core: Core::Blocking,
    no_datagrams: Some("its children have a connection each, and datagrams have none"),
    begin: Begin::Forking {
        size: |budget, _| budget.connections.min(process::PROCESSES),
        strategy: |_| Box::new(Process::default()),
    },
};

pub(crate) const PREFORK: Entry = Entry {
    name: "prefork",
    about: "worker processes share the listener",
    core: Core::Blocking,
    no_datagrams: Some("its children take connections, and datagrams have none"),
    begin: Begin::Forking {
        size: |_, workers| if workers > 0 { workers } else { prefork::SIZE },
        strategy: |size| Box::new(Prefork::new(size)),
    },
};

pub(crate) const THREADS: Entry = Entry {
    name: "threads",
    about: "a thread per connection",
    core: Core::Blocking,
    no_datagrams: None,
    begin: Begin::Here(|parts| parts.blocking(Threads)),
};

pub(crate) const POOL: Entry = Entry {
    name: "pool",
    about: "fixed threads take connections from a queue",
    core: Core::Blocking,
    no_datagrams: Some("its threads take connections from a queue, and datagrams have none"),
    begin: Begin::Here(|mut parts| {
        // Its threads run their jobs themselves.
        let size = parts.take_workers().unwrap_or(pool::SIZE);
        parts.blocking(Pool::start(size)?)
    }),
};

pub(crate) const SPIN: Entry = Entry {
    name: "spin",
    about: "nobody is asked, all connections are tried in every turn",
    core: Core::Reactor,
    no_datagrams: None,
    begin: Begin::Here(|parts| parts.reactor(|_, _| Ok(Spin::default()))),
};

pub(crate) const SELECT: Entry = Entry {
    name: "select",
    about: "two sets of bits go to the kernel in every turn: select",
    core: Core::Reactor,
    no_datagrams: None,
    begin: Begin::Here(|parts| parts.reactor(|wake_queue, _| Select::new(wake_queue))),
};

pub(crate) const POLL: Entry = Entry {
    name: "poll",
    about: "a list goes to the kernel in every turn: poll",
    core: Core::Reactor,
    no_datagrams: None,
    begin: Begin::Here(|parts| parts.reactor(|wake_queue, _| Poll::new(wake_queue))),
};

pub(crate) const EPOLL: Entry = Entry {
    name: "epoll",
    about: "the kernel keeps the list and tells of changes: epoll",
    core: Core::Reactor,
    no_datagrams: None,
    begin: Begin::Here(|parts| match parts.io() {
        // A socket on an epoll list calls there for every datagram that leaves it, and on poll's only while that waits.
        Io::Loop => {
            parts.reactor_beside(|wake_queue, shape| Epoll::new(wake_queue, shape.trigger), Poll::new)
        }
        Io::Workers => parts.reactor_with_workers(),
    }),
};

pub(crate) const SIGNAL: Entry = Entry {
    name: "signal",
    about: "a real-time signal for every change",
    core: Core::Reactor,
    no_datagrams: None,
    begin: Begin::Here(|parts| parts.reactor(|wake_queue, _| Signal::new(wake_queue))),
};

pub(crate) const EMULATED: Entry = Entry {
    name: "emulated",
    about: "a reactor that does the I/O and hands over finished buffers",
    core: Core::Proactor,
    no_datagrams: None,
    begin: Begin::Here(|parts| parts.proactor(|_| Direct)),
};

pub(crate) const AIO: Entry = Entry {
    name: "aio",
    about: "POSIX asynchronous I/O, done by threads of the C library",
    core: Core::Proactor,
    no_datagrams: Some("POSIX AIO does not say who has sent a datagram"),
    begin: Begin::Here(|parts| parts.proactor(Requests::new)),
};

pub(crate) const URING: Entry = Entry {
    name: "uring",
    about: "the kernel does the I/O and hands over finished buffers: io_uring",
    core: Core::Proactor,
    no_datagrams: None,
    begin: Begin::Asking {
        obstacle: uring::obstacle,
        begin: |parts| parts.completions(Uring::new, RingPoller::new),
    },
};

pub(crate) const IOCP: Entry =
    Entry::missing("iocp", "Windows completion ports", Core::Proactor, "needs Windows, and is not built yet");
