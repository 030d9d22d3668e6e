//! What others hold of a connection: a ticket to finish something for it, or a waker.
#![forbid(unsafe_code)]

use std::{fmt, sync::Arc, time::Duration};

use super::{
    mailbox::Mailbox,
    reply::{JobId, Lost},
    token::Token,
    wake_flag::WakeFlag,
};
use crate::{
    budget::Charge,
    guard::Guarded,
    queue::{Job, Step, Task, Work},
};

/// The right to finish something later, from any thread.
///
/// Dropped unfinished, the session hears that it was [`Lost`]. Counts against the budget's `jobs` while it lives.
pub struct Ticket<R: Send + 'static> {
    mailbox: Arc<Mailbox<R>>,
    id: JobId,
    /// Gone once the ticket has been used.
    charge: Option<Charge>,
}

impl<R: Send + 'static> Ticket<R> {
    /// The ticket of job `id`, whose reply goes into `mailbox`.
    #[doc(hidden)]
    pub fn new(mailbox: Arc<Mailbox<R>>, id: JobId, charge: Charge) -> Self {
        Self { mailbox, id, charge: Some(charge) }
    }

    /// Which job this finishes.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whether the connection is gone, so that the work need not be done.
    pub fn is_cancelled(&self) -> bool {
        self.mailbox.wake_flag.is_closed()
    }

    /// Brings `reply` to the session. Never blocks on the network.
    pub fn finish(mut self, reply: R) {
        self.put(Ok(reply));
    }

    /// Makes room for the next ticket before the session hears of this one, and may want it.
    fn put(&mut self, reply: Result<R, Lost>) {
        let reply = Guarded::new(reply);
        if self.charge.take().is_some() {
            self.mailbox.put(self.id, reply);
        }
    }
}

impl<R: Send + 'static> Drop for Ticket<R> {
    fn drop(&mut self) {
        self.put(Err(Lost));
    }
}

impl<R: Send + 'static> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Calls a session's [`ready`](crate::Session::ready) with [`Ready::Woken`](crate::Ready::Woken), from any thread.
#[derive(Debug, Clone)]
pub struct Waker(#[doc(hidden)] pub Arc<WakeFlag>);

impl Waker {
    /// Wakes the session. Several calls before it is heard count as one; a connection that is gone hears nothing.
    pub fn wake(&self) {
        self.0.call();
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A job, and the ticket that its reply goes back by.
struct Deferred<J: Job> {
    job: J,
    ticket: Option<Ticket<J::Reply>>,
}

impl<J: Job> Work for Deferred<J> {
    fn run(&mut self, slice: Duration) -> bool {
        if self.ticket.as_ref().is_none_or(Ticket::is_cancelled) {
            return true;
        }
        match self.job.run(slice) {
            Step::More => false,
            Step::Done(reply) => {
                if let Some(ticket) = self.ticket.take() {
                    ticket.finish(reply);
                }
                true
            }
        }
    }
}

impl Task {
    pub(crate) fn deferred<J: Job>(connection: Token, cost: u64, job: J, ticket: Ticket<J::Reply>) -> Self {
        Self::new(connection, cost, Box::new(Deferred { job, ticket: Some(ticket) }))
    }
}
