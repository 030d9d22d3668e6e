//! The exchange: messages between the servers of a cluster, for which no query waits for another.
//!
//! A member [listens](listen) for its peers and [starts](start) the loops that have its links:
//!
//! ```
//! use std::{sync::mpsc, time::Duration};
//! use roadstead::exchange::{self, Key, Member, MemberId, Options};
//!
//! let listeners = [exchange::listen("127.0.0.1:0".parse()?)?, exchange::listen("127.0.0.1:0".parse()?)?];
//! let members: Vec<Member> = (1..).zip(&listeners)
//!     .map(|(id, listener)| Member::new(id, listener.address()))
//!     .collect();
//! let [first, second] = listeners;
//! let first = exchange::start(MemberId(1), &members, first, None, Options::default())?;
//! let second = exchange::start(MemberId(2), &members, second, None, Options::default())?;
//!
//! let (key, (tell, told)) = (Key { query: 42, round: 0 }, mpsc::channel());
//! first.send(MemberId(2), key, "ahoy")?;
//! second.gather(key, Duration::from_secs(5), move |result| tell.send(result).unwrap());
//! let messages = told.recv()??;
//! assert_eq!((messages[0].0, &messages[0].1[..]), (MemberId(1), &b"ahoy"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is promised of a message is said in `roadstead-exchange`.
#![forbid(unsafe_code)]

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use roadstead_drivers::accept;
use roadstead_exchange::Unit;
use roadstead_os::{
    sockets,
    threads::server::{Shape, Sockets},
};
use roadstead_proto::{layer::Credentials, tuning::Tuning};

use crate::model::Model;
#[cfg(feature = "sim")]
pub use roadstead_exchange::Simulated;
#[doc(hidden)]
pub use roadstead_exchange::fuzz;
pub use roadstead_exchange::{
    Exchange, ExchangeError, ExchangeStats, GatherError, Gathered, Key, Member, MemberId, Message, Missing,
    Options, PeerStats, SendError, Strategy, UnknownStrategy,
};

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

    /// Sets it up as the links of an exchange with this tuning will be, and tells the sizes of their buffers, for sending
    /// and for receiving: a system that gives less than was asked for says so to nobody.
    ///
    /// # Errors
    /// What the system says.
    pub fn tune(&self, tuning: Tuning) -> io::Result<[usize; 2]> {
        sockets::tuning::apply(tuning, &self.socket)?;
        Ok(sockets::tuning::sizes(&self.socket)?)
    }
}

/// Listens for peers, who are served once the exchange is started.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = sockets::listen(address, sockets::BACKLOG, Tuning::default())?;
    let address = sockets::local_address(&socket)?.socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok(Listener { socket, address })
}

/// Starts the loops that have the links of member `me`. With `keys` the links are TLS, see the [module](super).
///
/// # Errors
/// If `me` is not a member, a number stands twice, the keys cannot be used, or there are none and an address is not on
/// this machine; or what the system says.
pub fn start(
    me: MemberId,
    members: &[Member],
    listener: Listener,
    keys: Option<&dyn Credentials>,
    options: Options,
) -> Result<Exchange, ExchangeError> {
    let unit = Unit::new(me, members, listener.address, keys, options)?;
    if keys.is_none() {
        check_loopback(members.iter().map(|member| member.address).chain([listener.address]))?;
    }
    listener.tune(unit.shared.tuning)?;
    let listening = accept::Listener { socket: listener.socket, open: unit.open() };
    let shape = Shape { loops: unit.loops(), ..Shape::default() };
    let sockets = Sockets { listeners: vec![vec![listening]], ..Sockets::default() };
    let threads = Model::Epoll.entry().start(shape, Arc::clone(&unit.shared), sockets)?;
    threads.attend(unit.keepers().map_err(io::Error::other)?)?;
    Ok(Exchange::driven(unit, threads))
}

fn check_loopback(mut addresses: impl Iterator<Item = SocketAddr>) -> Result<(), ExchangeError> {
    match addresses.find(|address| !address.ip().to_canonical().is_loopback()) {
        Some(open) => Err(ExchangeError::Open(open)),
        None => Ok(()),
    }
}
