//! One connection as the I/O thread and the workers see it: a claim, and what only who has the claim may touch.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use roadstead_proto::ticket::{Token, WakeQueue};

use super::{
    claim::{Claim, Events, WOKEN},
    line::Line,
    one_shot::OneShot,
};
use crate::{net::Net, reactor::connection::LoopConnection};

/// One connection.
pub struct Claimed<T> {
    pub(super) claim: Claim,
    line: Arc<Line<Self>>,
    /// Locked by who has the claim, so nobody ever waits for it. None once the connection is closed.
    content: Mutex<Option<Content<T>>>,
}

/// What a turn of a connection needs.
pub(crate) struct Content<T> {
    pub(crate) connection: LoopConnection<T>,
    pub(crate) token: Token,
    /// Through which its own tickets and wakers wake it; lent to the host for the time of a turn.
    pub(crate) wake_queue: Arc<WakeQueue>,
    /// The earliest of its deadlines that the I/O thread knows of.
    pub(crate) known: Duration,
}

impl<T> Content<T> {
    /// Has a stream that was accepted or begun, and the poller tell of it once.
    pub(crate) fn attach<N: Net<Stream = T>>(
        &mut self,
        stream: T,
        poller: &impl OneShot<N>,
    ) -> io::Result<()> {
        let Self { connection, token, .. } = self;
        // Nearly every session waits for its peer, and every connection that is being opened for the answer.
        connection.told = (!connection.connecting, connection.connecting);
        poller.add(connection.stream.insert(stream), *token, connection.told.0, connection.told.1)
    }
}

impl<T: Send + 'static> Claimed<T> {
    /// A connection whose turns come in `line`.
    pub fn new(connection: LoopConnection<T>, line: &Arc<Line<Self>>) -> Arc<Self> {
        Arc::new_cyclic(|claimed: &Weak<Self>| {
            let claimed = Weak::clone(claimed);
            let wake_queue = WakeQueue::calling(move || {
                if let Some(claimed) = claimed.upgrade() {
                    claimed.raise(WOKEN);
                }
            });
            let content = Content { connection, token: Token(0), wake_queue, known: Duration::MAX };
            Self { claim: Claim::new(), line: Arc::clone(line), content: Mutex::new(Some(content)) }
        })
    }

    /// Something has happened to the connection: it will have a turn.
    pub fn raise(self: &Arc<Self>, events: Events) {
        if self.claim.raise(events) {
            self.line.push(Arc::clone(self));
        }
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Option<Content<T>>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
