//! What a layer does for one connection, what makes one for each, and what makes these for the two ends of a link.
#![forbid(unsafe_code)]

use std::{error::Error, fmt, io, sync::Arc};

use bytes::BytesMut;

use crate::{
    address::Address,
    guard::{self, Guarded},
    identity::{Expect, Identity},
};

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

/// With what a member of a cluster proves who it is and asks the same of the others, such as a certificate and its key.
pub trait Credentials {
    /// The layers of connections that others open, who have to prove who they are.
    ///
    /// # Errors
    /// If the credentials cannot be used.
    fn acceptor(&self) -> Result<Arc<dyn Layers>, Unfit>;

    /// The layers of connections to the one that is `expect`ed.
    ///
    /// # Errors
    /// If the credentials cannot be used, or do not tell whether it is the one.
    fn connector(&self, expect: &Expect) -> Result<Arc<dyn Layers>, Unfit>;
}

/// Why [`Credentials`] cannot be used, in the words of whatever made them.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unfit(Box<dyn Error + Send + Sync>);

impl Unfit {
    /// For this reason.
    pub fn new(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(why.into())
    }
}

/// What SIGHUP is for. True if others of the server's processes are to do the same.
pub fn reload(layers: Option<&dyn Layers>) -> bool {
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
#[derive(Debug, Clone)]
pub enum End {
    /// The peer.
    Accepted(Address),
    /// We, whose session is told what went wrong.
    Dialled(Address),
}

/// Calls into a layer, or what makes one. What is wrong is in words from here on: the error itself is the layer's.
pub(super) fn guarded<T>(action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let panicked = || io::Error::other("the connection's layer panicked");
    guard::call(action).unwrap_or_else(|| Err(panicked())).map_err(|error| {
        let error = Guarded::new(error);
        guard::call(|| io::Error::new(error.kind(), error.to_string())).unwrap_or_else(panicked)
    })
}

/// Stands for a layer that could not be made, and says why to the first who asks.
#[derive(Debug)]
pub(super) struct Unmade(pub Option<io::Error>);

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
