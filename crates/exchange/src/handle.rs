//! The handle of a member: sends, gathers.
#![forbid(unsafe_code)]

use std::{any::Any, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;

use roadstead_proto::guard::Guarded;

use crate::{
    error::{GatherError, SendError},
    hub::Gathered,
    options::{Key, MemberId},
    stats::ExchangeStats,
    unit::Unit,
};

/// This member's part of the exchange. A clone is another handle of the same; with the last one the links end.
#[derive(Clone)]
pub struct Exchange(Arc<Running>);

struct Running {
    unit: Unit,
    /// Ends the loop when it is dropped.
    _driver: Box<dyn Any + Send + Sync>,
}

impl Exchange {
    /// The handle of a member that a loop drives until `driver` is dropped.
    pub fn driven(unit: Unit, driver: impl Any + Send + Sync) -> Self {
        Self(Arc::new(Running { unit, _driver: Box::new(driver) }))
    }

    #[cfg(feature = "sim")]
    pub(crate) fn unit(&self) -> &Unit {
        &self.0.unit
    }

    /// Where the peers reach this member.
    pub fn address(&self) -> SocketAddr {
        self.0.unit.address
    }

    /// Which member this is.
    pub fn me(&self) -> MemberId {
        self.0.unit.hub.me
    }

    /// Sends `message` to a peer. Never blocks; a peer that cannot be reached has it when it can, unless
    /// [`Options::patience`](super::Options::patience) is over by then.
    ///
    /// # Errors
    /// [`SendError`]; nothing is sent then.
    pub fn send(&self, to: MemberId, key: Key, message: impl Into<Bytes>) -> Result<(), SendError> {
        let peer = self.0.unit.hub.index(to).ok_or(SendError::Unknown(to))?;
        self.0.unit.hub.send(peer, key, message.into())
    }

    /// Sends the same message to all peers, without copying it.
    ///
    /// # Errors
    /// [`SendError`] of the first peer to whom it cannot be sent; those before have it.
    pub fn send_all(&self, key: Key, message: impl Into<Bytes>) -> Result<(), SendError> {
        let message = message.into();
        (0..self.0.unit.hub.peers.len()).try_for_each(|peer| self.0.unit.hub.send(peer, key, message.clone()))
    }

    /// Asks for the messages of all peers; `done` has them, or by the end of `patience` the names of those who are
    /// missing. It is called once, on the exchange's loop or at once on this thread, and must be short. If the exchange
    /// ends before, it is dropped.
    pub fn gather(
        &self,
        key: Key,
        patience: Duration,
        done: impl FnOnce(Result<Gathered, GatherError>) + Send + 'static,
    ) {
        self.0.unit.hub.gather(key, patience, Guarded::new(Box::new(done)));
    }

    /// Gives up a key whose messages are not wanted, whether they have come or not. A gather that waits for it hears
    /// nothing.
    pub fn forget(&self, key: Key) {
        self.0.unit.hub.forget(key);
    }

    /// What it has counted.
    pub fn stats(&self) -> ExchangeStats {
        let mut stats = self.0.unit.hub.stats();
        stats.refused += self.0.unit.shared.stats().snapshot().refused;
        stats
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("me", &self.0.unit.hub.me)
            .field("address", &self.0.unit.address)
            .finish_non_exhaustive()
    }
}
