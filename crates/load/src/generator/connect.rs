//! Opening the connections, before anything is measured.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use roadstead::{Address, UnixName};
use rustix::net::sockopt;
use socket2::{Domain, SockAddr, Socket, Type};

use super::descriptors::allow_connections;
use super::fault::Fault;
use super::load::{Load, LoadError};
use super::wire::Wire;
use crate::itself::is_its_own_peer;

/// The connections of a load.
pub(super) struct Opened {
    /// At least one, for messages.
    pub(super) active: Vec<Wire>,
    /// To be left silent.
    pub(super) idle: Vec<Wire>,
    /// Those that failed, by reason.
    pub(super) errors: BTreeMap<Fault, u64>,
}

/// Opens the silent connections first and then the active ones, one after the other.
pub(super) fn open(load: &Load) -> Result<Opened, LoadError> {
    allow_connections((load.connections + load.idle) as u64)?;
    let mut opened = Opened {
        active: Vec::with_capacity(load.connections),
        idle: Vec::with_capacity(load.idle),
        errors: BTreeMap::new(),
    };
    let mut last = None;
    for index in 0..load.idle + load.connections {
        match connect(load) {
            Ok(socket) if index < load.idle => opened.idle.push(socket),
            Ok(socket) => opened.active.push(socket),
            Err(error) => {
                let fault = Fault::from(&error);
                // Who does not answer now is not asked thousands of times more, a timeout each.
                let hopeless = fault == Fault::TimedOut;
                let failed = if hopeless { load.idle + load.connections - index } else { 1 };
                *opened.errors.entry(fault).or_default() += failed as u64;
                last = Some(error);
                if hopeless {
                    break;
                }
            }
        }
    }
    match last {
        Some(source) if opened.active.is_empty() => {
            Err(LoadError::Unreachable { target: load.target.clone(), source })
        }
        _ => Ok(opened),
    }
}

fn connect(load: &Load) -> io::Result<Wire> {
    let socket = match &load.target {
        Address::Ip(address) => tcp(address, load.timeout)?,
        Address::Unix(name) => unix(name, load.timeout)?,
    };
    Wire::open(socket, load.layers.as_deref(), load.timeout)
}

fn tcp(address: &SocketAddr, patience: Duration) -> io::Result<Socket> {
    let socket = TcpStream::connect_timeout(address, patience)?;
    if is_its_own_peer(&socket) {
        // Nobody is to find the port in TIME_WAIT.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    socket.set_nodelay(true)?;
    Ok(OwnedFd::from(socket).into())
}

fn unix(name: &UnixName, patience: Duration) -> io::Result<Socket> {
    let name = name.sun_path().ok_or(io::ErrorKind::InvalidInput)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // How long it waits for room among those who wait to be accepted: unix(7).
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(OsStr::from_bytes(name))?)?;
    Ok(socket)
}
