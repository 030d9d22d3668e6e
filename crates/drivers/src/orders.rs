//! [`Orders`]: what other threads ask of a loop. To serve, drain or stop ([`Order`]), and to drive another connection.
#![forbid(unsafe_code)]

use std::{mem, sync::PoisonError};

use crate::{
    connection::Endpoint,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    ticket::{Token, WakeQueue},
};

/// What a server wants of whoever drives its connections. Each goes further than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Serve those who come.
    Serve,
    /// Cede the listeners to whoever else has them, with those who wait there. Who is in is served on.
    Cede,
    /// Let nobody in, and have those who are in finish.
    Drain,
    /// End at once.
    Stop,
}

/// The furthest that was ordered so far: no order is taken back. What a drain or a stop would do about the listeners is
/// not its business if they were ceded before, however late that is heard.
#[derive(Debug, Default)]
pub(crate) struct Ordered {
    order: AtomicU8,
    ceded: AtomicBool,
}

impl Ordered {
    pub(crate) fn raise(&self, order: Order) {
        if order == Order::Cede && self.get() < Order::Drain {
            self.ceded.store(true, SeqCst);
        }
        self.order.fetch_max(order as u8, SeqCst);
    }

    /// Whether the listeners were ceded before anything that goes further was ordered. To be asked after
    /// [`Ordered::get`], so that it is not older.
    pub(crate) fn has_ceded(&self) -> bool {
        self.ceded.load(SeqCst)
    }

    pub(crate) fn get(&self) -> Order {
        match self.order.load(SeqCst) {
            0 => Order::Serve,
            1 => Order::Cede,
            2 => Order::Drain,
            _ => Order::Stop,
        }
    }
}

/// What other threads ask of a loop.
#[derive(Debug, Default)]
pub struct Orders {
    ordered: Ordered,
    newcomers: Mutex<Vec<Newcomer>>,
}

/// Whose connection is to be opened, or has none.
#[derive(Debug)]
pub(crate) enum Newcomer {
    Dials(Box<dyn Endpoint>),
    Attends(Box<dyn Endpoint>),
}

impl Orders {
    /// Has the loop cede its listeners to whoever else has them, with those who wait there.
    pub fn cede(&self, wake_queue: &WakeQueue) {
        self.ordered.raise(Order::Cede);
        wake_queue.wake(ORDERS);
    }

    /// Has the loop let nobody in and end when all are gone.
    pub fn drain(&self, wake_queue: &WakeQueue) {
        self.ordered.raise(Order::Drain);
        wake_queue.wake(ORDERS);
    }

    /// Has the loop end at once.
    pub fn stop(&self, wake_queue: &WakeQueue) {
        self.ordered.raise(Order::Stop);
        wake_queue.wake(ORDERS);
    }

    /// Opens a connection to the endpoint's address.
    pub fn connect(&self, endpoint: Box<dyn Endpoint>, wake_queue: &WakeQueue) {
        self.add(Newcomer::Dials(endpoint), wake_queue);
    }

    /// Drives a session that has no connection, only timers, tickets and connections that it opens.
    pub fn attend(&self, endpoint: Box<dyn Endpoint>, wake_queue: &WakeQueue) {
        self.add(Newcomer::Attends(endpoint), wake_queue);
    }

    /// Endpoints that have come from outside, each once.
    pub(crate) fn newcomers(&self) -> Vec<Newcomer> {
        mem::take(&mut *self.newcomers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the server wants now.
    pub fn order(&self) -> Order {
        self.ordered.get()
    }

    /// Whether the listeners were ceded, before the order that was asked for last.
    pub(crate) fn has_ceded(&self) -> bool {
        self.ordered.has_ceded()
    }

    fn add(&self, newcomer: Newcomer, wake_queue: &WakeQueue) {
        self.newcomers.lock().unwrap_or_else(PoisonError::into_inner).push(newcomer);
        wake_queue.wake(ORDERS);
    }
}

/// Calls the loop itself rather than for a connection.
pub(crate) const ORDERS: Token = Token(u64::MAX - 1);
