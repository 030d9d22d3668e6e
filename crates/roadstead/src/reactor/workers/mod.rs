//! Workers that do the reads and writes themselves: the other way to divide a reactor among threads.
//!
//! The I/O thread only waits. It accepts, and hears of readiness, deadlines and orders; whatever concerns a connection
//! it raises in that connection's [claim](claim), one atomic word, and who makes it queued puts it into the
//! [line](line). A [worker](worker) takes it out, gives it the same turn that the reactor's own loop would
//! ([`Slot::drive`](super::slot::Slot::drive)), runs the jobs that came of it, and lets go of it: to the end of the line
//! if there is more, or news; else it has the poller tell once more, and of that only (`EPOLLONESHOT`).
//!
//! ```text
//!             ready, due, drain, stop              ┌───────────▶ worker: claim · receive, session, send · re-arm
//!  I/O thread ────────────────────────▶ claim ──▶ line ────────▶ worker            │
//!      ▲        ticket, waker ────────────┘ ▲      └───────────▶ worker            │
//!      │                                    └───────────────── run again ◀─────────┤
//!      └──────── reports: an earlier deadline, a connection opened, one ended ◀────┘
//! ```
//! A ticket or a waker needs no I/O thread: the connection's own bell raises it. The I/O thread keeps a heap of
//! deadlines, each the earliest it was told of; a deadline that moves back costs nothing, as in the loop.
//!
//! Neither part knows of threads: each takes one step when it is told to, which [`Crew`] does on threads and the simulator
//! in the order that its seed says.
//!
//! No lock is held while a session runs but the connection's own, for which nobody waits.

mod claim;
mod crew;
mod dispatcher;
mod line;
mod member;
mod reports;
mod worker;

use std::io;

use crate::{
    model::{Model, epoll::Trigger},
    net::Net,
    ticket::Token,
};
pub(crate) use crew::Crew;
pub(crate) use dispatcher::Dispatcher;
pub(crate) use worker::{Step, Worker};

/// Has connections told of once, and no more until that is asked for again, which any thread may do.
pub(crate) trait OneShot<N: Net> {
    /// Tells once of a new connection.
    fn add(&self, stream: &N::Stream, token: Token, receive: bool, send: bool) -> io::Result<()>;
    /// Tells once more: at once, if it is ready already.
    fn arm(&self, stream: &N::Stream, token: Token, receive: bool, send: bool) -> io::Result<()>;
}

/// Who receives and sends, of a server on [`Model::Epoll`](crate::Model::Epoll).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Io {
    /// The I/O thread; worker threads run deferred jobs, if there are any.
    #[default]
    Loop,
    /// Worker threads, which run their connections' sessions and jobs too. The I/O thread only tells them of readiness.
    Workers,
}

impl Io {
    /// Why it cannot be had on `model`, or `model` cannot tell like this; `None` if both can be.
    pub(crate) fn obstacle(self, model: Model, trigger: Trigger) -> Option<&'static str> {
        match self {
            Io::Loop if trigger == Trigger::Level && model != Model::Epoll => {
                Some("only `epoll` can be asked to tell of a connection for as long as it is ready")
            }
            Io::Loop => None,
            Io::Workers if model != Model::Epoll => {
                Some("its workers cannot do the I/O: only `epoll` can be asked to tell of a connection once")
            }
            Io::Workers if trigger == Trigger::Level => {
                Some("workers that do the I/O are told of a connection once, not for as long as it is ready")
            }
            Io::Workers => None,
        }
    }
}
