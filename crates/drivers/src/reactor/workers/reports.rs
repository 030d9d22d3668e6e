//! What the workers let the I/O thread know: that a connection has an earlier deadline, opens another, or has ended;
//! and that a worker has.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use crate::{
    connection::Outgoing,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    ticket::{Token, WakeQueue},
};

use crate::orders::Orders;

/// Calls for the list of reports rather than for a connection.
pub(super) const REPORTS: Token = Token(u64::MAX - 2);

pub struct Reports {
    orders: Arc<Orders>,
    wake_queue: Arc<WakeQueue>,
    list: Mutex<Vec<(Token, Report)>>,
    broken: AtomicBool,
}

/// What has become of a connection in its turn.
pub enum Report {
    /// It is to be looked at by then, which is earlier than it was.
    Due(Duration),
    /// It is gone.
    Closed,
}

impl Reports {
    /// An empty list. `wake_queue` is the I/O thread's.
    pub fn new(orders: Arc<Orders>, wake_queue: Arc<WakeQueue>) -> Arc<Self> {
        Arc::new(Self { orders, wake_queue, list: Mutex::default(), broken: AtomicBool::new(false) })
    }

    pub fn add(&self, token: Token, report: Report) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((token, report));
        let first = list.len() == 1;
        drop(list);
        if first {
            self.wake_queue.wake(REPORTS);
        }
    }

    /// A session opens a connection.
    pub fn connect(&self, outgoing: Outgoing) {
        self.orders.connect(outgoing.address, outgoing.endpoint, &self.wake_queue);
    }

    /// A worker ends before its time, with a connection that nobody else will have.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, SeqCst);
        self.wake_queue.wake(REPORTS);
    }

    /// Whether one did.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(SeqCst)
    }

    /// Takes all, in the order they were made.
    pub fn take(&self) -> Vec<(Token, Report)> {
        mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
