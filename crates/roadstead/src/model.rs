//! The I/O models: which core, with which replaceable part.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

/// Which core, with which replaceable part, drives a server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant is described by `Model::about`")]
pub enum Model {
    Iterative,
    Process,
    Prefork,
    Threads,
    Pool,
    Spin,
    Select,
    Poll,
    Epoll,
    Signal,
    Emulated,
    Aio,
    Uring,
    Iocp,
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

impl Model {
    /// Every model, in the order of the cores.
    pub const ALL: [Model; 14] = [
        Model::Iterative,
        Model::Process,
        Model::Prefork,
        Model::Threads,
        Model::Pool,
        Model::Spin,
        Model::Select,
        Model::Poll,
        Model::Epoll,
        Model::Signal,
        Model::Emulated,
        Model::Aio,
        Model::Uring,
        Model::Iocp,
    ];

    /// The model that this machine runs best, among those that exist here.
    pub fn best() -> Self {
        tracing::info!(model = %Model::Epoll, "chosen: the fastest of the models built so far on this system");
        Model::Epoll
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Model::Iterative => "iterative",
            Model::Process => "process",
            Model::Prefork => "prefork",
            Model::Threads => "threads",
            Model::Pool => "pool",
            Model::Spin => "spin",
            Model::Select => "select",
            Model::Poll => "poll",
            Model::Epoll => "epoll",
            Model::Signal => "signal",
            Model::Emulated => "emulated",
            Model::Aio => "aio",
            Model::Uring => "uring",
            Model::Iocp => "iocp",
        }
    }

    /// What it does, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Model::Iterative => "one client at a time",
            Model::Process => "a child process per connection",
            Model::Prefork => "worker processes share the listener",
            Model::Threads => "a thread per connection",
            Model::Pool => "fixed threads take connections from a queue",
            Model::Spin => "non-blocking calls over all connections",
            Model::Select => "select",
            Model::Poll => "poll",
            Model::Epoll => "epoll, edge-triggered",
            Model::Signal => "a signal tells of readiness",
            Model::Emulated => "a reactor that does the I/O and hands over finished buffers",
            Model::Aio => "POSIX asynchronous I/O",
            Model::Uring => "io_uring",
            Model::Iocp => "Windows completion ports",
        }
    }

    /// Its core.
    pub fn core(self) -> Core {
        match self {
            Model::Iterative | Model::Process | Model::Prefork | Model::Threads | Model::Pool => {
                Core::Blocking
            }
            Model::Spin | Model::Select | Model::Poll | Model::Epoll | Model::Signal => Core::Reactor,
            Model::Emulated | Model::Aio | Model::Uring | Model::Iocp => Core::Proactor,
        }
    }

    /// Whether it makes processes, and so needs [`Server::run`](crate::Server::run) in one that has no other threads.
    pub fn forks(self) -> bool {
        matches!(self, Model::Process | Model::Prefork)
    }

    /// Why this machine cannot run it; `None` if it can.
    pub fn obstacle(self) -> Option<&'static str> {
        match self {
            Model::Iocp => Some("needs Windows, and is not built yet"),
            Model::Uring => Some("not built yet"),
            _ => None,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
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

/// There is no model of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no model `{0}`; the models are: best, {list}", list = Model::ALL.map(Model::name).join(", "))]
pub struct UnknownModel(String);

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(name: &str) -> Result<Self, UnknownModel> {
        if name == "best" {
            return Ok(Model::best());
        }
        Model::ALL.into_iter().find(|model| model.name() == name).ok_or_else(|| UnknownModel(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_model_and_the_best_one_runs_here() {
        for model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        assert_eq!("best".parse::<Model>().unwrap().obstacle(), None);
        assert!("kqueue".parse::<Model>().unwrap_err().to_string().contains("epoll"));
    }
}
