//! A session that sends every frame back as it came, and what it is expected to send.

use roadstead::{
    Context, Done, Frame, Input, Peer, Scope, Service, Session,
    frame::{Limits, Parsed},
};

const LIMITS: Limits = Limits { fields: 64, body: 512 };
/// Room for the longest frame and little more, so that output fills up and input waits.
pub(crate) const BUFFER: usize = 2048;

/// The whole frames at the beginning of `stream`.
pub(crate) fn frames(stream: &[u8]) -> &[u8] {
    let mut length = 0;
    while let Ok(Parsed::Frame(frame)) = Frame::parse(&stream[length..], &LIMITS) {
        length += frame.len();
    }
    &stream[..length]
}

/// Sends every frame back as it came.
pub(crate) struct Mirror;

impl Service for Mirror {
    type Session = Self;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> Self {
        Self
    }
}

impl Session for Mirror {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        match Frame::parse(input.bytes(), &LIMITS)? {
            Parsed::Need(bytes) => input.need(bytes),
            Parsed::Frame(frame) if frame.len() > cx.output().room() => {}
            Parsed::Frame(frame) => {
                let length = frame.len();
                cx.output().write(&input.bytes()[..length]);
                input.consume(length);
            }
        }
        Ok(())
    }
}
