//! A relay: each connection opens another, and carries the bytes and the ends of both.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roadstead::{
    Address, Close, Closed, Context, Done, Input, Peer, Ready, Scope, Service, Session, Waker, tls::Connector,
};

use crate::say;

/// Where it goes to, and through what.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) far: Address,
    pub(crate) connector: Option<Connector>,
    /// Carries whole pieces of so many bytes.
    pub(crate) piece: usize,
}

impl Service for Relay {
    type Session = Side;
    const SCOPE: Scope = Scope::Connection;

    fn open(&self, _: &Peer) -> Side {
        Side { pipe: Arc::default(), me: 0, piece: self.piece, left: false, relay: Some(self.clone()) }
    }
}

/// What the two sides of a relayed connection share.
#[derive(Default)]
struct Pipe {
    /// From each side, for the other.
    bytes: [Vec<u8>; 2],
    ended: [bool; 2],
    /// Not all of a side was heard.
    broken: [bool; 2],
    wakers: [Option<Waker>; 2],
}

/// One side: reads for the other, and writes what the other has read.
pub(crate) struct Side {
    pipe: Arc<Mutex<Pipe>>,
    me: usize,
    piece: usize,
    /// A part of a piece is unread.
    left: bool,
    relay: Option<Relay>,
}

impl Side {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_other(&self) {
        if let Some(waker) = &self.pipe().wakers[1 - self.me] {
            waker.wake();
        }
    }

    fn pump(&mut self, cx: &mut Context<'_, Self>) -> Done {
        let mut pipe = self.pipe();
        cx.output().write(&mem::take(&mut pipe.bytes[1 - self.me]));
        if pipe.broken[1 - self.me] {
            return Err(Close::abort("the other side broke off"));
        }
        if pipe.ended[1 - self.me] {
            cx.finish();
        }
        Ok(())
    }

    fn dial(&mut self, relay: &Relay, cx: &mut Context<'_, Self>) -> Done {
        let side = Side { pipe: Arc::clone(&self.pipe), me: 1, piece: self.piece, left: false, relay: None };
        let dialled = match &relay.connector {
            Some(connector) => cx.connect_through(&relay.far, connector, side),
            None => cx.connect(&relay.far, side),
        };
        let waker = dialled.map_err(|_| Close::abort("no room for the far side"))?;
        self.pipe().wakers = [Some(cx.waker()), Some(waker)];
        Ok(())
    }
}

impl Session for Side {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        let left = input.len() % self.piece;
        let whole = input.len() - left;
        self.pipe().bytes[self.me].extend_from_slice(&input.bytes()[..whole]);
        input.consume(whole);
        input.need(self.piece);
        self.left = left > 0;
        self.wake_other();
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened
            && let Some(relay) = self.relay.take()
        {
            self.dial(&relay, cx)?;
        }
        if why == Ready::Draining {
            cx.finish();
        }
        self.pump(cx)
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        if self.left {
            cx.finish();
            return Ok(());
        }
        self.pipe().ended[self.me] = true;
        self.wake_other();
        Ok(())
    }

    fn closed(self, why: &Closed) {
        say::closed(if self.me == 0 { "closed" } else { "far" }, why);
        let mut pipe = self.pipe();
        pipe.ended[self.me] = true;
        // A connection that is still being opened when a drain begins is given up: there was nothing to lose.
        pipe.broken[self.me] = !matches!(why, Closed::Finished | Closed::Stopped);
        drop(pipe);
        self.wake_other();
    }
}
