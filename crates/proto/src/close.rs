//! How a connection ends: what its session wishes, and what it came to.
#![forbid(unsafe_code)]

use std::{borrow::Cow, io};

/// What every callback of a session answers: go on, or close for a reason.
pub type Done = Result<(), Close>;

/// A session's wish to end the connection, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub(crate) reason: Cow<'static, str>,
    pub(crate) abort: bool,
}

impl Close {
    /// The peer broke the protocol. What was already written still goes out, so a last word can be sent.
    pub fn violation(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), abort: false }
    }

    /// End at once; unsent output is dropped and the peer sees a reset.
    pub fn abort(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), abort: true }
    }
}

/// How a connection ended. The variants say whose doing it was.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// Both sides finished in good order.
    #[error("finished")]
    Finished,
    /// The session refused to go on, for this reason.
    #[error("{0}")]
    Violation(Cow<'static, str>),
    /// The peer connected and sent nothing in time.
    #[error("the peer connected and sent nothing in time")]
    Silent,
    /// The peer neither sent nor took a byte in time.
    #[error("the peer neither sent nor took a byte in time")]
    Idle,
    /// The peer moved fewer bytes per second than this, with a message half sent or an answer half taken.
    #[error("the peer moved fewer than {0} bytes per second")]
    Slow(u64),
    /// The peer was to end the connection first, or to answer the end of one that this session opened, and did not in
    /// time. What it still sends is lost.
    #[error("the peer did not end the connection in time")]
    Unended,
    /// This session, which had opened the connection, finished without having read so many bytes that the peer sent.
    #[error("{0} bytes that the peer sent were not read, because the session had finished")]
    Unread(u64),
    /// An outgoing connection was not answered in time.
    #[error("the peer did not answer the connection in time")]
    Unanswered,
    /// A message would not fit into the connection's buffer, whose size in bytes this is.
    #[error("a message is larger than the {0} bytes a connection may buffer")]
    TooLarge(usize),
    /// The session wrote more than the connection may buffer (bytes).
    #[error("the answer is larger than the {0} bytes a connection may buffer")]
    Overflow(usize),
    /// The session wrote although it had [finished sending](crate::Context::finish_sending).
    #[error("the session wrote behind its own end")]
    Unsendable,
    /// The server's connections together hold more than they may (bytes).
    #[error("all connections together would buffer more than {0} bytes")]
    OutOfMemory(usize),
    /// The server stopped before the connection had finished.
    #[error("the server stopped")]
    Stopped,
    /// The system or the network failed: a reset, a refused connection, a file that ended early.
    #[error("{0}")]
    System(#[from] io::Error),
}
