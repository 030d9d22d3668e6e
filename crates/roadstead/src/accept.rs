//! Taking connections out of the backlog without ever losing the listener: the same for every model.
#![forbid(unsafe_code)]

use std::{io, sync::Arc, time::Duration};

use rustix::io::Errno;

use crate::{
    budget::Permit,
    connection::{Connection, Endpoint},
    guard,
    host::{Host, Shared},
    layer::{Layers, through},
    net::Net,
    service::{Peer, Service},
};

/// How long a listener rests when the system has no room for another connection.
pub(crate) const REST: Duration = Duration::from_millis(50);

/// A listening socket, and what becomes of the connections that come to it.
pub(crate) struct Door<L> {
    pub(crate) listener: L,
    open: Arc<Open>,
}

/// Makes the endpoint of an admitted connection.
type Open = dyn Fn(Peer, Permit) -> Box<dyn Endpoint> + Send + Sync;

impl<L> Door<L> {
    /// A door to `service`, through `layers` if there are some.
    pub(crate) fn new<S: Service>(
        listener: L,
        service: Arc<S>,
        shared: Arc<Shared>,
        layers: Option<Arc<dyn Layers>>,
    ) -> Self {
        let open = Arc::new(move |peer: Peer, permit: Permit| {
            let session = service.open(&peer);
            let connection: Box<dyn Endpoint> =
                Box::new(Connection::accepted(session, peer, Arc::clone(&shared), permit));
            match &layers {
                Some(layers) => through(&**layers, connection, peer.address, Arc::clone(&shared)),
                None => connection,
            }
        });
        Self { listener, open }
    }
}

/// What came out of the backlog.
pub(crate) enum Accepted<T> {
    /// A connection that the budget admits.
    Admitted(T, Box<dyn Endpoint>),
    /// One that was turned away, or broke while it waited. There may be more.
    Refused,
    /// Nothing waits.
    Empty,
    /// The system has no room for another connection: try again after [`REST`].
    Exhausted,
}

/// Takes one connection out of the backlog and asks the budget about it.
pub(crate) fn next<N: Net>(net: &mut N, door: &Door<N::Listener>, host: &mut Host) -> Accepted<N::Stream> {
    let (stream, address) = match net.accept(&door.listener) {
        Ok(accepted) => accepted,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::Empty,
        Err(error) if is_one_of(&error, &PASSING) => return Accepted::Refused,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            if is_one_of(&error, &[Errno::MFILE, Errno::NFILE]) && net.shed(&door.listener) {
                host.count.refused += 1;
                return Accepted::Refused;
            }
            return Accepted::Exhausted;
        }
    };
    match host.shared.gate.admit(Some(address.ip())) {
        Ok(permit) => {
            let Some(endpoint) = guard::call(|| (door.open)(Peer { address }, permit)) else {
                tracing::error!(%address, "the service panicked while it opened a session; the connection is closed");
                host.count.refused += 1;
                net.close(stream, true);
                return Accepted::Refused;
            };
            host.count.accepted += 1;
            Accepted::Admitted(stream, endpoint)
        }
        Err(why) => {
            host.count.refused += 1;
            tracing::debug!(%address, %why, "connection refused");
            net.close(stream, true);
            Accepted::Refused
        }
    }
}

/// Errors that concern one connection in the backlog and not the listener: accept(2).
const PASSING: [Errno; 8] = [
    Errno::INTR,
    Errno::CONNABORTED,
    Errno::PROTO,
    Errno::PERM,
    Errno::NETDOWN,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
];

fn is_one_of(error: &io::Error, codes: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.iter().any(|errno| errno.raw_os_error() == code))
}
