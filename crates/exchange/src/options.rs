//! What the members of an exchange agree on: who they are, how they send to each other, and the limits.
#![forbid(unsafe_code)]

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use roadstead_proto::{identity::Pin, tuning::Tuning};

/// A member's number within its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u8);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {}", self.0)
    }
}

/// One member of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: MemberId,
    /// Where the others reach it.
    pub address: SocketAddr,
    /// Its public key. Where there are keys but no pin, its certificate has to be for the name `server-N` of its
    /// number.
    pub pin: Option<Pin>,
}

impl Member {
    /// Member number `id` at `address`, whose public key is not pinned.
    pub fn new(id: u8, address: SocketAddr) -> Self {
        Self { id: MemberId(id), address, pin: None }
    }
}

/// What a message belongs to: the same for all members, and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which query. Unguessable, where members do work for strangers.
    pub query: u128,
    /// Which round of it.
    pub round: u32,
}

/// How messages travel between two members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One connection a pair, one message at a time: the next begins when this one is confirmed. The baseline, whose
    /// throughput does not grow with the number of queries.
    Shared,
    /// A connection for every message: connect, send, wait for the confirmation, close.
    PerQuery,
    /// So many connections a pair, kept open; a message takes one and gives it back when it is confirmed.
    Pool(u8),
    /// One connection a pair, on which all messages travel at once, in parts: a small one overtakes a large one.
    Multiplexed,
}

impl Strategy {
    /// Connections kept open to each peer.
    pub(crate) fn kept(self) -> usize {
        match self {
            Self::Shared | Self::Multiplexed => 1,
            Self::Pool(count) => count.into(),
            Self::PerQuery => 0,
        }
    }

    /// Messages that travel at once on one connection, in each direction.
    pub(super) fn at_once(self) -> usize {
        if self == Self::Multiplexed { MESSAGES } else { 1 }
    }

    /// What stands for it on the wire.
    pub(crate) fn code(self) -> [u8; 2] {
        match self {
            Self::Shared => [1, 0],
            Self::PerQuery => [2, 0],
            Self::Pool(count) => [3, count],
            Self::Multiplexed => [4, 0],
        }
    }
}

/// Messages begun and not yet confirmed on a multiplexed link.
const MESSAGES: usize = 4096;

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::PerQuery => f.write_str("per-query"),
            Self::Pool(count) => write!(f, "pool:{count}"),
            Self::Multiplexed => f.write_str("multiplexed"),
        }
    }
}

/// No strategy has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no strategy `{0}`; there are shared, per-query, pool:N (N from 1 to 64) and multiplexed")]
pub struct UnknownStrategy(String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        let unknown = || UnknownStrategy(name.into());
        match name {
            "shared" => Ok(Self::Shared),
            "per-query" => Ok(Self::PerQuery),
            "multiplexed" => Ok(Self::Multiplexed),
            _ => {
                let count = name.strip_prefix("pool:").and_then(|count| count.parse().ok());
                count.filter(|count| (1..=64).contains(count)).map(Self::Pool).ok_or_else(unknown)
            }
        }
    }
}

/// The limits and the choices of an exchange. All members choose alike, but for [`loops`](Self::loops).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How messages travel. Default [`Strategy::Multiplexed`].
    pub strategy: Strategy,
    /// The largest message, in bytes. Default 16 MiB; at most 1 GiB.
    pub largest: usize,
    /// Bytes that one peer may have sent without their having been taken and dropped here, and as many that wait here
    /// to be sent to it or to be confirmed by it. Default 64 MiB, at least four of the largest messages and two for
    /// each link. For as long as it takes to take what came on a link that was lost it may be twice that.
    pub per_peer: usize,
    /// The same for all peers together. No peer may use more than its part, so that none makes another wait: where
    /// twice `per_peer` for each would be more, `per_peer` is less, down to the least that it can be; it is the largest
    /// message that has to be smaller then. Default 256 MiB.
    pub total: usize,
    /// Bytes under way on a multiplexed link that were not confirmed: what a small message may have before it.
    /// Default 256 KiB.
    pub window: usize,
    /// How long a message waits for a peer that cannot be reached, and one that came for somebody to gather it.
    /// Default 10 s.
    pub patience: Duration,
    /// After so long without a sign of life a link is given up. Default 5 s; a sign is given five times as often.
    pub silence: Duration,
    /// How long it takes at most for a link to be opened, with TLS. Default 2 s.
    pub connect: Duration,
    /// How the links' sockets are set up.
    pub tuning: Tuning,
    /// How many loops have the links, each on a thread of its own; every member chooses for itself. Default 1, and never
    /// more than there are links to keep: a message that comes by another loop wakes another thread, which pays where
    /// what is sent, with its TLS, fills a processor. In the simulator the seed chooses.
    pub loops: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::Multiplexed,
            largest: 16 << 20,
            per_peer: 64 << 20,
            total: 256 << 20,
            window: 256 << 10,
            patience: Duration::from_secs(10),
            silence: Duration::from_secs(5),
            connect: Duration::from_secs(2),
            tuning: Tuning::default(),
            loops: 1,
        }
    }
}

