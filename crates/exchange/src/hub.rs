//! The exchange without links: what waits to be sent to each peer, what came and belongs together, who is missing.
//!
//! Services call it from any thread; links and keepers call it from the loop that each is on. Nothing here waits, and
//! what a gather leads to is called outside of the lock.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use roadstead_proto::{
    budget::{Charge, Meter},
    guard::{self, Guarded},
    ticket::Waker,
};

use crate::{
    error::{GatherError, Missing, SendError},
    message::Message,
    options::{Key, Member, MemberId, Options, cost},
    outbox::{Outbox, Parcel},
    recent::Recent,
    spread::{Dialled, Spread},
    stats::{ExchangeStats, PeerStats},
    taken::Taken,
    trust::Trust,
};

/// What a gather came to, told to whoever wanted it.
pub(super) type Tell = Guarded<Box<dyn FnOnce(Result<Gathered, GatherError>) + Send>>;

/// The messages of all peers, in the order of their numbers.
pub type Gathered = Vec<(MemberId, Message)>;

pub(super) struct Hub {
    pub(crate) me: MemberId,
    pub(super) peers: Vec<Member>,
    pub(super) trust: Option<Trust>,
    pub(crate) options: Options,
    /// Bytes received from each peer, and from all.
    meters: Vec<Arc<Meter>>,
    total: Arc<Meter>,
    state: Mutex<State>,
}

struct State {
    gathers: HashMap<Key, Gather>,
    /// In the order in which they will be given up.
    deadlines: BTreeSet<(Duration, Key)>,
    /// Gathers whose deadline begins when the keeper next looks at the time.
    fresh: Vec<Key>,
    finished: Recent<Key>,
    peers: Vec<Peer>,
    spread: Spread,
    stats: ExchangeStats,
}

/// What came of one key, and who wants it.
#[derive(Default)]
struct Gather {
    /// Those that have come, with the position of their sender. Nothing is kept for those that have not: a hostile peer
    /// chooses the keys.
    messages: Vec<(usize, Message)>,
    wanted: Option<(Duration, Tell)>,
    deadline: Option<Duration>,
}

/// One peer, as the hub sees it.
#[derive(Default)]
struct Peer {
    outbox: Outbox,
    links: Vec<LinkEntry>,
    dialling: usize,
    failures: u32,
    /// A link was lost since the keeper last looked.
    stumbled: bool,
    retry_at: Duration,
    /// Why it cannot be reached, when it cannot.
    trouble: Option<String>,
    stats: PeerStats,
}

impl Peer {
    /// Wakes a link that waits for something to send. False if there is none.
    fn feed(&mut self) -> bool {
        let hungry = self.links.iter_mut().find(|link| link.hungry);
        hungry.is_some_and(|link| {
            link.hungry = false;
            link.waker.wake();
            true
        })
    }
}

struct LinkEntry {
    number: u64,
    waker: Waker,
    /// It has found the outbox empty and wants to be woken for the next parcel.
    hungry: bool,
}

