//! What the loop does with a connection, whether it drives that itself or leaves it to workers.
#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    connection::{Endpoint, Event, Outgoing},
    host::Host,
    ticket::{Token, WakeQueue},
};

use super::turn::Turn;
use crate::{connections::Timed, net::Net};

/// A connection as the loop has it.
pub trait Drive<N: Net>: Timed {
    /// Whether it is closed when it was told of the server's stop.
    const STOPS_AT_ONCE: bool;
    /// Who drives it, if not the loop.
    type Workers;

    /// A connection of this endpoint, which is being opened, or about to be told that it is.
    fn new(workers: &Self::Workers, endpoint: Box<dyn Endpoint>, connecting: bool) -> Self;
    /// It lives from now on in this loop, under this name.
    fn place(&mut self, token: Token, wake_queue: &Arc<WakeQueue>, now: Duration);
    /// It has a stream, which the poller tells of.
    fn attach(&mut self, stream: N::Stream);
    /// Notes what the poller said.
    fn note(&mut self, readable: bool, writable: bool, more: bool);
    /// What became of it while it was being opened, once there is news of it that it is to be told.
    fn decided(&mut self, _net: &mut N) -> Option<Event<'static>> {
        None
    }
    /// Tells it what has happened.
    fn tell(&mut self, event: Event<'static>, now: Duration, host: &mut Host);
    /// Does what it asks for until it has to wait, or until it is the others' turn. Answers how many bytes that moved,
    /// and adds the connections that it wants opened to `connects`.
    fn drive(
        &mut self,
        net: &mut N,
        block: &mut BytesMut,
        now: Duration,
        host: &mut Host,
        connects: &mut Vec<Outgoing>,
    ) -> (Turn, u64);
    /// Whether it has a place among those that have more to do.
    fn is_busy(&self) -> bool {
        false
    }
    /// It has one, or none any more.
    fn set_busy(&mut self, _busy: bool) {}
    /// What the poller should tell of, receive and send, if it does not know that yet.
    fn untold(&mut self) -> Option<(&N::Stream, bool, bool)> {
        None
    }
    /// Its stream, which is to be closed.
    fn into_stream(self) -> Option<N::Stream>;
}
