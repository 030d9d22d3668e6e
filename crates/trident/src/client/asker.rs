//! The client's end of one connection, as a session of the engine.

use std::sync::Arc;

use bytes::Bytes;

use roadstead_proto::{
    Close, Closed, Context, Done, Frame, Input, Ready, Session, frame::Fields, frame::Limits, frame::Parsed,
};

use super::query::Collection;
use super::trio::{Answer, Fault, Trio};
use crate::{
    agreed::{
        manifest::Digest,
        wire::{self, Hello, Kind, Refusal, Welcome},
    },
    arithmetic::party::Party,
};

/// How an alert of TLS begins (RFC 8446, section 5.1), and no frame does.
const ALERT: [u8; 2] = [21, 3];

/// The connection to one server.
pub(super) struct Asker {
    trio: Arc<Trio>,
    party: Party,
    digest: Digest,
    limits: Limits,
}

impl Asker {
    pub(super) fn new(trio: Arc<Trio>, party: Party, collection: &Collection) -> Self {
        let limits = Limits { fields: 0, body: wire::max_answer(collection.manifest()) };
        Self { trio, party, digest: collection.digest(), limits }
    }

    fn welcome(&self, body: &[u8]) -> Done {
        let welcome = Welcome::parse(body)?;
        if welcome.version != wire::VERSION {
            let reason = format!("it speaks version {}, this client {}", welcome.version, wire::VERSION);
            return Err(Close::violation(reason));
        }
        if welcome.party != self.party {
            return Err(Close::violation(format!(
                "it is {}; check the order of the addresses",
                welcome.party
            )));
        }
        if welcome.digest != self.digest {
            let reason = format!(
                "its manifest is {}, this client's {}; both must come from one run of share",
                welcome.digest, self.digest
            );
            return Err(Close::violation(reason));
        }
        if !self.trio.welcome(self.party, welcome.nonce) {
            return Err(Close::violation("it sent a second welcome"));
        }
        Ok(())
    }

    /// Sends questions that wait, as far as they may be unsent at once; with each answer it is the turn of the next.
    fn send(&self, cx: &mut Context<'_, Self>) -> Done {
        let Some(messages) = self.trio.take(self.party, cx.output().buffered()) else {
            return Err(Close::abort("the three connections were given up together"));
        };
        for (kind, body) in messages {
            // It is zeroised once it has left.
            Frame::begin(cx.output(), kind as u8, &Fields::new(), body.len());
            cx.output().hand_over(Bytes::from_owner(body));
        }
        Ok(())
    }

    fn refused(&self, body: &[u8]) -> Done {
        let Refusal { counter, text, .. } = Refusal::parse(body)?;
        if counter == 0 {
            self.trio.fail(Fault::Refused { party: self.party, text });
        } else {
            self.trio.refuse(self.party, counter, text);
        }
        Ok(())
    }
}

impl Session for Asker {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            let hello = Hello { version: wire::VERSION, party: self.party, digest: self.digest };
            Frame::send(cx.output(), Kind::Hello as u8, &hello.encode());
        }
        self.send(cx)
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if input.bytes().starts_with(&ALERT) {
            return Err(Close::violation(
                "it speaks TLS and this client does not; both must come from one run of share",
            ));
        }
        let frame = match Frame::parse(input.bytes(), &self.limits)? {
            Parsed::Need(bytes) => {
                input.need(bytes);
                return Ok(());
            }
            Parsed::Frame(frame) => frame,
        };
        let length = frame.len();
        match Kind::try_from(frame.kind)? {
            Kind::Welcome => self.welcome(frame.body)?,
            Kind::Refusal => self.refused(frame.body)?,
            Kind::Fetched | Kind::Searched | Kind::FetchedShare => {
                let (counter, _) = wire::counter("answer", frame.body)?;
                let body = length - frame.body.len()..length;
                let chunk =
                    input.take(length).ok_or_else(|| Close::abort("no memory is left for answers"))?;
                if !self.trio.answer(self.party, counter, Answer { chunk, body }) {
                    return Err(Close::violation(format!(
                        "it answered question {counter}, which was not asked"
                    )));
                }
                return self.send(cx);
            }
            kind => {
                return Err(Close::violation(format!(
                    "it sent a message of kind {kind:?}, which is ours to send"
                )));
            }
        }
        input.consume(length);
        Ok(())
    }

    fn end(&mut self, _: &mut Context<'_, Self>) -> Done {
        Err(Close::violation("it closed the connection"))
    }

    fn closed(self, why: &Closed) {
        self.trio.fail(Fault::Lost { party: self.party, why: why.to_string() });
    }
}
