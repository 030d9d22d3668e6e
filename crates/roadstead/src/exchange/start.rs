//! Listens for the peers of a member, and starts the loop that holds its links.
#![forbid(unsafe_code)]

use std::{io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use super::{
    error::ExchangeError,
    handle::Exchange,
    options::{Member, MemberId, Options},
    unit::Unit,
};
use crate::{accept::Door, layer::Credentials, lives::Shape, model::Model, os, tuning::Tuning};

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

/// Listens for peers, who are served once the exchange is started.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = os::listen(address, os::BACKLOG, Tuning::default())?;
    let address = os::local_address(&socket)?;
    Ok(Listener { socket, address })
}

/// Starts the loop that holds the links of member `me`. With `keys` the links are TLS, see the [module](super).
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
    os::tuning::size(unit.shared.tuning, &listener.socket).map_err(io::Error::from)?;
    let door = Door { listener: listener.socket, open: unit.open() };
    let lives = Model::Epoll.entry().start(Shape::default(), Arc::clone(&unit.shared), vec![door])?;
    lives.attend(unit.keeper().map_err(io::Error::other)?)?;
    Ok(Exchange::driven(unit, lives))
}

fn check_loopback(mut addresses: impl Iterator<Item = SocketAddr>) -> Result<(), ExchangeError> {
    match addresses.find(|address| !address.ip().to_canonical().is_loopback()) {
        Some(open) => Err(ExchangeError::Open(open)),
        None => Ok(()),
    }
}
