//! Jobs that are begun from every callback, one by one and many at once.

use std::{sync::mpsc, time::Duration};

use roadstead_proto::{Closed, Context, Done, Input, JobId, Lost, Peer, Ready, Scope, Service, Session};

/// Jobs one after the other, each begun by the reply to the one before.
const CHAIN: u8 = b'c';
/// Many jobs at once.
const BURST: u8 = b'b';
/// A job that a timer begins.
const LATER: u8 = b't';
const ORDERS: [u8; 3] = [CHAIN, BURST, LATER];

const LINKS: u32 = 7;
const AT_ONCE: u32 = 200;

pub(crate) struct Office;

impl Service for Office {
    type Session = Worker;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Worker {
        Worker { chain: 0, burst: 0 }
    }
}

/// Answers each order with the order once it is done.
pub(crate) struct Worker {
    chain: u32,
    burst: u32,
}

impl Session for Worker {
    type Reply = u8;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let order = input.bytes()[0];
        input.consume(1);
        match order {
            LATER => cx.wake_at(Some(cx.now() + Duration::from_millis(1))),
            _ => {
                for _ in 0..if order == BURST { AT_ONCE } else { 1 } {
                    cx.run(1, move || order).unwrap();
                }
            }
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, reply: Result<u8, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let order = reply.unwrap();
        let count = match order {
            CHAIN => &mut self.chain,
            _ => &mut self.burst,
        };
        *count += u32::from(order != LATER);
        match order {
            CHAIN if self.chain < LINKS => drop(cx.run(1, || CHAIN).unwrap()),
            BURST if self.burst < AT_ONCE => {}
            done => cx.output().write(&[done]),
        }
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Timer => drop(cx.run(1, || LATER).unwrap()),
            Ready::Draining => cx.finish(),
            _ => {}
        }
        Ok(())
    }
}

/// Gives every order once, one after the other, and tells whether all were done.
pub(crate) struct Boss {
    given: usize,
    tell: mpsc::Sender<bool>,
}

impl Boss {
    pub(crate) fn new(tell: mpsc::Sender<bool>) -> Self {
        Self { given: 0, tell }
    }
}

impl Session for Boss {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&ORDERS[..1]);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        assert_eq!(input.bytes(), [ORDERS[self.given]]);
        input.consume(1);
        self.given += 1;
        match ORDERS.get(self.given) {
            Some(order) => cx.output().write(&[*order]),
            None => cx.finish(),
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send(self.given == ORDERS.len()).unwrap();
    }
}
