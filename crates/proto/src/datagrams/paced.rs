//! What a socket may not send yet, because of a cap: it waits here, and goes into the outbox when it may.
//!
//! Each is told on arrival from when it may go, and so none is looked at before. Those of a peer stay in order; whoever is
//! within its cap is not behind one who is not. Whatever would wait too long, or too much, is refused.
//!
//! A peer that is remembered has a bucket of its own. All others share a table of fixed size by a hash of their IP
//! address that nobody can foresee: a forged source makes no state, and all strangers together have no more than the
//! table.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    outbox::{EACH, Outgoing},
    path::datagrams,
};
use crate::{
    budget::origin,
    host::{Host, Shared},
    rate::{Bucket, Cap},
};

/// The longest that one may have to wait for those before it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Buckets for addresses of which nothing is remembered.
const STRANGERS: usize = 4096;

/// One that waits, without its bytes, and these.
type Entry = (Outgoing<'static>, Box<[u8]>);

/// What waits for a cap.
#[derive(Debug)]
pub(super) struct Paced {
    shared: Arc<Shared>,
    each: Option<Cap>,
    strangers: Vec<Bucket>,
    key: [u8; 16],
    waiting: BTreeMap<(Duration, u64), Entry>,
    number: u64,
    held: usize,
}

impl Paced {
    /// None where there is no cap.
    pub(super) fn of(shared: &Arc<Shared>) -> Option<Box<Self>> {
        let each = Cap::of(shared.budget.rate_each);
        (each.is_some() || shared.rate.is_some()).then(|| {
            Box::new(Self {
                shared: Arc::clone(shared),
                each,
                strangers: vec![Bucket::default(); if each.is_some() { STRANGERS } else { 0 }],
                key: [0; 16],
                waiting: BTreeMap::new(),
                number: 0,
                held: 0,
            })
        })
    }

    /// The socket is bound. Without randomness who shares a bucket can be foreseen, and nothing else.
    pub(super) fn open(&mut self, host: &mut Host) {
        let _ = (host.random)(&mut self.key);
    }

    /// Whether a datagram of so many bytes, which costs the network `cost`, would have to wait too long, or with too much
    /// beside it: until then. `known` is the bucket of a peer that is remembered.
    pub(super) fn refuses(
        &self,
        known: Option<Bucket>,
        peer: SocketAddr,
        length: usize,
        cost: u64,
        now: Duration,
    ) -> Option<Duration> {
        let own = self.each.map(|cap| (cap, known.unwrap_or_else(|| self.strangers[self.stranger(peer)])));
        let all = self.shared.rate.as_ref().map(|all| all.of_datagrams(now));
        let first = self.next().filter(|_| !self.has_room(length));
        let until = |(cap, mut bucket): (Cap, Bucket)| {
            let in_time = bucket.next(cap).saturating_sub(PATIENCE);
            let waits = bucket.take(cap, cost, now) > now;
            if in_time > now { Some(in_time) } else { first.filter(|_| waits) }
        };
        own.into_iter().chain(all).filter_map(until).max()
    }

    /// Takes what a datagram costs out of the buckets. Answers from when it may go.
    pub(super) fn take(
        &mut self,
        known: Option<&mut Bucket>,
        peer: SocketAddr,
        cost: u64,
        now: Duration,
    ) -> Duration {
        let all = self.shared.rate.as_ref().map_or(now, |all| all.take_ahead(cost, now));
        let Some(cap) = self.each else { return all };
        let stranger = self.stranger(peer);
        known.unwrap_or(&mut self.strangers[stranger]).take_both(cap, all, cost, now)
    }

    fn stranger(&self, peer: SocketAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.key, origin(peer.ip())).hash(&mut hasher);
        (hasher.finish() % STRANGERS as u64) as usize
    }

    /// Whether there is room for one of so many bytes. Alone, one may be of any length.
    fn has_room(&self, length: usize) -> bool {
        self.waiting.is_empty() || self.held + length + EACH <= self.shared.budget.high_water()
    }

    /// Has it wait until then.
    pub(super) fn push(&mut self, from: Duration, outgoing: Outgoing<'_>) {
        let Outgoing { to, from: local, hops, segment, bytes } = outgoing;
        let entry = Outgoing { to, from: local, hops, segment, bytes: &[] };
        self.held += bytes.len() + EACH;
        self.number += 1;
        self.waiting.insert((from, self.number), (entry, bytes.into()));
    }

    /// The first, if it may go now.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Entry> {
        self.next().filter(|&from| from <= now)?;
        let (_, entry) = self.waiting.pop_first()?;
        self.held -= entry.1.len() + EACH;
        Some(entry)
    }

    /// From when the first may go.
    pub(super) fn next(&self) -> Option<Duration> {
        self.waiting.first_key_value().map(|(&(from, _), _)| from)
    }

    /// What it holds, in bytes, as the outbox counts.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Forgets all that waits. Answers how many datagrams that were.
    pub(super) fn clear(&mut self) -> u64 {
        let waiting = std::mem::take(&mut self.waiting).into_values();
        self.held = 0;
        waiting.map(|(entry, bytes)| datagrams(bytes.len(), entry.segment) as u64).sum()
    }
}
