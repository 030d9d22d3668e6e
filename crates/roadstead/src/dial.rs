//! Outgoing connections without a server: a loop of their own that holds sessions we are the client of.
#![forbid(unsafe_code)]

use std::{fmt, io, sync::Arc};

use roadstead_os::threads::server::{ServerThreads, Shape, Sockets};
use roadstead_proto::{
    address::Address,
    budget::Budget,
    connection::{
        Endpoint,
        dialling::{Dial, dial},
    },
    host::Shared,
    layer::Layers,
    service::Session,
    session::Busy,
    stats::Snapshot,
    ticket::Waker,
};

use crate::model::Model;

/// Holds outgoing connections, driven by one loop in a thread of its own.
///
/// The session at our end is the same state machine as a server's. Give it shared state and keep the [`Waker`] that
/// [`Dialer::connect`] answers, to put work before it from any thread. Dropping the dialer resets its connections.
pub struct Dialer {
    threads: ServerThreads,
    shared: Arc<Shared>,
}

impl Dialer {
    /// Starts the loop, on [`Model::best`].
    ///
    /// # Errors
    /// If the system has no thread or descriptors left.
    pub fn start(budget: Budget) -> io::Result<Self> {
        let shared = Shared::new(budget);
        let entry = Model::best().entry();
        let threads = entry.start(Shape::default(), Arc::clone(&shared), Sockets::default())?;
        Ok(Self { threads, shared })
    }

    /// Begins a connection to `address`. Never blocks: the session hears [`Ready::Opened`](crate::Ready::Opened), or
    /// [`Session::closed`] if it cannot be had within the budget's time.
    ///
    /// # Errors
    /// [`Busy`] when as many connections are open as the budget allows.
    pub fn connect<S: Session>(&self, address: impl Into<Address>, session: S) -> Result<Waker, Busy> {
        dial(self, address, None, session)
    }

    /// Like [`Dialer::connect`], with a layer of `layers` between the wire and `session`, which hears of its opening
    /// once the handshake is done.
    ///
    /// # Errors
    /// [`Busy`] when as many connections are open as the budget allows.
    pub fn connect_through<S: Session>(
        &self,
        address: impl Into<Address>,
        layers: &dyn Layers,
        session: S,
    ) -> Result<Waker, Busy> {
        dial(self, address, Some(layers), session)
    }

    /// What it has counted.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }
}

impl Dial for Dialer {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn begin(&self, endpoint: Box<dyn Endpoint>) {
        self.threads.connect(endpoint);
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("open", &self.shared.gate.open()).finish_non_exhaustive()
    }
}
