//! What other threads ask of a loop that drives many connections.
#![forbid(unsafe_code)]

use std::{mem, net::SocketAddr, sync::PoisonError};

use crate::{
    connection::Endpoint,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    ticket::{Bell, Token},
};

/// What other threads ask of a loop.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    draining: AtomicBool,
    stopped: AtomicBool,
    newcomers: Mutex<Vec<Newcomer>>,
}

/// An endpoint, and where its connection goes to; nowhere, if it has none.
pub(crate) type Newcomer = (Option<SocketAddr>, Box<dyn Endpoint>);

impl Orders {
    pub(crate) fn drain(&self, bell: &Bell) {
        self.draining.store(true, SeqCst);
        bell.ring(ORDERS);
    }

    pub(crate) fn stop(&self, bell: &Bell) {
        self.stopped.store(true, SeqCst);
        bell.ring(ORDERS);
    }

    pub(crate) fn connect(&self, address: SocketAddr, endpoint: Box<dyn Endpoint>, bell: &Bell) {
        self.add(Some(address), endpoint, bell);
    }

    /// Drives a session that has no connection, only timers, tickets and connections that it opens.
    pub(crate) fn attend(&self, endpoint: Box<dyn Endpoint>, bell: &Bell) {
        self.add(None, endpoint, bell);
    }

    /// Endpoints that have come from outside, each once.
    pub(crate) fn newcomers(&self) -> Vec<Newcomer> {
        mem::take(&mut *self.newcomers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    fn add(&self, address: Option<SocketAddr>, endpoint: Box<dyn Endpoint>, bell: &Bell) {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner).push((address, endpoint));
        bell.ring(ORDERS);
    }
}

/// Rings for the loop itself rather than for a connection.
pub(crate) const ORDERS: Token = Token(u64::MAX - 1);
