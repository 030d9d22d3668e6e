//! Where a server is to listen: at an address, or on a socket that is there already.
#![forbid(unsafe_code)]

use std::{
    fmt, io, iter,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::{AsRawFd, OwnedFd},
};

use roadstead_os::sockets::{self, given};
use roadstead_proto::tuning::Tuning;

use crate::error::StartError;

pub(crate) enum Place {
    /// An address as it was written, and those that it stands for.
    Address(String, io::Result<Vec<SocketAddr>>),
    Socket(OwnedFd),
}

impl Place {
    pub(crate) fn at(address: impl ToSocketAddrs + fmt::Display) -> Self {
        Self::Address(address.to_string(), address.to_socket_addrs().map(Iterator::collect))
    }

    /// Listens there, so many times: of each address as many sockets. One that is there already stands for all.
    pub(crate) fn listen(
        self,
        times: usize,
        backlog: i32,
        tuning: Tuning,
    ) -> Result<Vec<Vec<OwnedFd>>, StartError> {
        match self {
            Place::Address(name, addresses) => {
                let failed = |source| StartError::Bind { address: name.clone(), source };
                let listen = |address| match times {
                    1 => sockets::listen(address, backlog, tuning).map(|socket| vec![socket]),
                    _ => sockets::listen_together(address, times, backlog, tuning),
                };
                let listen = |address| listen(address).map_err(failed);
                addresses.map_err(failed)?.into_iter().map(listen).collect()
            }
            Place::Socket(socket) => {
                let descriptor = socket.as_raw_fd();
                let taken =
                    given::take(socket, tuning).map_err(|why| StartError::Listener { descriptor, why })?;
                let again = (1..times).map(|_| taken.try_clone()).collect::<io::Result<Vec<_>>>()?;
                Ok(vec![iter::once(taken).chain(again).collect()])
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(name, _) => name.fmt(f),
            Place::Socket(socket) => write!(f, "descriptor {}", socket.as_raw_fd()),
        }
    }
}
