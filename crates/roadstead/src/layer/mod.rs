//! A layer between the wire and a session, such as TLS: a transformation of bytes without any I/O.
//!
//! A [`Layer`] turns what came from the wire into what the session reads, and what the session writes into what goes
//! to the wire. The engine puts it between a loop and a connection, so every session can speak through it on every
//! model, and connections without one pay nothing for it.
#![forbid(unsafe_code)]

mod batch;
mod layered;
mod phase;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;

use crate::{
    connection::Endpoint,
    guard::{self, Guarded},
    host::Shared,
};
use layered::Layered;

pub use crate::identity::Identity;

/// One connection's transformation between wire and session.
pub trait Layer: Send + fmt::Debug {
    /// Uses the bytes that came, appends what they say to `plain`, and what the layer itself has to answer (handshake
    /// messages, alerts) to `reply`. An incomplete record is left in `wire` and shown again with what follows it.
    ///
    /// Called once without bytes when the connection exists, so that a layer that speaks first can.
    ///
    /// # Errors
    /// What is wrong with the bytes, in words for people. What was appended to `reply` is still sent.
    fn open(&mut self, wire: &mut BytesMut, plain: &mut BytesMut, reply: &mut BytesMut) -> io::Result<()>;

    /// Appends to `wire` what carries `plain` to the peer. Called only once the handshake is done. `held` are the bytes
    /// that [`Layer::open`] has left.
    ///
    /// # Errors
    /// If the layer can carry no more.
    fn seal(&mut self, plain: &[u8], held: &mut [u8], wire: &mut BytesMut) -> io::Result<()>;

    /// Appends to `wire` that nothing will follow. `held` are the bytes that [`Layer::open`] has left.
    fn finish(&mut self, held: &mut [u8], wire: &mut BytesMut);

    /// Whether the handshake is done. Nothing but [`Layer::open`] may change that.
    fn is_open(&self) -> bool;

    /// Whether the peer has said that nothing will follow. Nothing but [`Layer::open`] may change that.
    fn has_ended(&self) -> bool;

    /// What the peer has proven about itself, once the handshake is done.
    fn identity(&self) -> Option<Identity>;
}

/// Makes a [`Layer`] for each connection.
pub trait Layers: Send + Sync + fmt::Debug {
    /// The layer of one connection. Must not block.
    ///
    /// # Errors
    /// If it cannot be made; the connection then fails with this reason.
    fn layer(&self) -> io::Result<Box<dyn Layer>>;

    /// Reads anew what was read from files, for the connections that come from now on: a server in its foreground was
    /// sent SIGHUP. False if there is nothing to read. May block; not called by a loop.
    ///
    /// # Errors
    /// If what is there now cannot be used; all stays as it was.
    fn reload(&self) -> io::Result<bool> {
        Ok(false)
    }
}

/// What SIGHUP is for. True if others of the server's processes are to do the same.
pub(crate) fn reload(layers: Option<&dyn Layers>) -> bool {
    match guarded(|| layers.map_or(Ok(false), Layers::reload)) {
        Ok(true) => {
            tracing::info!("SIGHUP: the files were read again");
            return true;
        }
        Ok(false) => tracing::warn!("SIGHUP is ignored: there are no files to read again"),
        Err(error) => tracing::error!(%error, "SIGHUP: the files cannot be used, and all stays as it was"),
    }
    false
}

/// Who opened a connection, and the peer's address.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// The peer.
    Accepted(SocketAddr),
    /// We, whose session is told what went wrong.
    Dialled(SocketAddr),
}

/// `inner`, which speaks with its peer through a layer of its own. The loop that drives it sees an endpoint as any other.
pub fn through(
    layers: &dyn Layers,
    inner: Box<dyn Endpoint>,
    end: End,
    shared: Arc<Shared>,
) -> Box<dyn Endpoint> {
    let layer = guarded(|| layers.layer()).unwrap_or_else(|error| Box::new(Unmade(Some(error))));
    Box::new(Layered::new(inner, layer, end, shared))
}

/// Calls into a layer, or what makes one. What is wrong is in words from here on: the error itself is the layer's.
fn guarded<T>(action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let panicked = || io::Error::other("the connection's layer panicked");
    guard::call(action).unwrap_or_else(|| Err(panicked())).map_err(|error| {
        let error = Guarded::new(error);
        guard::call(|| io::Error::new(error.kind(), error.to_string())).unwrap_or_else(panicked)
    })
}

/// Stands for a layer that could not be made, and says why to the first who asks.
#[derive(Debug)]
struct Unmade(Option<io::Error>);

impl Layer for Unmade {
    fn open(&mut self, _: &mut BytesMut, _: &mut BytesMut, _: &mut BytesMut) -> io::Result<()> {
        Err(self.0.take().unwrap_or_else(|| io::Error::other("the connection's layer could not be made")))
    }

    fn seal(&mut self, _: &[u8], _: &mut [u8], _: &mut BytesMut) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn finish(&mut self, _: &mut [u8], _: &mut BytesMut) {}

    fn is_open(&self) -> bool {
        false
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn identity(&self) -> Option<Identity> {
        None
    }
}
