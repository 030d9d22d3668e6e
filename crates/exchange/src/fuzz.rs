//! A link that hears whatever a peer may say, for the fuzz target: nothing may panic or hold more than the limits.
#![forbid(unsafe_code)]

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use roadstead_proto::{
    budget::Budget,
    connection::{Connection, Endpoint, Event},
    host::{Host, Shared},
    service::Peer,
    ticket::Token,
};

use crate::{
    hub::Hub,
    link::Link,
    options::{Member, MemberId, Options},
};

/// Plays `wire` to a link of member 2, in pieces of `piece` bytes; the peers are 1 and 3.
///
/// # Panics
/// If the link holds more than its limits, or leaves something behind.
pub fn hear(wire: &[u8], piece: usize) {
    let address = ([127, 0, 0, 1], 9).into();
    let peers = [1, 3].map(|id| Member::new(id, address)).to_vec();
    let options = Options { largest: 100_000, per_peer: 400_000, total: 800_000, ..Options::default() };
    let (limit, hub) = (options.total, Hub::new(MemberId(2), peers, None, options));
    let shared = Shared::new(Budget::default());
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let Ok(permit) = shared.gate.admit(None) else { return };
    let link = Link::new(Arc::clone(&hub), address.into(), None);
    let mut connection = Connection::accepted(link, Peer { address: address.into() }, shared, permit);
    connection.place(Token(1), host.wake_queue(), Duration::ZERO);
    connection.handle(Duration::ZERO, Event::Opened, &mut host);
    for (turn, piece) in wire.chunks(piece.max(1)).enumerate() {
        let now = Duration::from_millis(turn as u64);
        connection.handle(now, Event::Received(&mut BytesMut::from(piece)), &mut host);
        connection.settle(now, &mut host);
        hub.expire(now);
        assert!(hub.stats().held <= limit, "a peer fills more memory than it may");
    }
    connection.handle(Duration::MAX, Event::Stop, &mut host);
    drop(connection);
    hub.expire(Duration::MAX);
    hub.expire(Duration::MAX);
    assert_eq!((hub.stats().held, hub.stats().waiting), (0, 0), "something is left behind");
}
