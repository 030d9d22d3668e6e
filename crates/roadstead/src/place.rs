//! Where a server is to listen: at an address, or on a socket that is there already.
#![forbid(unsafe_code)]

use std::{
    fmt, io, iter,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::{AsRawFd, OwnedFd},
};

use roadstead_os::sockets::{
    self, given,
    unix::{self, SocketFile},
};
use roadstead_proto::{
    address::{Address, UnixName, is_unix},
    tuning::Tuning,
};

use crate::error::StartError;

pub(crate) enum Place {
    /// An address as it was written, and those that it stands for.
    Address(String, io::Result<Vec<Address>>),
    Socket(OwnedFd),
}

/// Sockets that listen: of each time that they were asked for, those of all places. And the files that they have.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Dropped first, as a [`SocketFile`] asks for.
    pub(crate) files: Vec<SocketFile>,
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
}

impl Listening {
    /// Listens at all places, so many times.
    pub(crate) fn at(
        places: Vec<Place>,
        times: usize,
        backlog: i32,
        tuning: Tuning,
    ) -> Result<Self, StartError> {
        let mut all = Self { sockets: (0..times).map(|_| Vec::new()).collect(), files: Vec::new() };
        for place in places {
            for sockets in place.listen(times, backlog, tuning, &mut all.files)? {
                all.sockets.iter_mut().zip(sockets).for_each(|(all, socket)| all.push(socket));
            }
        }
        Ok(all)
    }
}

impl Place {
    pub(crate) fn at(address: impl ToSocketAddrs + fmt::Display) -> Self {
        let text = address.to_string();
        let all = match is_unix(&text) {
            true => text.parse::<UnixName>().map(|name| vec![name.into()]).map_err(io::Error::other),
            false => address.to_socket_addrs().map(|all| all.map(Address::from).collect()),
        };
        Self::Address(text, all)
    }

    /// Listens there, so many times: of each address as many sockets. One that is there already, or is no socket of
    /// TCP, stands for all: there the system spreads nobody, and whoever asks first accepts.
    fn listen(
        self,
        times: usize,
        backlog: i32,
        tuning: Tuning,
        files: &mut Vec<SocketFile>,
    ) -> Result<Vec<Vec<OwnedFd>>, StartError> {
        match self {
            Place::Address(name, addresses) => {
                let failed = |source| StartError::Bind { address: name.clone(), source };
                let mut listen = |address| match address {
                    Address::Ip(address) => ip(address, times, backlog, tuning),
                    Address::Unix(name) => {
                        let (socket, file) = unix::listen(&name, backlog)?;
                        files.extend(file);
                        clones(socket, times)
                    }
                };
                addresses
                    .map_err(failed)?
                    .into_iter()
                    .map(|address| listen(address).map_err(failed))
                    .collect()
            }
            Place::Socket(socket) => {
                let descriptor = socket.as_raw_fd();
                let taken =
                    given::take(socket, tuning).map_err(|why| StartError::Listener { descriptor, why })?;
                Ok(vec![clones(taken, times)?])
            }
        }
    }
}

/// Sockets of their own.
fn ip(address: SocketAddr, times: usize, backlog: i32, tuning: Tuning) -> io::Result<Vec<OwnedFd>> {
    match times {
        1 => sockets::listen(address, backlog, tuning).map(|socket| vec![socket]),
        _ => sockets::listen_together(address, times, backlog, tuning),
    }
}

/// The same socket so many times.
fn clones(socket: OwnedFd, times: usize) -> io::Result<Vec<OwnedFd>> {
    let again = (1..times).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
    Ok(iter::once(socket).chain(again).collect())
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(name, _) => name.fmt(f),
            Place::Socket(socket) => write!(f, "descriptor {}", socket.as_raw_fd()),
        }
    }
}
