//! What comes from the wire, until the connection inside hears of it: handshake, bytes, the end.
#![forbid(unsafe_code)]

use std::{io, mem, sync::Arc, time::Duration};

use bytes::BytesMut;

use super::{HELD, Layered};
use crate::{
    endpoint::Event,
    host::Host,
    layer::{
        contract::{End, guarded},
        phase::Phase,
    },
    spare::Spare,
    unread::Unread,
};

impl Layered {
    /// Bytes came from the wire: straight from the loop's block where nothing was held back.
    pub(crate) fn receive(&mut self, block: &mut BytesMut, now: Duration, host: &mut Host) {
        let opened = if self.held.is_empty() {
            let opened = self.open(block, &mut host.spares.opened);
            if opened.is_ok() && !block.is_empty() {
                self.held.append(block, HELD);
            }
            opened
        } else {
            self.held.append(block, HELD);
            let Unread { mut bytes, size } = mem::take(&mut self.held);
            let opened = self.open(&mut bytes, &mut host.spares.opened);
            self.held = Unread { bytes, size };
            self.held.shrink();
            opened
        };
        let endless = || io::Error::new(io::ErrorKind::InvalidData, "the peer sends a message without end");
        match opened.and_then(|()| if self.held.len() > HELD { Err(endless()) } else { Ok(()) }) {
            Err(_) if self.has_done() => (self.held, self.deaf) = (Unread::default(), true),
            // After our end nothing can be answered.
            Err(error) if self.finished => self.inner.handle(now, Event::Failed(error), host),
            Err(error) => self.fail(error, now),
            Ok(()) => self.greet(now, host),
        }
    }

    fn open(&mut self, wire: &mut BytesMut, spare: &mut Spare) -> io::Result<()> {
        let mut plain = spare.take(if self.is_open { wire.len() } else { 0 });
        let mut reply = BytesMut::new();
        let opened = guarded(|| {
            self.layer.open(wire, &mut plain, &mut reply)?;
            (self.is_open, self.has_ended) = (self.layer.is_open(), self.layer.has_ended());
            Ok(())
        });
        if !reply.is_empty() && !self.finished {
            self.wire.send(reply.freeze());
        }
        let size = plain.capacity();
        if plain.is_empty() {
            spare.put(plain, size);
        } else {
            self.plain = Unread { bytes: plain, size };
        }
        opened
    }

    /// Lets the connection know when the handshake is done.
    fn greet(&mut self, now: Duration, host: &mut Host) {
        if matches!(self.phase, Phase::Handshake) && self.is_open {
            let identity = match guarded(|| Ok(self.layer.identity())) {
                Ok(identity) => identity,
                Err(error) => return self.fail(error, now),
            };
            self.phase = Phase::Open;
            if let Some(identity) = identity {
                self.inner.handle(now, Event::Proven(Arc::new(identity)), host);
            }
            self.inner.handle(now, Event::Opened, host);
        }
    }

    /// The wire has ended.
    pub(crate) fn ended(&mut self, now: Duration, host: &mut Host) {
        self.wire_ended = true;
        if self.has_ended {
            return;
        }
        if matches!(self.phase, Phase::Open) && self.has_done() {
            self.wants = 0;
            return self.inner.handle(now, Event::Ended, host);
        }
        let why = match self.phase {
            Phase::Open => "the connection was cut off: the peer's end was not announced",
            _ => "the peer ended the connection during the handshake",
        };
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
        tracing::debug!(end = ?self.end, %error, "a layer ended early");
        self.inner.handle(now, Event::Failed(error), host);
    }

    /// Whether nothing is waited for but the end, behind our own: who has finished cares no more for what is cut off.
    fn has_done(&self) -> bool {
        self.finished && self.inner.awaits_end()
    }

    /// The layer cannot go on: what it has said about that goes out, then the connection hears the reason.
    fn fail(&mut self, error: io::Error, now: Duration) {
        match &self.end {
            End::Accepted(peer) => tracing::warn!(%peer, %error, "a connection's layer failed; it is closed"),
            // Whoever dialled is told, and speaks of it.
            End::Dialled(peer) => tracing::debug!(%peer, %error, "a connection's layer failed; it is closed"),
        }
        (self.held, self.plain) = (Unread::default(), Unread::default());
        self.shutdown = true;
        self.phase = Phase::Failing(Some(error), now.saturating_add(self.shared.budget.linger));
    }
}
