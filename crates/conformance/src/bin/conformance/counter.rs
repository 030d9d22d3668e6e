//! A count that all connections share: each byte is answered with its number among those of all.

use std::time::Duration;

use roadstead::{
    Actor, Asked, Close, Closed, Context, Done, Input, JobId, Lost, Peer, Ready, Scope, Service, Session,
};
use roadstead_conformance::asks::{COUNTS_NOTHING, COUNTS_SLOWLY};

use crate::say;

/// The most bytes that are counted at once.
const AT_ONCE: usize = 1000;

#[derive(Default)]
pub(crate) struct Counter {
    count: Actor<u64>,
}

pub(crate) struct CounterSession {
    count: Actor<u64>,
    waits: bool,
    drains: bool,
}

impl Service for Counter {
    type Session = CounterSession;
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> CounterSession {
        CounterSession { count: self.count.clone(), waits: false, drains: false }
    }
}

/// Counts the bytes, up to one that is meant to go wrong. Answers with their numbers.
fn count(bytes: &[u8], count: &mut u64) -> Vec<u8> {
    let mut numbers = Vec::new();
    for &byte in bytes {
        match byte {
            COUNTS_NOTHING => panic!("an operation that is meant to panic"),
            COUNTS_SLOWLY => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        *count += 1;
        numbers.extend(count.to_le_bytes());
    }
    numbers
}

impl Session for CounterSession {
    type Reply = Vec<u8>;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if self.waits {
            return Ok(());
        }
        let bytes = input.bytes()[..input.len().min(AT_ONCE)].to_vec();
        let used = bytes.len();
        match self.count.ask(cx, used, move |all| count(&bytes, all)) {
            Ok(Asked::Done(numbers)) => answer(numbers, cx)?,
            Ok(Asked::Later(_)) => self.waits = true,
            Err(_) => {
                cx.wake_at(Some(cx.now() + Duration::from_millis(1)));
                return Ok(());
            }
        }
        input.consume(used);
        if self.drains && !self.waits && input.is_empty() {
            cx.finish();
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, numbers: Result<Vec<u8>, Lost>, cx: &mut Context<'_, Self>) -> Done {
        self.waits = false;
        answer(numbers, cx)?;
        if self.drains {
            cx.finish();
        }
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.drains |= why == Ready::Draining;
        if self.drains && !self.waits {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, why: &Closed) {
        say::closed("closed", why);
    }
}

fn answer(numbers: Result<Vec<u8>, Lost>, cx: &mut Context<'_, CounterSession>) -> Done {
    cx.output().write(&numbers.map_err(|_| Close::abort("the operation was lost"))?);
    Ok(())
}
