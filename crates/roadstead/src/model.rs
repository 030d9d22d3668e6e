//! The I/O models: which core, with which replaceable part.
//!
//! Each model is one file beside its core, with an entry in `models.rs` that says what it is and how it begins. This
//! file is the list of them.

use std::{fmt, str::FromStr};

pub use crate::models::Core;
use crate::models::{self, Begin, Entry};

/// Makes the list: a variant for each model, and where its entry is.
macro_rules! list {
    ($($model:ident => $entry:expr,)*) => {
        /// Which core, with which replaceable part, drives a server's connections.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant is described by `Model::about`")]
        pub enum Model {
            $($model,)*
        }

        impl Model {
            /// Every model, in the order of the cores.
            pub const ALL: [Model; [$(Model::$model),*].len()] = [$(Model::$model),*];

            /// What there is to say of it.
            pub(crate) fn entry(self) -> &'static Entry {
                match self {
                    $(Model::$model => const { &$entry },)*
                }
            }
        }
    };
}

list! {
    Iterative => models::ITERATIVE,
    Process => models::PROCESS,
    Prefork => models::PREFORK,
    Threads => models::THREADS,
    Pool => models::POOL,
    Spin => models::SPIN,
    Select => models::SELECT,
    Poll => models::POLL,
    Epoll => models::EPOLL,
    Signal => models::SIGNAL,
    Emulated => models::EMULATED,
    Aio => models::AIO,
    Uring => models::URING,
    Iocp => models::IOCP,
}

/// The answer of [`Model::best`], and why.
const BEST: (Model, &str) =
    (Model::Epoll, "idle connections cost it nothing, and none that is built for this system is faster");

impl Model {
    /// The model that this machine runs best, among those that exist here. A server that starts on it says why, in the
    /// log.
    pub fn best() -> Self {
        BEST.0
    }

    /// Says in the log why it is the best here, if it is.
    pub(crate) fn explain(self) {
        if self == BEST.0 {
            tracing::info!(model = %self, "the best model here: {}", BEST.1);
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// What it does, in a few words.
    pub fn about(self) -> &'static str {
        self.entry().about
    }

    /// Its core.
    pub fn core(self) -> Core {
        self.entry().core
    }

    /// Whether it makes processes, and so needs [`Server::run`](crate::Server::run) in one that has no other threads.
    pub fn forks(self) -> bool {
        matches!(self.entry().begin, Begin::Forking { .. })
    }

    /// Why it has no datagrams; `None` if it has.
    pub fn datagram_obstacle(self) -> Option<&'static str> {
        self.entry().no_datagrams
    }

    /// Why this machine cannot run it; `None` if it can.
    pub fn obstacle(self) -> Option<&'static str> {
        match self.entry().begin {
            Begin::Asking { obstacle, .. } => obstacle(),
            Begin::Not(why) => Some(why),
            _ => None,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
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
    fn the_models_that_have_datagrams_are_threads_and_those_with_loops_but_aio() {
        let with = Model::ALL.into_iter().filter(|model| model.datagram_obstacle().is_none());
        let names: Vec<_> = with.map(Model::name).collect();
        let loops = ["spin", "select", "poll", "epoll", "signal", "emulated", "uring"];
        assert_eq!(names, [&["threads"][..], &loops].concat());
    }

    #[test]
    fn every_name_finds_its_model_and_the_best_one_runs_here() {
        for model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        assert_eq!("best".parse::<Model>().unwrap().obstacle(), None);
        assert!("kqueue".parse::<Model>().unwrap_err().to_string().contains("epoll"));
    }
}