impl Options {
    /// The defaults with another strategy.
    pub fn with(strategy: Strategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// The same, within the bounds of an exchange with so many peers.
    pub(super) fn among(self, peers: usize) -> Self {
        let part = self.total / (2 * peers.max(1));
        let links = match self.strategy.kept() {
            0 => usize::MAX,
            kept => (kept * peers).max(1),
        };
        let loops = self.loops.clamp(1, links);
        Self { largest: self.largest.min(1 << 30), per_peer: self.per_peer.min(part), loops, ..self }
    }

    /// What is not confirmed on one link, at most: alone on its connection a message needs no room for others.
    pub(super) fn under_way(&self) -> u64 {
        let window =
            if self.strategy == Strategy::Multiplexed { self.window } else { self.window.max(4 << 20) };
        window.max(4 * PART) as u64
    }

    /// What all links of a peer may have sent, and those they have replaced: a link that is lost takes its count along,
    /// but not what had come on it.
    pub(crate) fn held(&self) -> usize {
        2 * self.per_peer.max(self.strategy.kept().max(1) * self.allowance() as usize)
    }

    /// What one link may have sent that was not yet taken.
    pub(super) fn allowance(&self) -> u64 {
        let links = self.strategy.kept().max(1);
        (self.per_peer / links).max(2 * cost(self.largest)) as u64
    }
}

/// What a message is charged with, in bytes: itself and what is kept about it, so that empty ones are bounded too.
pub(crate) fn cost(length: usize) -> usize {
    length + 256
}

/// Bytes of a message in one part.
pub(super) const PART: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_peers_may_fill_together_is_within_the_total() {
        let options = Options { largest: 1000, ..Options::default() };
        for peers in [1, 2, 3, 100, 254] {
            let options = options.clone().among(peers);
            assert!(peers * options.held() <= options.total, "{peers} peers");
        }
        assert_eq!(options.clone().among(2).per_peer, options.per_peer);
    }

    #[test]
    fn names_of_strategies_are_read_as_they_are_written() {
        for name in ["shared", "per-query", "pool:1", "pool:64", "multiplexed"] {
            assert_eq!(name.parse::<Strategy>().unwrap().to_string(), name);
        }
        for name in ["", "pool", "pool:", "pool:0", "pool:65", "pool:-1", "Shared"] {
            assert!(name.parse::<Strategy>().is_err(), "{name}");
        }
    }

    #[test]
    fn there_is_a_loop_and_there_are_no_more_than_links_to_keep() {
        for (strategy, asked, loops) in [
            (Strategy::Multiplexed, 0, 1),
            (Strategy::Multiplexed, 2, 2),
            (Strategy::Shared, 3, 2),
            (Strategy::Pool(4), 8, 8),
            (Strategy::Pool(4), 9, 8),
            (Strategy::PerQuery, 9, 9),
        ] {
            let options = Options { loops: asked, ..Options::with(strategy) };
            assert_eq!(options.clone().among(2).loops, loops, "{strategy}");
            assert!(options.among(0).loops >= 1);
        }
        assert_eq!(Options::default().loops, 1);
    }

    #[test]
    fn every_bound_holds_where_it_begins_and_links_share_what_a_peer_may_have() {
        let options = Options { largest: (1 << 30) + 1, total: 1 << 20, ..Options::default() };
        let among = options.clone().among(2);
        assert_eq!((among.largest, among.per_peer), (1 << 30, 1 << 18));
        assert_eq!(options.among(0).per_peer, 1 << 19, "alone");
        let small =
            |strategy| Options { largest: 100, per_peer: 64 << 10, window: 0, ..Options::with(strategy) };
        for (strategy, allowance) in [
            (Strategy::Shared, 64 << 10),
            (Strategy::PerQuery, 64 << 10),
            (Strategy::Multiplexed, 64 << 10),
            (Strategy::Pool(4), 16 << 10),
            (Strategy::Pool(64), 1 << 10),
        ] {
            assert_eq!(small(strategy).allowance(), allowance, "{strategy}");
            let under_way = if strategy == Strategy::Multiplexed { 4 * PART as u64 } else { 4 << 20 };
            assert_eq!(small(strategy).under_way(), under_way, "{strategy}");
            assert_eq!(small(strategy).held(), 128 << 10, "{strategy}");
        }
        let large = Options { largest: 64 << 10, ..small(Strategy::Pool(2)) };
        assert_eq!(large.allowance(), 2 * cost(64 << 10) as u64, "two of the largest at least");
        assert_eq!(large.held(), 8 * cost(64 << 10), "on each of two links, and on those they replace");
        let wide = Options { window: 5 << 20, ..small(Strategy::Shared) };
        assert_eq!(
            (wide.under_way(), Options { window: 5 * PART, ..small(Strategy::Multiplexed) }.under_way()),
            (5 << 20, 5 * PART as u64)
        );
    }
}
