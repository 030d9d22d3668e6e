//! What did not end well: a loop that broke ([`Broken`]), a drain that did not finish in time ([`Undrained`]).
#![forbid(unsafe_code)]

use std::{io, sync::Arc};

use roadstead_proto::stats::Snapshot;

/// Why a server's loop has ended although nobody had told it to. Its connections were reset.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Broken {
    /// The system failed it.
    #[error("the server's loop could not go on: {0}")]
    System(Arc<io::Error>),
    /// It panicked: a fault of the engine, as panics of a service do not reach it. With what the panic said.
    #[error("the server's loop panicked: {0}")]
    Panicked(String),
}

/// What had not finished when the time to drain was over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not finished when the time to drain was over, and reset: connections: {connections}{}{}", also(*.datagrams), left_behind(*.working))]
pub struct Undrained {
    /// Connections that were still open, and peers that datagram sessions remembered. They are reset, or forgotten: at
    /// once, or, of a thread that is in a job, when that is done.
    pub connections: usize,
    /// A session of datagrams had not finished either. Its socket is closed.
    pub datagrams: bool,
    /// A job is still being done. Nobody waits for it: its thread is left behind, with the connections that it alone
    /// can close and its hold on the service, and ends by itself when the job does.
    pub working: bool,
    /// What the server had come to by then.
    pub counts: Box<Snapshot>,
}

fn also(datagrams: bool) -> &'static str {
    if datagrams { "; and datagrams" } else { "" }
}

fn left_behind(working: bool) -> &'static str {
    if working { "; a job that nobody waits for is still being done" } else { "" }
}
