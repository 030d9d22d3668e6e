//! What a connection is given to read: what it asks for, and what came before it was asked for.
//!
//! A completion queue may bring what it was asked for in several parts, and may bring something with a connection that
//! it has accepted. A connection asks for more when it has room for more. What comes earlier than that is copied out of
//! its block, so that nobody who is slow keeps a block from others, and charged.
#![forbid(unsafe_code)]

use std::{io, sync::Arc};

use bytes::BytesMut;

use roadstead_proto::budget::{Charge, Meter};

/// What a connection is given to read.
#[derive(Default)]
pub(super) struct Incoming {
    /// The connection asks for up to so many bytes.
    asked: Option<usize>,
    /// Boxed, as hardly a connection has any.
    early: Option<Box<Early>>,
}

/// What came before it was asked for.
struct Early {
    bytes: BytesMut,
    charge: Charge,
    /// And then this: the peer's end, or an error.
    last: Option<io::Result<()>>,
}

/// What a connection is to hear next.
pub(super) enum News {
    Bytes(BytesMut),
    Last(io::Result<()>),
}

impl Incoming {
    /// The connection asks for up to `most` bytes. False if something is here already.
    pub(super) fn ask(&mut self, most: usize) -> bool {
        self.asked = Some(most);
        self.early.is_none()
    }

    /// Up to how many bytes the connection has asked for and is to hear of now: it has asked once, and hears once. Who
    /// asks has heard of all that came before.
    pub(super) fn take_asked(&mut self) -> Option<usize> {
        debug_assert!(self.asked.is_none() || self.early.is_none(), "nothing is overtaken");
        self.asked.take()
    }

    /// Keeps bytes that the connection has not asked for yet. False if `meter` has no room for them.
    pub(super) fn keep(&mut self, bytes: &[u8], meter: &Arc<Meter>) -> bool {
        let Some(early) = self.early(meter) else { return false };
        early.bytes.extend_from_slice(bytes);
        early.charge.change(early.bytes.capacity())
    }

    /// Keeps the end of what comes, which is told behind all that came before it.
    pub(super) fn keep_last(&mut self, last: io::Result<()>, meter: &Arc<Meter>) -> bool {
        let Some(early) = self.early(meter) else { return false };
        early.last = Some(last);
        true
    }

    fn early(&mut self, meter: &Arc<Meter>) -> Option<&mut Early> {
        if self.early.is_none() {
            let charge = meter.charge(0)?;
            self.early = Some(Box::new(Early { bytes: BytesMut::new(), charge, last: None }));
        }
        self.early.as_deref_mut()
    }

    /// What the connection has asked for and is here already.
    pub(super) fn next(&mut self) -> Option<News> {
        let early = self.early.as_mut()?;
        let most = self.asked.take_if(|_| !early.bytes.is_empty() || early.last.is_some())?;
        let news = if early.bytes.is_empty() {
            News::Last(early.last.take()?)
        } else {
            News::Bytes(early.bytes.split_to(most.min(early.bytes.len())))
        };
        if early.bytes.is_empty() && early.last.is_none() {
            self.early = None;
        }
        Some(news)
    }

    /// The connection closes: nothing that came is heard any more.
    pub(super) fn close(&mut self) {
        (self.asked, self.early) = (None, None);
    }
}
