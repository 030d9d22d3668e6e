//! Where a server has sockets of UDP, and which service speaks there.
#![forbid(unsafe_code)]

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use roadstead_drivers::datagrams::{LONGEST, place};
use roadstead_os::{
    sockets::datagrams::{Asked, DatagramSocket, bind},
    threads::datagrams::Spoken,
};
use roadstead_proto::{
    datagrams::{DatagramEndpoint, DatagramService, Datagrams},
    host::Shared,
};

use crate::{error::StartError, model::Model, models::Core};

/// Makes what speaks on a socket that is bound there.
type Open = dyn Fn(SocketAddr, &Arc<Shared>) -> Box<dyn DatagramEndpoint> + Send + Sync;

/// An address as it was written, those that it stands for, and the service there.
pub(crate) struct UdpPlace {
    name: String,
    addresses: io::Result<Vec<SocketAddr>>,
    open: Box<Open>,
    /// See [`DatagramService::STAMPED`].
    stamped: bool,
}

impl UdpPlace {
    pub(crate) fn at<S: DatagramService>(address: impl ToSocketAddrs + fmt::Display, service: S) -> Self {
        let service = Arc::new(service);
        Self {
            name: address.to_string(),
            addresses: address.to_socket_addrs().map(Iterator::collect),
            open: Box::new(move |local, shared| {
                Box::new(Datagrams::new(Arc::clone(&service), local, shared))
            }),
            stamped: S::STAMPED,
        }
    }

    /// Binds so many sockets at each of its addresses.
    fn bind(self, times: usize, shared: &Arc<Shared>) -> Result<Vec<Vec<Spoken>>, StartError> {
        let Self { name, addresses, open, stamped } = self;
        let failed = |source| StartError::Bind { address: name.clone(), source };
        // What comes as one has to have room as one.
        let asked = Asked { gather: place(&shared.budget) == LONGEST, stamped };
        let bind = |address| bind(address, times, shared.tuning, asked).map_err(failed);
        let sockets = addresses.map_err(failed)?.into_iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let speak = |socket: DatagramSocket| {
            let endpoint = open(socket.local(), shared);
            (socket, endpoint)
        };
        Ok(sockets.into_iter().map(|sockets| sockets.into_iter().map(speak).collect()).collect())
    }
}

impl fmt::Debug for UdpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// Sockets that are bound: those of each loop, and where they are.
#[derive(Default)]
pub(crate) struct Bound {
    pub(crate) loops: Vec<Vec<Spoken>>,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Bound {
    /// Binds at all places: where `model` has loops each has a socket of every address, and else each socket a thread.
    pub(crate) fn at(
        places: Vec<UdpPlace>,
        model: Model,
        loops: usize,
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        let mut all = Self::default();
        for place in places {
            for sockets in place.bind(loops, shared)? {
                all.addresses.extend(sockets.first().map(|(socket, _)| socket.local()));
                all.add(sockets, model.core() == Core::Blocking);
            }
        }
        Ok(all)
    }

    fn add(&mut self, sockets: Vec<Spoken>, apart: bool) {
        if apart {
            return self.loops.push(sockets);
        }
        self.loops.resize_with(sockets.len().max(self.loops.len()), Vec::new);
        self.loops.iter_mut().zip(sockets).for_each(|(own, socket)| own.push(socket));
    }
}