impl Hub {
    pub(crate) fn new(me: MemberId, peers: Vec<Member>, trust: Option<Trust>, options: Options) -> Arc<Self> {
        let state = State {
            gathers: HashMap::new(),
            deadlines: BTreeSet::new(),
            fresh: Vec::new(),
            finished: Recent::new(FINISHED),
            peers: peers.iter().map(|_| Peer::default()).collect(),
            spread: Spread::over(options.loops),
            stats: ExchangeStats::default(),
        };
        let meter = |_: &Member| Meter::new(options.held());
        Arc::new(Self {
            me,
            meters: peers.iter().map(meter).collect(),
            total: Meter::new(options.total.max(peers.len() * options.held())),
            peers,
            trust,
            options,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of a member among the peers.
    pub(crate) fn index(&self, id: MemberId) -> Option<usize> {
        self.peers.iter().position(|peer| peer.id == id)
    }

    /// The keeper of a loop is known now.
    pub(super) fn keep(&self, on: usize, keeper: Waker) {
        self.state().spread.keep(on, keeper);
    }

    /// How many links each loop has of those that this side opens.
    #[cfg(test)]
    pub(super) fn shares(&self) -> Vec<usize> {
        self.state().spread.each()
    }

    /// What the keeper of a loop has to dial.
    pub(super) fn dealt(&self, on: usize) -> Vec<Dialled> {
        self.state().spread.dealt(on)
    }

    /// Puts a message before the links of a peer.
    pub(crate) fn send(&self, peer: usize, key: Key, message: Bytes) -> Result<(), SendError> {
        if message.len() > self.options.largest {
            return Err(SendError::TooLarge { length: message.len(), limit: self.options.largest });
        }
        let mut state = self.state();
        let room = self.options.per_peer.max(4 * cost(self.options.largest));
        if state.peers[peer].outbox.bytes() + cost(message.len()) > room {
            return Err(SendError::Full { to: self.peers[peer].id, limit: room });
        }
        let it = &mut state.peers[peer];
        it.outbox.push(key, message);
        if !it.feed() && (it.links.is_empty() || self.options.strategy.kept() == 0) {
            // It has to be dialled, or at least given up in time.
            state.spread.wake_first();
        }
        Ok(())
    }

    /// Asks for the messages of all peers.
    pub(crate) fn gather(&self, key: Key, patience: Duration, tell: Tell) {
        let mut state = self.state();
        if state.finished.contains(&key) || state.gathers.get(&key).is_some_and(|it| it.wanted.is_some()) {
            drop(state);
            return finish(tell, Err(GatherError::Repeated));
        }
        let gather = state.gathers.entry(key).or_default();
        gather.wanted = Some((patience, tell));
        if let Some(old) = gather.deadline.take() {
            state.deadlines.remove(&(old, key));
        }
        state.begin(key);
        let complete = state.complete(key);
        drop(state);
        self.tell(complete);
    }

    /// Nobody will gather this any more.
    pub(crate) fn forget(&self, key: Key) {
        let mut state = self.state();
        let gather = state.remove(key);
        state.finished.insert(key);
        drop(state);
        drop(gather);
    }

    /// Memory for a message of `length` bytes from a peer.
    pub(crate) fn reserve(&self, peer: usize, length: usize) -> Option<[Charge; 2]> {
        Some([self.meters[peer].charge(cost(length))?, self.total.charge(cost(length))?])
    }

    /// A whole message has come.
    pub(crate) fn deliver(&self, peer: usize, key: Key, bytes: Bytes, charges: [Charge; 2], taken: Taken) {
        let message = Message::new(bytes, charges, taken);
        let mut state = self.state();
        state.peers[peer].stats.messages_in += 1;
        if state.finished.contains(&key) {
            state.stats.late += 1;
            drop(state);
            return drop(message);
        }
        let gather = state.gathers.entry(key).or_default();
        if gather.messages.iter().any(|(from, _)| *from == peer) {
            state.stats.duplicate += 1;
            drop(state);
            return drop(message);
        }
        gather.messages.reserve_exact(1);
        gather.messages.push((peer, message));
        if gather.wanted.is_none() && gather.deadline.is_none() {
            state.begin(key);
        }
        let complete = state.complete(key);
        drop(state);
        self.tell(complete);
    }

    fn tell(&self, complete: Option<(Gather, Tell)>) {
        if let Some((Gather { mut messages, .. }, tell)) = complete {
            messages.sort_unstable_by_key(|(from, _)| *from);
            let named = messages.into_iter().map(|(from, message)| (self.peers[from].id, message));
            finish(tell, Ok(named.collect()));
        }
    }

    /// The keeper looks at the time: what has waited too long ends. Answers when to look again.
    pub(super) fn expire(&self, now: Duration) -> Option<Duration> {
        let mut state = self.state();
        for key in mem::take(&mut state.fresh) {
            let patience = self.options.patience;
            let Some(gather) = state.gathers.get_mut(&key).filter(|gather| gather.deadline.is_none()) else {
                continue;
            };
            let wait = gather.wanted.as_ref().map_or(patience, |(wanted, _)| *wanted);
            let deadline = now.saturating_add(wait);
            gather.deadline = Some(deadline);
            state.deadlines.insert((deadline, key));
        }
        let mut given_up = Vec::new();
        while let Some(&(deadline, key)) = state.deadlines.first()
            && deadline <= now
        {
            let Some(gather) = state.remove(key) else { break };
            if gather.wanted.is_some() {
                let error = self.missing(&state, &gather);
                given_up.push((gather, error));
            } else {
                state.stats.unclaimed += gather.messages.len() as u64;
            }
        }
        let mut next = state.deadlines.first().map(|(deadline, _)| *deadline);
        for peer in &mut state.peers {
            let (expired, soonest) = peer.outbox.expire(now, self.options.patience);
            peer.stats.expired += expired;
            next = [next, soonest].into_iter().flatten().min();
        }
        drop(state);
        for (gather, error) in given_up {
            if let Some((_, tell)) = gather.wanted {
                finish(tell, Err(error));
            }
        }
        next
    }

    fn missing(&self, state: &State, gather: &Gather) -> GatherError {
        let patience = gather.wanted.as_ref().map_or(self.options.patience, |(patience, _)| *patience);
        let missing = self.peers.iter().zip(&state.peers).enumerate();
        let missing = missing.filter(|(at, _)| gather.messages.iter().all(|(from, _)| from != at));
        let missing = missing.map(|(_, (member, peer))| Missing {
            id: member.id,
            address: member.address,
            why: peer.trouble.clone(),
        });
        GatherError::Missing { patience, missing: missing.collect() }
    }

    /// Deals the links to a peer that are to be dialled. If it may not be tried again yet, answers when it may.
    pub(super) fn deal(
        &self,
        peer: usize,
        now: Duration,
        back_off: impl FnOnce(u32) -> Duration,
    ) -> Option<Duration> {
        let mut state = self.state();
        let it = &mut state.peers[peer];
        if mem::take(&mut it.stumbled) {
            it.retry_at = now.saturating_add(back_off(it.failures));
        }
        let kept = self.options.strategy.kept();
        let wanted = match kept {
            0 => it.outbox.len().min(AT_ONCE),
            // Who came later dials: one of the two has to.
            _ if self.peers[peer].id < self.me => kept,
            _ => 0,
        };
        let have = it.dialling + if kept == 0 { 0 } else { it.links.len() };
        let missing = wanted.saturating_sub(have).min(AT_ONCE.saturating_sub(it.dialling + it.links.len()));
        if missing > 0 && it.retry_at > now {
            return Some(it.retry_at);
        }
        it.dialling += missing;
        it.stats.connections_opened += missing as u64;
        state.spread.deal(peer, missing);
        None
    }

    /// A link can carry messages of a peer from now on. False if there are too many.
    pub(crate) fn join(&self, peer: usize, number: u64, waker: Waker, dialled: bool) -> bool {
        let mut state = self.state();
        let it = &mut state.peers[peer];
        let kept = self.options.strategy.kept();
        if kept == 0 && it.links.len() >= 2 * AT_ONCE {
            return false;
        }
        if kept > 0 && it.links.len() >= kept {
            // Who dials keeps no more than these: one has ended over there, and its end has not come through.
            it.links.remove(0).waker.wake();
        }
        it.dialling = it.dialling.saturating_sub(dialled.into());
        it.trouble = None;
        it.links.push(LinkEntry { number, waker, hungry: false });
        it.stats.up = it.links.len();
        true
    }

    /// Whether a link that has joined is still one of those that carry messages.
    pub(crate) fn has(&self, peer: usize, number: u64) -> bool {
        self.state().peers[peer].links.iter().any(|link| link.number == number)
    }

    /// A link is gone: what it had not confirmed goes back to the outbox, before what was sent after it.
    pub(crate) fn leave(&self, peer: usize, number: u64, left: Left) {
        let mut state = self.state();
        let it = &mut state.peers[peer];
        it.links.retain(|link| link.number != number);
        it.dialling = it.dialling.saturating_sub((left.dialled.is_some() && !left.joined).into());
        it.stats.up = it.links.len();
        if let Some(trouble) = left.trouble {
            it.stats.lost += 1;
            // The loss of a link that the peer has opened says nothing about those that are opened to it.
            it.failures += u32::from(left.dialled.is_some());
            it.stumbled |= left.dialled.is_some();
            it.trouble = it.links.is_empty().then_some(trouble);
        }
        it.outbox.give_back(left.parcels);
        if it.outbox.len() > 0 {
            it.feed();
        }
        if let Some(on) = left.dialled {
            state.spread.lost(on);
        }
        state.spread.wake_first();
    }

    /// The next parcel for a link, if it `fits`. When there is none the link is woken for the next.
    pub(crate) fn take(&self, peer: usize, number: u64, fits: impl Fn(usize) -> bool) -> Option<Parcel> {
        let mut state = self.state();
        let overtaking = self.options.strategy.at_once() > 1;
        let it = &mut state.peers[peer];
        let parcel = it.outbox.take(overtaking, fits);
        // What does not fit now will be asked for when there is room.
        let hungry = parcel.is_none() && (it.outbox.len() == 0 || overtaking);
        if let Some(link) = it.links.iter_mut().find(|link| link.number == number) {
            link.hungry = hungry;
        }
        if parcel.is_none() && !hungry {
            // Another link may have the room that this one lacks.
            it.feed();
        }
        parcel
    }

    /// A parcel is not to be sent after all.
    pub(crate) fn give_up(&self, peer: usize, parcel: &Parcel) {
        let it = &mut self.state().peers[peer];
        it.outbox.release(parcel);
        it.stats.expired += 1;
    }

    /// A parcel has been confirmed by a peer.
    pub(super) fn confirmed(&self, peer: usize, parcel: &Parcel) {
        let it = &mut self.state().peers[peer];
        it.outbox.release(parcel);
        it.stats.messages_out += 1;
        it.failures = 0;
    }

    /// Counts what a link has moved, and what the smallest message has had before it at most.
    pub(crate) fn count(&self, peer: usize, bytes_in: u64, bytes_out: u64, ahead: u64) {
        let mut state = self.state();
        let stats = &mut state.peers[peer].stats;
        stats.bytes_in += bytes_in;
        stats.bytes_out += bytes_out;
        stats.most_ahead = stats.most_ahead.max(ahead);
    }

    /// Somebody was turned away at the listener.
    pub(crate) fn refuse(&self) {
        self.state().stats.refused += 1;
    }

    pub(crate) fn stats(&self) -> ExchangeStats {
        let state = self.state();
        let mut stats = state.stats.clone();
        stats.waiting = state.gathers.len();
        stats.held = self.total.used();
        for (member, peer) in self.peers.iter().zip(&state.peers) {
            let queued = peer.outbox.bytes();
            let trouble = peer.trouble.clone();
            stats.peers.push((member.id, PeerStats { queued, trouble, ..peer.stats.clone() }));
        }
        stats
    }
}

/// Tells what a gather came to. A panic of whoever hears it must not take the link or the keeper along that has led to
/// it.
fn finish(tell: Tell, result: Result<Gathered, GatherError>) {
    if guard::call(|| tell.into_inner()(result)).is_none() {
        tracing::error!("what was called with the messages of a gather has panicked");
    }
}

/// What became of a link that is gone.
pub(super) struct Left {
    /// On which loop, if this side has opened it.
    pub(super) dialled: Option<usize>,
    /// It could carry messages.
    pub(super) joined: bool,
    pub(super) trouble: Option<String>,
    pub(super) parcels: Vec<Parcel>,
}

/// Links to one peer that are dialled or open at once, where every message has its own.
const AT_ONCE: usize = 64;
/// Keys remembered after they were finished, to know what comes late.
const FINISHED: usize = 16 << 10;

impl State {
    /// The deadline of `key` begins when the keeper looks next.
    fn begin(&mut self, key: Key) {
        if self.fresh.is_empty() {
            self.spread.wake_first();
        }
        self.fresh.push(key);
    }

    fn complete(&mut self, key: Key) -> Option<(Gather, Tell)> {
        let gather = self.gathers.get(&key)?;
        if gather.wanted.is_none() || gather.messages.len() < self.peers.len() {
            return None;
        }
        let mut gather = self.remove(key)?;
        let (_, tell) = gather.wanted.take()?;
        Some((gather, tell))
    }

    fn remove(&mut self, key: Key) -> Option<Gather> {
        let gather = self.gathers.remove(&key)?;
        if let Some(deadline) = gather.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        self.finished.insert(key);
        Some(gather)
    }
}
