//! A server that runs: what it has counted, and how it ends.
#![forbid(unsafe_code)]

use std::{mem, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use roadstead_os::{
    descriptors,
    ending::Ended,
    outcome::{Broken, Undrained},
    threads::server::ServerThreads,
};
use roadstead_proto::{address::Address, host::Shared, stats::Snapshot};

use crate::{error::DrainError, model::Model};

/// A server that runs. Dropping it stops it at once, and waits for that unless a session or a job does it;
/// [`Running::drain`] lets it finish.
#[derive(Debug)]
pub struct Running {
    pub(crate) threads: ServerThreads,
    pub(crate) shared: Arc<Shared>,
    pub(crate) places: Vec<Address>,
    /// Those of them that are of TCP.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it has sockets of UDP.
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) model: Model,
    pub(crate) loops: usize,
}

impl Running {
    /// Where it listens with TCP, with the ports that the system chose, in the order they were asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it listens, be it with TCP or on Unix sockets, in the order they were asked for.
    pub fn places(&self) -> &[Address] {
        &self.places
    }

    /// Where its [datagram services](crate::Server::bind_datagrams) are, with the ports that the system chose, in the
    /// order they were asked for.
    pub fn datagram_addresses(&self) -> &[SocketAddr] {
        &self.udp
    }

    /// Says in the log how many connections fit, if that is fewer than are allowed.
    pub(crate) fn check_descriptors(&self) {
        // Those who are there have theirs.
        let Shared { budget, gate, .. } = &*self.shared;
        descriptors::check(budget.connections.saturating_sub(gate.open()));
    }

    /// Where it listens for connections, and then where for datagrams.
    pub(crate) fn all_places(&self) -> Vec<Address> {
        self.places.iter().cloned().chain(self.udp.iter().map(|&address| address.into())).collect()
    }

    /// On what it runs.
    pub fn model(&self) -> Model {
        self.model
    }

    /// On how many loops; one where the model has none.
    pub fn loops(&self) -> usize {
        self.loops
    }

    /// What it has counted.
    pub fn stats(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.gate.open()
    }

    /// Bytes that its connections hold between turns.
    pub fn buffered(&self) -> usize {
        self.shared.buffered()
    }

    /// What has become of it: `None` while it serves, an error once its loop has ended although nobody had told it to.
    /// `Ok` is for who looks while the server is let go of.
    pub fn ended(&self) -> Option<Result<(), Broken>> {
        self.threads.ended().so_far()
    }

    /// Waits until it has [`ended`](Running::ended). A server that is well never does.
    ///
    /// # Errors
    /// [`Broken`]: why its loop has ended. Nobody is served any more; [`Running::drain`] answers the same.
    pub fn wait(&self) -> Result<(), Broken> {
        loop {
            self.threads.ended().wait(Duration::MAX);
            if let Some(end) = self.ended() {
                return end;
            }
        }
    }

    /// Takes its listening sockets from it, in the order of its [places](Running::places): as they are, with all who wait there. It
    /// accepts no more, and serves who is in until it is drained or dropped. So a server can hand over to its successor
    /// ([`Server::listener`](crate::Server::listener)) with nobody turned away meanwhile. The file of a Unix socket
    /// stays, and is the taker's to remove. Where each loop listens ([`Spread::Kernel`](crate::server::Spread::Kernel)), those of
    /// one loop come after those of another.
    ///
    /// Empty if they were taken before, or its loop has [`ended`](Running::ended).
    pub fn take_listeners(&self) -> Vec<OwnedFd> {
        self.threads.take_listeners()
    }

    /// Accepts no more, tells every session, and waits for them and for the jobs under way to finish: for at most
    /// `patience`, and a moment to reset the rest. A job that is still being done then is left to itself: see
    /// [`Undrained::working`].
    ///
    /// # Errors
    /// [`DrainError`] if something had not finished, or a loop had ended before its time.
    pub fn drain(self, patience: Duration) -> Result<Snapshot, DrainError> {
        self.begin_drain();
        self.threads.ended().wait(patience);
        self.finish()
    }

    /// Accepts no more, and tells every session.
    pub(crate) fn begin_drain(&self) {
        self.threads.drain();
    }

    /// Who knows when its threads have ended.
    pub(crate) fn threads(&self) -> &Ended {
        self.threads.ended()
    }

    /// Resets what is still open, and leaves behind what is at a job.
    pub(crate) fn finish(mut self) -> Result<Snapshot, DrainError> {
        let (over, open) = (self.ended().is_some(), self.open());
        let reset_before = self.stats().stopped;
        let datagrams = self.threads.have_datagrams();
        let working = !self.threads.leave();
        if let Some(Err(broken)) = self.ended() {
            return Err(broken.into());
        }
        // Who waited in the backlog when the patience was over was let in only to be reset, and was not open before.
        let reset = usize::try_from(self.stats().stopped - reset_before).unwrap_or(usize::MAX);
        let connections = if over { 0 } else { open.max(reset) };
        if working || datagrams || connections > 0 {
            return Err(Undrained { connections, datagrams, working, counts: Box::new(self.stats()) }.into());
        }
        Ok(self.stats())
    }

    /// Resets what is still open, and does not wait for a job that computes.
    pub(crate) fn abandon(self) {
        self.threads.order_stop();
        mem::forget(self);
    }
}
