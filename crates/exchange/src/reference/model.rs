//! What the hub has to do, said once more with lists that are searched from the beginning. A message is a number and a
//! length.

use std::{mem, time::Duration};

use crate::{
    GatherError, SendError,
    hub::Left,
    options::{Key, MemberId, Options, PART, cost},
    reference::{AT_ONCE, ME, PEERS},
    spread::Dialled,
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Letter {
    pub(crate) number: u64,
    pub(crate) key: Key,
    pub(crate) length: usize,
}

/// What a gather was told: whose messages, or the names of who is missing and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Gathered(Vec<(MemberId, u64)>),
    Missing(Duration, Vec<(MemberId, Option<String>)>),
    Repeated,
}

impl Told {
    pub(crate) fn from(error: GatherError) -> Self {
        match error {
            GatherError::Missing { patience, missing } => {
                Self::Missing(patience, missing.into_iter().map(|it| (it.id, it.why)).collect())
            }
            GatherError::Repeated => Self::Repeated,
        }
    }
}

/// A key of which something came, or which somebody gathers.
struct Wait {
    key: Key,
    came: Vec<(usize, Letter)>,
    /// Which gather, and its patience.
    wanted: Option<(usize, Duration)>,
    deadline: Option<Duration>,
}

#[derive(Default)]
pub(crate) struct Peer {
    /// In the order in which they are to be sent, each with the time at which it is given up.
    pub(super) outbox: Vec<(Letter, Option<Duration>)>,
    /// Taken by a link, and neither confirmed nor come back.
    pub(super) under_way: usize,
    /// Number, and whether it waits for something to send.
    pub(crate) links: Vec<(u64, bool)>,
    pub(crate) dialling: usize,
    pub(super) failures: u32,
    stumbled: bool,
    retry_at: Duration,
    pub(super) trouble: Option<String>,
    pub(crate) opened: u64,
    pub(crate) lost: u64,
    pub(crate) came: u64,
    pub(super) confirmed: u64,
    pub(crate) expired: u64,
    /// What of its messages has been dropped, in bytes.
    pub(crate) dropped: u64,
    /// What its messages hold: half come, come, or gathered.
    pub(crate) held: usize,
}

impl Peer {
    /// What waits or is under way, in bytes.
    pub(super) fn queued(&self) -> usize {
        self.outbox.iter().map(|(letter, _)| cost(letter.length)).sum::<usize>() + self.under_way
    }
}

pub(crate) struct Model {
    options: Options,
    waits: Vec<Wait>,
    finished: Vec<Key>,
    /// Those whose deadline begins when the keeper looks next.
    fresh: Vec<Key>,
    pub(super) peers: Vec<Peer>,
    pub(crate) told: Vec<(usize, Told)>,
    /// Links that were woken, and which keepers were.
    pub(crate) woken: Vec<u64>,
    pub(super) keepers: Vec<bool>,
    /// What was dealt and not yet dialled, and how many of the links that it opens each loop has.
    pub(super) dealt: Vec<Dialled>,
    pub(super) shares: Vec<usize>,
    pub(crate) late: u64,
    pub(super) duplicate: u64,
    pub(super) unclaimed: u64,
}

