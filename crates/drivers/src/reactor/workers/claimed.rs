//! A connection that workers drive, as the loop has it: that only raises what has happened, and runs no session.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bytes::BytesMut;

use roadstead_proto::{
    connection::{Endpoint, Event, Outgoing},
    host::Host,
    queue::SharedQueue,
    ticket::{Token, WakeQueue},
};

use super::claim::{Claim, DRAIN, DUE, MORE, OPENED, READABLE, STOP, WOKEN, WRITABLE, Whose};
use crate::{
    connections::Timed,
    net::Net,
    reactor::{connection::LoopConnection, drive::Drive, turn::Turn},
};

/// The queue of a loop's workers: who is due a turn, and their jobs.
pub type Line<T> = SharedQueue<Arc<Claimed<T>>>;

/// One connection.
pub struct Claimed<T> {
    line: Arc<Line<T>>,
    /// By which it calls the loop.
    home: OnceLock<(Arc<WakeQueue>, Token)>,
    /// By which its own tickets and wakers raise it.
    pub(super) calls: Arc<WakeQueue>,
    state: Mutex<State<T>>,
}

/// Locked for a moment only, and never while a session runs or is dropped.
pub(super) struct State<T> {
    pub(super) claim: Claim<LoopConnection<T>>,
    /// The earliest of its deadlines that the loop knows of.
    known: Duration,
    /// What a worker leaves to the loop.
    left: Option<Turn>,
    connects: Vec<Outgoing>,
}

impl<T: Send + 'static> Claimed<T> {
    /// Queues it if what is changed demands that.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State<T>) -> bool) {
        let queue = change(&mut self.lock());
        if queue {
            self.line.push_turn(Arc::clone(self));
        }
    }

    /// A worker's turn has ended. True if it is due another.
    pub(super) fn end(
        &self,
        connection: LoopConnection<T>,
        turn: Turn,
        connects: &mut Vec<Outgoing>,
    ) -> bool {
        let deadline = connection.deadline().unwrap_or(Duration::MAX);
        let mut state = self.lock();
        state.claim.connection = Some(connection);
        let again = match turn {
            Turn::Rests => state.claim.end(false),
            Turn::HasMore => state.claim.end(true),
            left => {
                (state.left, state.claim.whose) = (Some(left), Whose::Loops);
                false
            }
        };
        let calls = state.left.is_some() || !connects.is_empty() || deadline < state.known;
        state.known = deadline.min(state.known);
        state.connects.append(connects);
        drop(state);
        if let Some((wake_queue, token)) = self.home.get().filter(|_| calls) {
            wake_queue.wake(*token);
        }
        again
    }

    /// Does something with the connection while it is the loop's.
    fn with(&self, act: impl FnOnce(&mut LoopConnection<T>)) {
        let connection = self.lock().claim.connection.take();
        if let Some(mut connection) = connection {
            act(&mut connection);
            self.lock().claim.connection = Some(connection);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Timed for Arc<Claimed<T>> {
    /// None while a worker has it, or is to look at it for that.
    fn deadline(&self) -> Option<Duration> {
        let mut state = self.lock();
        let waits = state.claim.connection.as_ref().filter(|_| state.claim.events & DUE == 0);
        let deadline = waits.and_then(Timed::deadline);
        state.known = deadline.unwrap_or(Duration::MAX);
        deadline
    }

    fn correct(&mut self, from: Duration, to: Duration) {
        self.lock().claim.connection.iter_mut().for_each(|connection| connection.correct(from, to));
    }
}

impl<T: Send + 'static, N: Net<Stream = T>> Drive<N> for Arc<Claimed<T>> {
    const STOPS_AT_ONCE: bool = false;
    type Workers = Arc<Line<T>>;

    fn new(line: &Arc<Line<T>>, endpoint: Box<dyn Endpoint>, connecting: bool) -> Self {
        let connection = Some(LoopConnection::new(endpoint, connecting));
        let claim = Claim { connection, whose: Whose::Loops, events: 0 };
        let state = Mutex::new(State { claim, known: Duration::MAX, left: None, connects: Vec::new() });
        Arc::new_cyclic(|claimed: &Weak<Claimed<T>>| {
            let claimed = Weak::clone(claimed);
            let raise = |claimed: Arc<Claimed<T>>| claimed.change(|state| state.claim.raise(WOKEN));
            let calls = WakeQueue::calling(move || claimed.upgrade().into_iter().for_each(raise));
            Claimed { line: Arc::clone(line), home: OnceLock::new(), calls, state }
        })
    }

    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration) {
        let _ = self.home.set((Arc::clone(wake_queue), token));
        self.with(|connection| connection.endpoint.place(token, &self.calls, now));
    }

    fn attach(&mut self, stream: T) {
        self.with(|connection| connection.stream = Some(stream));
    }

    fn note(&mut self, readable: bool, writable: bool, more: bool) {
        let all = [(readable, READABLE), (writable, WRITABLE), (more, MORE)];
        let events = all.into_iter().filter_map(|(is, event)| is.then_some(event));
        self.lock().claim.events |= events.sum::<u8>();
    }

    /// Itself the loop tells only what comes before the connection is open.
    fn tell(&mut self, event: Event<'static>, now: Duration, host: &mut Host) {
        let mut state = self.lock();
        let is_new = state.claim.whose == Whose::Loops && state.claim.events & OPENED == 0;
        state.claim.events |= match event {
            Event::Opened => OPENED,
            Event::Drain if !is_new => DRAIN,
            Event::Stop => STOP,
            Event::Tick => DUE,
            // A worker has left something to the loop.
            Event::Woken => 0,
            event => {
                drop(state);
                self.with(|connection| connection.endpoint.handle(now, event, host));
                return;
            }
        };
    }

    /// Leaves it to the workers; takes what they have left.
    fn drive(
        &mut self,
        _: &mut N,
        _: &mut BytesMut,
        _: Duration,
        _: &mut Host,
        connects: &mut Vec<Outgoing>,
    ) -> (Turn, u64) {
        let mut left = None;
        self.change(|state| {
            connects.append(&mut state.connects);
            left = state.left.take();
            left.is_none() && state.claim.let_go()
        });
        (left.unwrap_or(Turn::Rests), 0)
    }

    /// The worker that has left it may hold on to it for a moment, but to nothing that it holds.
    fn into_stream(self) -> Option<T> {
        let connection = self.lock().claim.connection.take()?;
        connection.stream
    }
}
