//! The exchange: messages between the servers of a cluster, for which no query waits for another.
//!
//! Every member sends its message of a (query, round) to its peers and gathers theirs. Members know each other by number
//! and address; links between them are kept, dialled again with back-off when they are lost, and carry what was not
//! confirmed once more. A gather ends with the messages of all peers, or by its deadline with the names of those who
//! are missing; what comes late or twice is dropped and counted.
//!
//! How messages travel is a [`Strategy`]: one at a time on a shared connection, on a connection of its own, on one out
//! of a pool, or all at once in parts on one connection.
//!
//! With [`Keys`] every link is TLS in both directions: a member talks only to those who prove with a certificate of the
//! same authority that they are who they say. Without keys nothing but loopback addresses is accepted.
//!
//! The links are sessions on a reactor of their own. A service on any model sends from its session or job, and takes a
//! ticket for what it gathers: `exchange.gather(key, patience, move |result| ticket.finish(result))`.
//!
//! ```
//! use std::{sync::mpsc, time::Duration};
//! use roadstead::exchange::{Exchange, Key, Member, MemberId, Options};
//!
//! let listeners = [Exchange::listen("127.0.0.1:0".parse()?)?, Exchange::listen("127.0.0.1:0".parse()?)?];
//! let members: Vec<Member> = (1..).zip(&listeners)
//!     .map(|(id, listener)| Member::new(id, listener.address()))
//!     .collect();
//! let [first, second] = listeners;
//! let first = Exchange::start(MemberId(1), &members, first, None, Options::default())?;
//! let second = Exchange::start(MemberId(2), &members, second, None, Options::default())?;
//!
//! let (key, (tell, told)) = (Key { query: 42, round: 0 }, mpsc::channel());
//! first.send(MemberId(2), key, "ahoy")?;
//! second.gather(key, Duration::from_secs(5), move |result| tell.send(result).unwrap());
//! let messages = told.recv()??;
//! assert_eq!((messages[0].0, &messages[0].1[..]), (MemberId(1), &b"ahoy"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(test)]
mod flipped;
#[doc(hidden)]
pub mod fuzz;
mod hub;
mod keeper;
mod link;
mod memory;
mod message;
mod options;
mod outbox;
#[cfg(test)]
mod reference;
mod stats;
mod taken;
#[cfg(test)]
mod tests;
mod trust;
mod unit;
mod wire;

use std::{any::Any, fmt, io, net::SocketAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    guard::Guarded,
    lives::Shape,
    model::Model,
    os,
    tls::{Keys, TlsError},
    tuning::Tuning,
};

pub(crate) use unit::{Accounts, Unit};

pub use hub::Gathered;
pub use message::Message;
pub use options::{Key, Member, MemberId, Options, Strategy, UnknownStrategy};
pub use stats::{ExchangeStats, PeerStats};

/// Why a message was not taken for sending: the caller's fault, or too much at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No member has this number, or it is this one's own.
    #[error("{0} is not a peer of this exchange")]
    Unknown(MemberId),
    /// Larger than any message may be.
    #[error("a message of {length} bytes; at most {limit} can be sent")]
    TooLarge {
        /// Its length.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// As much as may wait for this peer does so already.
    #[error("{limit} bytes already wait to be sent to {to}")]
    Full {
        /// To whom.
        to: MemberId,
        /// How much may wait, in bytes.
        limit: usize,
    },
}

/// A member whose message did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Who.
    pub id: MemberId,
    /// Where it was expected.
    pub address: SocketAddr,
    /// What is known of the reason, if there is no link to it.
    pub why: Option<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.address)?;
        self.why.iter().try_for_each(|why| write!(f, " ({why})"))
    }
}

/// Why a gather has not what it wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// The deadline has passed.
    #[error("no message within {patience:?} from {}", names(.missing))]
    Missing {
        /// How long was waited.
        patience: Duration,
        /// Whose messages are missing.
        missing: Vec<Missing>,
    },
    /// This key was gathered before, or given up: the caller's fault, or it came too late.
    #[error("the messages of this query and round were gathered or given up before")]
    Repeated,
}

fn names(missing: &[Missing]) -> String {
    let names: Vec<String> = missing.iter().map(Missing::to_string).collect();
    names.join(", ")
}

/// Why an exchange could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The members are not a cluster.
    #[error("{0}")]
    Members(String),
    /// Without keys nobody else may reach the members.
    #[error("{0} is not a loopback address: links without keys stay on one machine; give the members keys")]
    Open(SocketAddr),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] TlsError),
    /// The system.
    #[error("the exchange could not be started: {0}")]
    System(#[from] io::Error),
}

/// A socket on which peers will be heard.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// This member's part of the exchange. A clone is another handle of the same; with the last one the links end.
#[derive(Clone)]
pub struct Exchange(Arc<Running>);

struct Running {
    unit: Unit,
    /// Ends the loop when it is dropped.
    _driver: Box<dyn Any + Send + Sync>,
}

impl Exchange {
    /// Listens for peers, who are served once the exchange is started.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(address: SocketAddr) -> io::Result<Listener> {
        let socket = os::listen(address, os::BACKLOG, Tuning::default())?;
        let address = os::local_address(&socket)?;
        Ok(Listener { socket, address })
    }

    /// Starts the loop that holds the links of member `me`. With `keys` the links are TLS, see the [module](self).
    ///
    /// # Errors
    /// If `me` is not a member, a number stands twice, the keys cannot be used, or there are none and an address is not
    /// on this machine; or what the system says.
    pub fn start(
        me: MemberId,
        members: &[Member],
        listener: Listener,
        keys: Option<&Keys>,
        options: Options,
    ) -> Result<Self, ExchangeError> {
        let unit = Unit::new(me, members, listener.address, keys, options)?;
        if keys.is_none() {
            check_loopback(members.iter().map(|member| member.address).chain([listener.address]))?;
        }
        unit.shared.tuning.size(&listener.socket).map_err(io::Error::from)?;
        let door = unit.door(listener.socket);
        let lives = Model::Epoll.entry().start(Shape::default(), Arc::clone(&unit.shared), vec![door])?;
        lives.attend(unit.keeper().map_err(io::Error::other)?)?;
        Ok(Self::driven(unit, lives))
    }

    /// The handle of a member that a loop drives until `driver` is dropped.
    pub(crate) fn driven(unit: Unit, driver: impl Any + Send + Sync) -> Self {
        Self(Arc::new(Running { unit, _driver: Box::new(driver) }))
    }

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
    /// [`Options::patience`] is over by then.
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

fn check_loopback(mut addresses: impl Iterator<Item = SocketAddr>) -> Result<(), ExchangeError> {
    match addresses.find(|address| !address.ip().to_canonical().is_loopback()) {
        Some(open) => Err(ExchangeError::Open(open)),
        None => Ok(()),
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
