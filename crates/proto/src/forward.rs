//! Two connections joined: what comes on one goes out on the other, and so does its end.
//!
//! Each of the two sessions has a [`Forward`]. Between them lie two lanes of received buffers, one for each direction.
//! Whoever receives puts what came into its lane, whole and without a copy where it is large, and calls the other;
//! that one moves it to its output. A lane that is full holds back the side that fills it, and nothing else: the other
//! direction goes on. What lies in a lane is charged to the server's memory, and so is what has moved on to an output.
//!
//! The two are driven by one loop, where the session that was accepted has opened the other
//! ([`Context::connect`]), or by two threads: all that they share is behind a lock, which nobody holds while it waits.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    chunk::Chunk,
    close::{Close, Done},
    input::Input,
    reading::Reading,
    session::{Context, Ready, Session},
    ticket::Waker,
};

/// Pieces that a lane holds at most: each costs more than its bytes, however few these are.
const PIECES: usize = 64;

/// One side of two joined connections. Dropped before both directions have ended, it has the other side break off.
///
/// It is a session as it is; a session that has more to do than to pass on what comes has one and calls it.
///
/// ```
/// # mod roadstead { pub use roadstead_proto::*; }
/// use std::net::SocketAddr;
/// use roadstead::{Close, Context, Done, Forward, Input, Peer, Ready, Scope, Service, Session};
///
/// /// Connects whoever comes with `to`.
/// struct Relay { to: SocketAddr }
/// struct Near { to: SocketAddr, forward: Forward, far: Option<Forward> }
///
/// impl Service for Relay {
///     type Session = Near;
///     const SCOPE: Scope = Scope::Connection;
///     fn open(&self, _: &Peer) -> Near {
///         let (forward, far) = Forward::pair();
///         Near { to: self.to, forward, far: Some(far) }
///     }
/// }
///
/// impl Session for Near {
///     type Reply = ();
///     fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
///         self.forward.received(input, cx)
///     }
///     fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
///         if let Some(far) = self.far.take() {
///             cx.connect(self.to, far).map_err(|busy| Close::abort(busy.to_string()))?;
///         }
///         self.forward.called(cx)
///     }
///     fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
///         self.forward.ended();
///         Ok(())
///     }
/// }
/// ```
pub struct Forward {
    lanes: Arc<Mutex<[Lane; 2]>>,
    /// Which of the lanes is filled here.
    side: usize,
}

/// What has come on one side and goes out on the other.
#[derive(Default)]
struct Lane {
    chunks: VecDeque<Chunk>,
    held: usize,
    /// Nothing follows.
    ended: bool,
    /// Whoever fills it is gone before its time.
    broken: bool,
    /// Whoever fills it waits for room.
    full: bool,
    /// Whoever empties it has taken all, and waits for more.
    awaited: bool,
    /// Calls whoever fills it.
    waker: Option<Waker>,
}

impl Forward {
    /// The two sides of two connections that are to be joined.
    pub fn pair() -> (Self, Self) {
        let lanes = Arc::<Mutex<[Lane; 2]>>::default();
        (Self { lanes: Arc::clone(&lanes), side: 0 }, Self { lanes, side: 1 })
    }

    /// Passes on all that has come: to be called in [`Session::receive`].
    ///
    /// # Errors
    /// If the memory of all connections has no room for it.
    pub fn received<S: Session>(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, S>) -> Done {
        let most = most(cx);
        let mut lanes = self.lanes();
        let lane = &mut lanes[self.side];
        while !input.is_empty() {
            let chunk = input.take(input.len().min(most));
            let chunk =
                chunk.ok_or_else(|| Close::abort("there is no memory for what is to be passed on"))?;
            lane.held += chunk.len();
            lane.chunks.push_back(chunk);
        }
        lane.full = lane.held > most || lane.chunks.len() > PIECES;
        if lane.full {
            cx.read(Reading::Never);
        }
        self.call(lanes);
        Ok(())
    }

    /// Sends what the other side has passed on, and reads on where there is room again: to be called in
    /// [`Session::ready`], whatever that is for.
    ///
    /// # Errors
    /// If the other side has broken off.
    pub fn called<S: Session>(&mut self, cx: &mut Context<'_, S>) -> Done {
        let most = most(cx);
        let mut lanes = self.lanes();
        let own = &mut lanes[self.side];
        if own.waker.is_none() {
            own.waker = Some(cx.waker());
        }
        cx.read(if own.full { Reading::Never } else { Reading::Always });
        let other = &mut lanes[1 - self.side];
        if other.broken {
            return Err(Close::abort("the other side has broken off"));
        }
        // More than the mark is told of once it has gone.
        while cx.output().buffered() <= most
            && let Some(chunk) = other.chunks.pop_front()
        {
            other.held -= chunk.len();
            cx.output().forward(chunk);
        }
        other.awaited = other.chunks.is_empty();
        if other.awaited && other.ended {
            cx.finish_sending();
        }
        if other.held <= most / 2 && other.chunks.len() <= PIECES / 2 && mem::take(&mut other.full) {
            wake(&lanes[1 - self.side]);
        }
        Ok(())
    }

    /// Nothing follows on this side: to be called in [`Session::end`].
    pub fn ended(&mut self) {
        let mut lanes = self.lanes();
        lanes[self.side].ended = true;
        self.call(lanes);
    }

    /// Calls the other side if it waits for what is new in this one's lane.
    fn call(&self, mut lanes: MutexGuard<'_, [Lane; 2]>) {
        if mem::take(&mut lanes[self.side].awaited) {
            wake(&lanes[1 - self.side]);
        }
    }

    fn lanes(&self) -> MutexGuard<'_, [Lane; 2]> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls whoever fills a lane.
fn wake(lane: &Lane) {
    if let Some(waker) = &lane.waker {
        waker.wake();
    }
}

/// How much a lane holds before it is full: as much as an output before it is not to be filled further. A piece is no
/// larger, so that it always fits.
fn most<S: Session>(cx: &Context<'_, S>) -> usize {
    cx.host.shared.budget.high_water().max(1)
}

impl Session for Forward {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.received(input, cx)
    }

    /// A drain does not end what others have to say to each other.
    fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.called(cx)
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        self.ended();
        Ok(())
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let mut lanes = self.lanes();
        let other = &lanes[1 - self.side];
        let over = other.ended && other.chunks.is_empty();
        let own = &mut lanes[self.side];
        own.broken = !(over && own.ended);
        own.waker = None;
        if own.broken {
            // What the other side has not sent by now it never will.
            let left = lanes.each_mut().map(|lane| (mem::take(&mut lane.held), mem::take(&mut lane.chunks)));
            wake(&lanes[1 - self.side]);
            drop(lanes);
            drop(left);
        }
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("side", &self.side).finish_non_exhaustive()
    }
}