impl Model {
    pub(crate) fn new(options: Options) -> Self {
        let loops = options.loops;
        Self {
            options,
            waits: Vec::new(),
            finished: Vec::new(),
            fresh: Vec::new(),
            peers: PEERS.iter().map(|_| Peer::default()).collect(),
            told: Vec::new(),
            woken: Vec::new(),
            keepers: vec![false; loops],
            dealt: Vec::new(),
            shares: vec![0; loops],
            late: 0,
            duplicate: 0,
            unclaimed: 0,
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waits.len()
    }

    pub(crate) fn held(&self) -> usize {
        self.peers.iter().map(|peer| peer.held).sum()
    }

    /// Whether there is memory for a message of a peer.
    pub(crate) fn reserve(&mut self, peer: usize, length: usize) -> bool {
        let total = self.options.total.max(PEERS.len() * self.options.held());
        let cost = cost(length);
        let fits = self.peers[peer].held + cost <= self.options.held() && self.held() + cost <= total;
        self.peers[peer].held += if fits { cost } else { 0 };
        fits
    }

    /// A message of a peer that has come is dropped.
    pub(super) fn drop_one(&mut self, peer: usize, length: usize) {
        self.peers[peer].held -= cost(length);
        self.peers[peer].dropped += cost(length) as u64;
    }

    fn wake_one(&mut self, peer: usize) -> bool {
        let hungry = self.peers[peer].links.iter_mut().find(|(_, hungry)| *hungry);
        let woken = hungry.map(|(number, hungry)| {
            *hungry = false;
            *number
        });
        self.woken.extend(woken);
        woken.is_some()
    }

    pub(crate) fn send(&mut self, peer: usize, letter: Letter) -> Result<(), SendError> {
        let largest = self.options.largest;
        let limit = self.options.per_peer.max(4 * cost(largest));
        if letter.length > largest {
            return Err(SendError::TooLarge { length: letter.length, limit: largest });
        }
        if self.peers[peer].queued() + cost(letter.length) > limit {
            return Err(SendError::Full { to: MemberId(PEERS[peer]), limit });
        }
        self.peers[peer].outbox.push((letter, None));
        let one_each = self.options.strategy.kept() == 0;
        if !self.wake_one(peer) && (one_each || self.peers[peer].links.is_empty()) {
            self.keepers[0] = true;
        }
        Ok(())
    }

    fn begin(&mut self, key: Key) {
        self.keepers[0] |= self.fresh.is_empty();
        self.fresh.push(key);
    }

    fn wait(&mut self, key: Key) -> &mut Wait {
        if self.waits.iter().all(|wait| wait.key != key) {
            self.waits.push(Wait { key, came: Vec::new(), wanted: None, deadline: None });
        }
        self.waits.iter_mut().find(|wait| wait.key == key).unwrap()
    }

    fn finish(&mut self, key: Key) -> Option<Wait> {
        self.finished.push(key);
        let at = self.waits.iter().position(|wait| wait.key == key)?;
        Some(self.waits.remove(at))
    }

    pub(crate) fn gather(&mut self, gather: usize, key: Key, patience: Duration) {
        let twice = self.waits.iter().any(|wait| wait.key == key && wait.wanted.is_some());
        if twice || self.finished.contains(&key) {
            return self.told.push((gather, Told::Repeated));
        }
        let wait = self.wait(key);
        (wait.wanted, wait.deadline) = (Some((gather, patience)), None);
        self.begin(key);
        self.complete(key);
    }

    /// If somebody gathers a key and all have come, it is told.
    fn complete(&mut self, key: Key) {
        let wait = self.wait(key);
        if let Some((gather, _)) = wait.wanted
            && wait.came.len() == PEERS.len()
        {
            wait.came.sort_by_key(|(peer, _)| *peer);
            let came =
                wait.came.iter().map(|(peer, letter)| (MemberId(PEERS[*peer]), letter.number)).collect();
            self.told.push((gather, Told::Gathered(came)));
            self.finish(key);
        }
    }

    pub(crate) fn forget(&mut self, key: Key) {
        for (peer, letter) in self.finish(key).map_or(Vec::new(), |wait| wait.came) {
            self.drop_one(peer, letter.length);
        }
    }

    pub(crate) fn deliver(&mut self, peer: usize, letter: Letter) {
        let key = letter.key;
        self.peers[peer].came += 1;
        if self.finished.contains(&key) {
            self.late += 1;
            return self.drop_one(peer, letter.length);
        }
        if self.wait(key).came.iter().any(|(from, _)| *from == peer) {
            self.duplicate += 1;
            return self.drop_one(peer, letter.length);
        }
        let wait = self.wait(key);
        wait.came.push((peer, letter));
        if wait.wanted.is_none() && wait.deadline.is_none() {
            self.begin(key);
        }
        self.complete(key);
    }

    fn missing(&self, wait: &Wait) -> Vec<(MemberId, Option<String>)> {
        let missing = (0..PEERS.len()).filter(|peer| wait.came.iter().all(|(from, _)| from != peer));
        missing.map(|peer| (MemberId(PEERS[peer]), self.peers[peer].trouble.clone())).collect()
    }

    pub(super) fn expire(&mut self, now: Duration) -> Option<Duration> {
        let patience = self.options.patience;
        for key in mem::take(&mut self.fresh) {
            if let Some(wait) = self.waits.iter_mut().find(|wait| wait.key == key) {
                let longest = wait.wanted.map_or(patience, |(_, patience)| patience);
                wait.deadline.get_or_insert(now + longest);
            }
        }
        let mut over: Vec<(Duration, Key)> =
            self.waits.iter().filter_map(|wait| Some((wait.deadline?, wait.key))).collect();
        over.retain(|(deadline, _)| *deadline <= now);
        over.sort();
        for (_, key) in over {
            let wait = self.finish(key).unwrap();
            match wait.wanted {
                Some((gather, patience)) => {
                    self.told.push((gather, Told::Missing(patience, self.missing(&wait))));
                }
                None => self.unclaimed += wait.came.len() as u64,
            }
            for (peer, letter) in wait.came {
                self.drop_one(peer, letter.length);
            }
        }
        for peer in &mut self.peers {
            let before = peer.outbox.len();
            peer.outbox.retain_mut(|(_, expires)| *expires.get_or_insert(now + patience) > now);
            peer.expired += (before - peer.outbox.len()) as u64;
        }
        let outboxes =
            self.peers.iter().flat_map(|peer| peer.outbox.iter().filter_map(|(_, expires)| *expires));
        self.waits.iter().filter_map(|wait| wait.deadline).chain(outboxes).min()
    }

    pub(crate) fn deal(
        &mut self,
        at: usize,
        now: Duration,
        back_off: impl Fn(u32) -> Duration,
    ) -> Option<Duration> {
        let (kept, peer) = (self.options.strategy.kept(), &mut self.peers[at]);
        if mem::take(&mut peer.stumbled) {
            peer.retry_at = now + back_off(peer.failures);
        }
        let lacks = match kept {
            0 => peer.outbox.len().min(AT_ONCE).saturating_sub(peer.dialling),
            _ if PEERS[at] < ME => kept.saturating_sub(peer.dialling + peer.links.len()),
            _ => 0,
        };
        let lacks = lacks.min(AT_ONCE - peer.dialling - peer.links.len());
        if lacks > 0 && now < peer.retry_at {
            return Some(peer.retry_at);
        }
        peer.dialling += lacks;
        peer.opened += lacks as u64;
        for _ in 0..lacks {
            let least = self.shares.iter().min().copied().unwrap_or_default();
            let on = self.shares.iter().rposition(|share| *share == least).unwrap_or_default();
            self.shares[on] += 1;
            self.keepers[on] |= on != 0;
            self.dealt.push(Dialled { to: at, on });
        }
        None
    }

    pub(crate) fn join(&mut self, peer: usize, number: u64, dialled: bool) {
        let (kept, peer) = (self.options.strategy.kept(), &mut self.peers[peer]);
        if kept > 0 && peer.links.len() == kept {
            self.woken.push(peer.links.remove(0).0);
        }
        peer.dialling -= usize::from(dialled);
        peer.trouble = None;
        peer.links.push((number, false));
    }

    /// A link is lost, or was never had; these come back.
    pub(crate) fn leave(
        &mut self,
        at: usize,
        number: u64,
        left: &Left,
        back: Vec<(Letter, Option<Duration>)>,
    ) {
        let peer = &mut self.peers[at];
        peer.links.retain(|(link, _)| *link != number);
        peer.dialling -= usize::from(left.dialled.is_some() && !left.joined);
        if let Some(trouble) = &left.trouble {
            peer.lost += 1;
            peer.failures += u32::from(left.dialled.is_some());
            peer.stumbled |= left.dialled.is_some();
            peer.trouble = peer.links.is_empty().then(|| trouble.clone());
        }
        peer.under_way -= back.iter().map(|(letter, _)| cost(letter.length)).sum::<usize>();
        peer.outbox.extend(back);
        peer.outbox.sort_by_key(|(letter, _)| letter.number);
        if !peer.outbox.is_empty() {
            self.wake_one(at);
        }
        left.dialled.into_iter().for_each(|on| self.shares[on] -= 1);
        self.keepers[0] = true;
    }

    /// The next for a link that has room for `most` bytes.
    pub(crate) fn take(&mut self, at: usize, number: u64, most: usize) -> Option<(Letter, Option<Duration>)> {
        let overtaking = self.options.strategy.at_once() > 1;
        let peer = &mut self.peers[at];
        let small = peer.outbox.iter().position(|(letter, _)| letter.length <= PART);
        let next = small.filter(|_| overtaking).unwrap_or(0);
        let fits = peer.outbox.get(next).is_some_and(|(letter, _)| letter.length <= most);
        let taken = fits.then(|| peer.outbox.remove(next));
        peer.under_way += taken.map_or(0, |(letter, _)| cost(letter.length));
        let hungry = taken.is_none() && (overtaking || peer.outbox.is_empty());
        if let Some(link) = peer.links.iter_mut().find(|(link, _)| *link == number) {
            link.1 = hungry;
        }
        if taken.is_none() && !hungry {
            self.wake_one(at);
        }
        taken
    }
}
