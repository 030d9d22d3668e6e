//! Why a server could not be started, or came to no good end.
#![forbid(unsafe_code)]

use std::{io, os::fd::RawFd};

use roadstead_os::{
    outcome::{Broken, Undrained},
    processes::plan::ForkEnd,
    sockets::given::NotAListener,
    threads::TooFew,
};

use roadstead_proto::address::is_unix;

use crate::model::Model;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{}", in_words(.address, .source))]
    Bind {
        /// What was asked for.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A socket that was given cannot be listened on.
    #[error("the socket that was given to listen on (descriptor {descriptor}) cannot be used: {why}")]
    Listener {
        /// Its descriptor.
        descriptor: RawFd,
        /// Why.
        why: NotAListener,
    },
    /// The model cannot run here.
    #[error("the model `{model}` cannot run here: {why}")]
    Model {
        /// Which.
        model: Model,
        /// What stands in the way.
        why: &'static str,
    },
    /// The system has not given as many threads or processes as were asked for.
    #[error(transparent)]
    TooFew(#[from] TooFew),
    /// The system has not given what else the loops need, such as descriptors.
    #[error("the server's loops could not be started: {0}")]
    System(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        error.downcast().map_or_else(Self::System, Self::TooFew)
    }
}

fn in_words(address: &str, source: &io::Error) -> String {
    if is_unix(address) {
        return unix_in_words(address, source);
    }
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("address {address} is in use"),
        io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on {address}: ports below 1024 need privileges, choose another")
        }
        io::ErrorKind::AddrNotAvailable => format!("this machine has no address {address}"),
        _ => format!("cannot listen on {address}: {source}"),
    }
}

fn unix_in_words(address: &str, source: &io::Error) -> String {
    let cannot = |why: &str| format!("cannot listen on {address}: {why}");
    match source.kind() {
        io::ErrorKind::AddrInUse => format!("somebody listens on {address} already: choose another name"),
        io::ErrorKind::NotFound => cannot("its directory does not exist: create it first"),
        io::ErrorKind::NotADirectory => cannot("its path leads through a file that is no directory"),
        io::ErrorKind::IsADirectory => cannot("it is a directory: name a file in it"),
        io::ErrorKind::AlreadyExists => cannot(&format!("{source}: remove it, or choose another path")),
        io::ErrorKind::PermissionDenied => {
            cannot("no permission to create it: its directory has to be readable and writable")
        }
        _ => cannot(&source.to_string()),
    }
}

/// Why a server that was to drain came to no good end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DrainError {
    /// Not everything had finished in time.
    #[error(transparent)]
    Undrained(#[from] Undrained),
    /// Its loop had ended before, or did meanwhile.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Why a server that ran in the foreground came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended, with connections that had not finished.
    #[error(transparent)]
    Undrained(#[from] Undrained),
    /// Its loop has ended although nobody had told it to.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Who was to be told where it listens has failed.
    #[error(transparent)]
    Listening(io::Error),
    /// A second signal came while it drained.
    #[error("ended at once by a second signal")]
    Interrupted,
    /// What runs it could not go on: the system failed it.
    #[error("the server could not go on: {0}")]
    System(#[from] io::Error),
}

impl From<DrainError> for RunError {
    fn from(error: DrainError) -> Self {
        match error {
            DrainError::Undrained(left) => Self::Undrained(left),
            DrainError::Broken(broken) => Self::Broken(broken),
        }
    }
}

impl From<ForkEnd> for RunError {
    fn from(end: ForkEnd) -> Self {
        match end {
            ForkEnd::Undrained(left) => Self::Undrained(left),
            ForkEnd::Interrupted => Self::Interrupted,
            ForkEnd::System(error) => Self::System(error),
        }
    }
}
