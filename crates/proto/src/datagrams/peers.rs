//! The peers that a session remembers: how many, how much of each, and until when, all by the budget.
//!
//! A datagram makes no state by itself, since its source may be forged: a session remembers who it wants to, best after
//! the peer has proven to receive at its address. Each counts as a connection of its address, holds no more than one
//! may buffer, and is forgotten when nothing that the session found genuine has come from it for the idle time.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::path::Path;
use crate::{
    budget::{Charge, Permit, Refused},
    guard::Guarded,
    host::Shared,
    rate::Bucket,
};

/// The peers that a session remembers, by address.
pub struct Peers<P> {
    shared: Arc<Shared>,
    pub(super) now: Duration,
    /// In order, so that nobody can choose addresses that are slow to find, and that a walk over them is the same in
    /// every run of a seed.
    all: BTreeMap<SocketAddr, Known<P>>,
    /// Each once: when it is looked at whether it has been idle. Not later than it can be.
    due: BTreeSet<(Duration, SocketAddr)>,
}

struct Known<P> {
    state: Guarded<P>,
    path: Path,
    heard: Duration,
    due: Duration,
    /// What it may be sent.
    bucket: Bucket,
    charge: Charge,
    _permit: Permit,
}

/// Why a peer is not remembered, or not with so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unkept {
    /// There are as many already as there may be.
    #[error("the peer is not remembered: {0}")]
    Refused(#[from] Refused),
    /// One may not hold so much; what it may, in bytes.
    #[error("a peer may not hold more than {0} bytes")]
    TooLarge(usize),
    /// All together may not hold so much; what they may, in bytes.
    #[error("all peers and connections together would hold more than {0} bytes")]
    OutOfMemory(usize),
}

impl<P> Peers<P> {
    pub(super) fn new(shared: Arc<Shared>, now: Duration) -> Self {
        Self { shared, now, all: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// Remembers `state` of the peer at the end of `path`, instead of what was remembered of it before. `bytes` is what
    /// the state holds beside itself.
    ///
    /// # Errors
    /// [`Unkept`], with what was to be remembered, and the path to say so on.
    pub fn keep(&mut self, path: Path, state: P, bytes: usize) -> Result<(), (Unkept, Path, P)> {
        let peer = path.peer();
        self.forget(peer);
        let admitted = self.charge(bytes).and_then(|charge| {
            let permit = self.shared.gate.admit(Some(peer.ip()))?;
            Ok((charge, permit))
        });
        let (charge, _permit) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => return Err((why, path, state)),
        };
        let (heard, due) = (self.now, self.now.saturating_add(self.shared.budget.idle));
        let state = Guarded::new(state);
        self.all.insert(peer, Known { state, path, heard, due, bucket: Bucket::default(), charge, _permit });
        self.due.insert((due, peer));
        Ok(())
    }

    /// The peer at the end of `path` has sent something genuine: it is not idle, and what came may be answered. One that
    /// is not remembered is told from the path that comes back.
    ///
    /// # Errors
    /// The path, if nothing is remembered of the peer.
    pub fn heard(&mut self, path: Path) -> Result<&mut P, Path> {
        match self.all.get_mut(&path.peer()) {
            Some(known) => {
                known.heard = self.now;
                known.path.extend(path);
                Ok(&mut known.state)
            }
            None => Err(path),
        }
    }

    /// What the state of `peer` holds beside itself is now so many bytes.
    ///
    /// # Errors
    /// [`Unkept`], and nothing is changed. Of a peer that is not remembered nothing is held, and that is none.
    pub fn holds(&mut self, peer: SocketAddr, bytes: usize) -> Result<(), Unkept> {
        let most = self.shared.budget.buffer_each;
        let Some(known) = self.all.get_mut(&peer) else { return Ok(()) };
        let bytes = Self::size(bytes).filter(|&bytes| bytes <= most).ok_or(Unkept::TooLarge(most))?;
        known.charge.change(bytes).then_some(()).ok_or(Unkept::OutOfMemory(self.shared.memory.limit()))
    }

    /// Forgets `peer`. What was remembered of it.
    pub fn forget(&mut self, peer: SocketAddr) -> Option<P> {
        let known = self.all.remove(&peer)?;
        self.due.remove(&(known.due, peer));
        Some(known.state.into_inner())
    }

    /// What is remembered of `peer`.
    pub fn get(&self, peer: SocketAddr) -> Option<&P> {
        self.all.get(&peer).map(|known| &*known.state)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, peer: SocketAddr) -> Option<&mut P> {
        self.all.get_mut(&peer).map(|known| &mut *known.state)
    }

    /// The path to `peer`.
    pub fn path(&mut self, peer: SocketAddr) -> Option<&mut Path> {
        self.all.get_mut(&peer).map(|known| &mut known.path)
    }

    /// The bucket of `peer`.
    pub(super) fn bucket(&mut self, peer: SocketAddr) -> Option<&mut Bucket> {
        self.all.get_mut(&peer).map(|known| &mut known.bucket)
    }

    /// The path to `peer`, and its bucket.
    pub(super) fn way(&mut self, peer: SocketAddr) -> Option<(&mut Path, &mut Bucket)> {
        self.all.get_mut(&peer).map(|known| (&mut known.path, &mut known.bucket))
    }

    /// All, by address.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &P)> {
        self.all.iter().map(|(&peer, known)| (peer, &*known.state))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// When to look whether one has been idle.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.first().map(|&(due, _)| due)
    }

    /// Forgets one that has been idle until `now`.
    pub(super) fn idle(&mut self, now: Duration) -> Option<(SocketAddr, P)> {
        while let Some(&(due, peer)) = self.due.first().filter(|&&(due, _)| due <= now) {
            self.due.remove(&(due, peer));
            let known = self.all.get_mut(&peer)?;
            // Whoever was heard meanwhile is looked at again when its time is over: a datagram moves nothing here.
            known.due = known.heard.saturating_add(self.shared.budget.idle);
            if known.due <= now {
                return Some((peer, self.all.remove(&peer)?.state.into_inner()));
            }
            self.due.insert((known.due, peer));
        }
        None
    }

    fn size(bytes: usize) -> Option<usize> {
        bytes.checked_add(size_of::<Known<P>>())
    }

    fn charge(&self, bytes: usize) -> Result<Charge, Unkept> {
        let most = self.shared.budget.buffer_each;
        let bytes = Self::size(bytes).filter(|&bytes| bytes <= most).ok_or(Unkept::TooLarge(most))?;
        self.shared.memory.charge(bytes).ok_or(Unkept::OutOfMemory(self.shared.memory.limit()))
    }
}

impl<P> fmt::Debug for Peers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("len", &self.len()).finish_non_exhaustive()
    }
}
