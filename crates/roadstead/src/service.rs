//! What a service is: a maker of sessions, each of which is one connection's protocol as a state machine over bytes.
//!
//! A session never touches a socket, a thread or a clock, and never blocks: it is given bytes, the time and a
//! [`Context`] through which it answers. That is why one definition runs on every model and in the simulator.
#![forbid(unsafe_code)]

use crate::{context::Context, input::Input};

pub use crate::{
    close::{Close, Closed, Done},
    peer::{Peer, Scope},
    ticket::{JobId, Lost},
};

/// Makes one [`Session`] per accepted connection.
pub trait Service: Send + Sync + 'static {
    /// The protocol of one connection.
    type Session: Session;

    /// Where the state of this service's connections lives. There is no default, because a wrong one loses data without
    /// a word: of what connections share, each child of a process model would have a copy of its own. So these models
    /// refuse [`Scope::Process`] at start.
    const SCOPE: Scope;

    /// A connection was admitted: make its session. Must not block.
    fn open(&self, peer: &Peer) -> Self::Session;
}

/// A service that does not say where its state lives is none.
///
/// ```compile_fail,E0046
/// # use roadstead::{Context, Done, Input, Peer, Service, Session};
/// struct Line;
/// impl Session for Line {
///     type Reply = ();
///     fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done { Ok(()) }
/// }
/// struct Store;
/// impl Service for Store {
///     type Session = Line;
///     fn open(&self, _: &Peer) -> Line { Line }
/// }
/// ```
#[cfg(doctest)]
struct Unscoped;

/// One connection's protocol.
///
/// The engine calls one method at a time, never two at once. Whatever a method writes to [`Context::output`] is sent
/// in order. When the output passes its high-water mark no further input is delivered until the peer has taken enough.
pub trait Session: Send + Sized + 'static {
    /// What a deferred job brings back. `()` where there are none.
    type Reply: Send + 'static;

    /// New bytes; or unread ones, and something changed since they were left.
    ///
    /// Consume what can be used and leave the rest. Called again at once while it consumes and bytes remain, so a
    /// session may handle a single message per call and leave the pacing to the engine.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done;

    /// A [`Ticket`](crate::Ticket) of this connection was finished, or dropped.
    ///
    /// Called once for each, in the order in which that happened. It need not be the order in which they were taken:
    /// [`Context::defer`] tells which to expect of jobs.
    fn reply(&mut self, id: JobId, reply: Result<Self::Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let _ = (id, reply, cx);
        Ok(())
    }

    /// Opened, woken, room to send again, a deadline it set, the server is draining.
    ///
    /// By default a draining connection finishes as soon as what it owes has been sent.
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Draining {
            cx.finish();
        }
        Ok(())
    }

    /// The peer has finished sending; answers may still follow, and the connection closes once they have gone out.
    ///
    /// Called when the session has consumed all input, or has left some that nothing outstanding could complete.
    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        cx.finish();
        Ok(())
    }

    /// The connection is gone. Called once for every session, except one that has panicked.
    fn closed(self, why: &Closed) {
        let _ = why;
    }
}

/// Why [`Session::ready`] was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The connection exists; a session that speaks first does it now.
    Opened,
    /// Somebody used this connection's [`Waker`](crate::Waker).
    Woken,
    /// The output has fallen below its high-water mark after having passed it.
    Room,
    /// The time set with [`Context::wake_at`] has come.
    Timer,
    /// The server is draining: finish what was begun, begin nothing new. A session that does not answer this with
    /// [`Context::finish`] still receives, for as long as the server's patience lasts.
    Draining,
}
