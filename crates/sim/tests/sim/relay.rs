//! A relay: two sessions of one connection each, on one loop, that wake each other; the far one is outgoing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use roadstead_proto::{
    Address, Close, Closed, Context, Done, Input, Peer, Ready, Scope, Service, Session, Waker,
};

/// Bytes that one direction holds at most.
const HELD: usize = 1000;

pub(crate) struct Relay {
    pub(crate) to: Address,
}

impl Service for Relay {
    type Session = Half;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> Half {
        Half { pair: Arc::default(), side: 0, to: Some(self.to.clone()) }
    }
}

/// What the two sessions of a relay share, by side: 0 is the accepted one.
#[derive(Default)]
struct Pair {
    held: [VecDeque<u8>; 2],
    wakers: [Option<Waker>; 2],
    closed: [bool; 2],
}

pub(crate) struct Half {
    pair: Arc<Mutex<Pair>>,
    side: usize,
    /// Where the other side is to be connected to.
    to: Option<Address>,
}

impl Half {
    /// Sends what the other side has brought.
    fn pass(&mut self, cx: &mut Context<'_, Self>) {
        let mut pair = self.pair.lock().unwrap();
        let room = cx.output().room();
        let held = &mut pair.held[1 - self.side];
        let count = held.len().min(room);
        let bytes: Vec<u8> = held.drain(..count).collect();
        cx.output().write(&bytes);
        if pair.closed[1 - self.side] && pair.held[1 - self.side].is_empty() {
            cx.finish();
        }
        if count > 0 {
            self.wake(&pair);
        }
    }

    fn wake(&self, pair: &Pair) {
        if let Some(waker) = &pair.wakers[1 - self.side] {
            waker.wake();
        }
    }
}

impl Session for Half {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if let (Ready::Opened, Some(to)) = (why, self.to.take()) {
            let far = Half { pair: Arc::clone(&self.pair), side: 1, to: None };
            let waker = cx.connect(to, far).map_err(|busy| Close::violation(busy.to_string()))?;
            let mut pair = self.pair.lock().unwrap();
            pair.wakers = [Some(cx.waker()), Some(waker)];
        }
        if why == Ready::Draining {
            cx.finish();
        }
        self.pass(cx);
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        let mut pair = self.pair.lock().unwrap();
        let held = &mut pair.held[self.side];
        let count = input.len().min(HELD - held.len());
        held.extend(&input.bytes()[..count]);
        input.consume(count);
        self.wake(&pair);
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        // What the far side still has to say goes out before: it is asked to close, and says when it has.
        let mut pair = self.pair.lock().unwrap();
        pair.closed[self.side] = true;
        self.wake(&pair);
        drop(pair);
        self.pass(cx);
        Ok(())
    }

    fn closed(self, _: &Closed) {
        let mut pair = self.pair.lock().unwrap();
        pair.closed[self.side] = true;
        self.wake(&pair);
    }
}
