//! Taking connections out of the backlog without ever losing the listener: the same for every model.
#![forbid(unsafe_code)]

mod accepts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use roadstead_proto::{
    budget::{Permit, Refused},
    connection::{Connection, Endpoint},
    guard::{self, Guarded},
    host::{Host, Shared},
    layer::{End, Layers, through},
    service::{Peer, Service},
    stats::Refusal,
};

use crate::net::{Failure, Net};
pub(crate) use accepts::Accepts;

/// A listening socket, and what becomes of the connections that come to it.
pub struct Listener<S> {
    /// The socket, or what stands for it.
    pub socket: S,
    /// Makes the endpoint of an admitted connection.
    pub open: Arc<Open>,
}

/// Makes the endpoint of an admitted connection.
pub type Open = dyn Fn(Peer, Permit) -> Box<dyn Endpoint> + Send + Sync;

/// Makes sessions of `service`, behind `layers` if there are some.
pub fn opener<S: Service>(
    service: Arc<S>,
    shared: Arc<Shared>,
    layers: Option<Arc<dyn Layers>>,
) -> Arc<Open> {
    let (service, layers) = (Guarded::new(service), layers.map(Guarded::new));
    Arc::new(move |peer: Peer, permit: Permit| {
        let session = service.open(&peer);
        let end = layers.as_ref().map(|layers| (layers, End::Accepted(peer.address.clone())));
        let connection: Box<dyn Endpoint> =
            Box::new(Connection::accepted(session, peer, Arc::clone(&shared), permit));
        match end {
            Some((layers, end)) => through(&***layers, connection, end, Arc::clone(&shared)),
            None => connection,
        }
    })
}

impl<S> Listener<S> {
    /// A listener for `service`, through `layers` if there are some.
    pub fn new<T: Service>(
        socket: S,
        service: Arc<T>,
        shared: Arc<Shared>,
        layers: Option<Arc<dyn Layers>>,
    ) -> Self {
        Self { socket, open: opener(service, shared, layers) }
    }
}

/// What came out of the backlog, before the budget was asked.
pub enum Taken<T> {
    /// A connection.
    One(T, Peer),
    /// One that broke while it waited. There may be more.
    Lost,
    /// One that was closed because no descriptors are left. There may be more.
    Shed,
    /// Nothing waits.
    Empty,
    /// The system has no room for another connection: try again after [`REST`](crate::net::REST).
    Exhausted,
}

/// What came out of the backlog.
pub enum Accepted<T> {
    /// A connection that the budget admits.
    Admitted(T, Box<dyn Endpoint>),
    /// One that was turned away, or broke while it waited. There may be more.
    Refused,
    /// Nothing waits.
    Empty,
    /// The system has no room for another connection: try again after [`REST`](crate::net::REST).
    Exhausted,
}

/// Takes one connection out of the backlog.
pub fn take<N: Net>(net: &mut N, listener: &N::ListenSocket) -> Taken<N::Stream> {
    let error = match net.accept(listener) {
        Ok((stream, address)) => return Taken::One(stream, Peer { address }),
        Err(error) => error,
    };
    match N::classify(&error) {
        Failure::Empty => Taken::Empty,
        Failure::Passing => Taken::Lost,
        failure => {
            tracing::warn!(%error, "a connection could not be accepted");
            if failure == Failure::NoDescriptors && net.shed(listener) {
                return Taken::Shed;
            }
            Taken::Exhausted
        }
    }
}

/// The most that are taken out of a backlog at once: as many as Linux lets wait (`somaxconn`).
const LAST: usize = 4096;

/// Takes all that wait at a listener which is about to be closed: it would reset them.
pub fn last<N: Net>(net: &mut N, listener: &N::ListenSocket) -> Vec<Taken<N::Stream>> {
    let one = |_| match take(net, listener) {
        Taken::Empty | Taken::Exhausted => None,
        taken => Some(taken),
    };
    (0..LAST).map_while(one).collect()
}

/// Takes one connection out of the backlog and asks the budget about it.
pub fn next<N: Net>(
    net: &mut N,
    listener: &Listener<N::ListenSocket>,
    host: &mut Host,
) -> Accepted<N::Stream> {
    let taken = take(net, &listener.socket);
    decide(taken, net, &*listener.open, host)
}

/// Asks the budget about what was taken out of the backlog.
pub(crate) fn decide<N: Net>(
    taken: Taken<N::Stream>,
    net: &mut N,
    open: &Open,
    host: &mut Host,
) -> Accepted<N::Stream> {
    match taken {
        Taken::One(stream, peer) => match admit(open, peer, host) {
            Some(endpoint) => Accepted::Admitted(stream, endpoint),
            None => {
                net.close(stream, true);
                Accepted::Refused
            }
        },
        Taken::Shed => {
            host.count.refuse(Refusal::Descriptors);
            Accepted::Refused
        }
        Taken::Lost => Accepted::Refused,
        Taken::Empty => Accepted::Empty,
        Taken::Exhausted => Accepted::Exhausted,
    }
}

/// Asks the budget about a connection, and makes its endpoint. `None` if it is to be closed.
fn admit(open: &Open, peer: Peer, host: &mut Host) -> Option<Box<dyn Endpoint>> {
    let permit = permit(&peer, host)?;
    begin(open, peer, permit, host)
}

/// Asks the budget about a connection. `None` if it is to be closed.
pub(crate) fn permit(peer: &Peer, host: &mut Host) -> Option<Permit> {
    let permit = host.shared.gate.admit(peer.address.ip());
    permit
        .inspect_err(|&why| {
            refused(peer, why);
            host.count.refuse(Refusal::Budget(why));
        })
        .ok()
}

/// Makes the endpoint of a connection that the budget has admitted. `None` if it is to be closed.
pub(crate) fn begin(open: &Open, peer: Peer, permit: Permit, host: &mut Host) -> Option<Box<dyn Endpoint>> {
    let endpoint = self::open(open, peer, permit);
    match endpoint {
        Some(_) => host.count.accepted += 1,
        None => host.count.refuse(Refusal::Panicked),
    }
    endpoint
}

/// Says that a connection is turned away.
pub fn refused(peer: &Peer, why: Refused) {
    tracing::debug!(address = %peer.address, %why, "connection refused");
}

/// Makes the endpoint of an admitted connection; `None` if the service panics over it.
pub fn open(open: &Open, peer: Peer, permit: Permit) -> Option<Box<dyn Endpoint>> {
    let address = peer.address.clone();
    let endpoint = guard::call(|| open(peer, permit));
    if endpoint.is_none() {
        tracing::error!(%address, "the service panicked while it opened a session; the connection is closed");
    }
    endpoint
}
