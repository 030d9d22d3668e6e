//! How connections are opened: by a session through its context, or from outside of a loop.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{Connection, Endpoint, Outgoing};
use crate::{
    address::Address,
    host::Shared,
    layer::{End, Layers, through},
    service::Session,
    session::{Busy, Context},
    ticket::Waker,
};

impl<S: Session> Context<'_, S> {
    /// Opens a connection to `address`, driven by the same loop; `session` hears
    /// [`Ready::Opened`](crate::Ready::Opened), or [`Session::closed`] if it cannot be had.
    ///
    /// # Errors
    /// [`Busy`] when as many connections are open as the budget allows.
    pub fn connect<T: Session>(&mut self, address: impl Into<Address>, session: T) -> Result<Waker, Busy> {
        self.open(address.into(), None, session)
    }

    /// Like [`Context::connect`], with a layer of `layers` between the wire and `session`, which hears of its opening
    /// once the handshake is done.
    ///
    /// # Errors
    /// [`Busy`] when as many connections are open as the budget allows.
    pub fn connect_through<T: Session>(
        &mut self,
        address: impl Into<Address>,
        layers: &dyn Layers,
        session: T,
    ) -> Result<Waker, Busy> {
        self.open(address.into(), Some(layers), session)
    }

    fn open<T: Session>(
        &mut self,
        address: Address,
        layers: Option<&dyn Layers>,
        session: T,
    ) -> Result<Waker, Busy> {
        let (endpoint, waker) = outgoing(&self.host.shared, address, layers, session)?;
        self.control.connects.push_back(Box::new(Outgoing { endpoint }));
        Ok(waker)
    }
}

/// Who opens connections from outside of any session: a loop that drives them from then on.
pub trait Dial: Send + Sync {
    /// The limits of that loop, and its accounts.
    fn shared(&self) -> &Arc<Shared>;

    /// Begins a connection to the address of `endpoint`, which is at its near end. Never blocks.
    fn begin(&self, endpoint: Box<dyn Endpoint>);
}

/// Has `dialer` begin a connection to `address`, with a layer of `layers`, if there are some, between the wire and
/// `session`. Never blocks: `session` hears [`Ready::Opened`](crate::Ready::Opened), or [`Session::closed`] if it
/// cannot be had within the budget's time.
///
/// # Errors
/// [`Busy`] when as many connections are open as the budget allows.
pub fn dial<S: Session>(
    dialer: &dyn Dial,
    address: impl Into<Address>,
    layers: Option<&dyn Layers>,
    session: S,
) -> Result<Waker, Busy> {
    let (endpoint, waker) = outgoing(dialer.shared(), address.into(), layers, session)?;
    dialer.begin(endpoint);
    Ok(waker)
}

/// What drives `session` at our end of a connection to `address` that is still to be opened.
pub fn outgoing<S: Session>(
    shared: &Arc<Shared>,
    address: Address,
    layers: Option<&dyn Layers>,
    session: S,
) -> Result<(Box<dyn Endpoint>, Waker), Busy> {
    let permit = shared.gate.admit(None).map_err(|_| Busy)?;
    let (connection, waker) = Connection::outgoing(session, address.clone(), Arc::clone(shared), permit);
    let connection: Box<dyn Endpoint> = Box::new(connection);
    let endpoint = match layers {
        Some(layers) => through(layers, connection, End::Dialled(address), Arc::clone(shared)),
        None => connection,
    };
    Ok((endpoint, waker))
}
