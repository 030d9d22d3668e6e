//! Three servers with a relay before the second, which can do what a network or a broken server does.

use std::{net::SocketAddr, time::Duration};

use roadstead::Running;
use roadstead_trident::{
    client::{Client, ClientError},
    party::Party,
    wire::Kind,
};

use super::{
    common::byte_rows,
    harness::{Shares, WAYS, addresses, hasty, names, true_scores},
    relay::Relay,
};

pub(super) const THREADS: usize = 16;
pub(super) const FETCHED: u8 = Kind::Fetched as u8;
pub(super) const SECOND: Party = Party::ALL[1];

pub(super) struct Setting {
    pub(super) rows: Vec<Vec<f32>>,
    pub(super) shares: Shares,
    pub(super) servers: [Running; 3],
    pub(super) relay: Relay,
}

impl Setting {
    /// Three servers, with a relay before the second.
    pub(super) fn new() -> Self {
        let rows = byte_rows(100, 16, 1);
        let shares = Shares::of(&rows, 2);
        let servers = shares.serve(WAYS[0]);
        let relay = Relay::new(servers[1].addresses()[0]);
        Self { rows, shares, servers, relay }
    }

    pub(super) fn addresses(&self) -> [SocketAddr; 3] {
        let [first, _, third] = addresses(&self.servers);
        [first, self.relay.address(), third]
    }

    pub(super) fn client(&self, deadline: Duration) -> Client {
        hasty(&self.shares, self.addresses(), deadline)
    }

    pub(super) fn names_second(&self, error: &ClientError) {
        names(error, SECOND, self.relay.address());
    }

    pub(super) fn right(&self, client: &Client, index: usize) {
        assert_eq!(client.fetch(index).unwrap().values(), self.rows[index]);
        let scores = client.scores(&self.rows[index]).unwrap();
        assert_eq!(scores.as_slice(), true_scores(&self.rows, &self.rows[index]));
    }
}

pub(super) const SHORT: Duration = Duration::from_millis(300);
/// The deadline of who is to miss it: a busy machine answers the others within it.
pub(super) const HASTY: Duration = Duration::from_secs(4);
pub(super) const LONG: Duration = Duration::from_secs(20);
