//! The hub beside a model of it: whatever members send, gather, forget and lose, in whatever order, both tell each
//! gather the same and once, send the same next, wake the same links, and hold the same. In the end nothing remains.

mod model;

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use options::Strategy::{Multiplexed, PerQuery, Pool, Shared};
use proptest::{collection::vec, prelude::*, sample::Index};

use roadstead_proto::{budget::Charge, guard::Guarded, ticket::Waker};

use crate::{
    GatherError, Gathered,
    hub::{Hub, Left},
    options::{self, Key, Member, MemberId, Options, PART, cost},
    outbox::Parcel,
    spread::Dialled,
    taken::Taken,
};
use model::{Letter, Model, Told};

/// This member, and its peers: it dials one of them, the others dial it.
const ME: u8 = 5;
const PEERS: [u8; 3] = [2, 7, 9];

/// Links to one peer that are dialled or open at once at most, where each message has its own.
const AT_ONCE: usize = 64;

const LARGEST: usize = PART + 1;
const LENGTHS: [usize; 5] = [8, 300, PART, LARGEST, LARGEST + 1];
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
enum Step {
    Send {
        peer: usize,
        key: u32,
        length: usize,
    },
    Gather {
        key: u32,
        millis: u64,
    },
    Forget {
        key: u32,
    },
    /// The first part of a message has come.
    Begin {
        peer: usize,
        key: u32,
        length: usize,
    },
    /// The rest has come, or the link was lost before.
    Deliver {
        which: Index,
    },
    Lose {
        which: Index,
    },
    /// The service drops what it gathered.
    Drop {
        which: Index,
    },
    /// The keeper looks after so many milliseconds.
    Keep {
        millis: u64,
    },
    Join {
        peer: usize,
    },
    Take {
        link: Index,
        most: usize,
    },
    Confirm {
        link: Index,
    },
    GiveUp {
        link: Index,
    },
    Leave {
        link: Index,
        trouble: bool,
    },
    /// A link that was dialled is not to be had.
    Fail {
        peer: usize,
    },
}

/// A link, and what it has taken and not heard of.
struct Link {
    peer: usize,
    number: u64,
    waker: Waker,
    /// On which loop, if it was dialled.
    dialled: Option<usize>,
    parcels: Vec<(Parcel, Letter)>,
}

type Results = Arc<Mutex<Vec<(usize, Result<Gathered, GatherError>)>>>;

struct Rig {
    hub: Arc<Hub>,
    model: Model,
    options: Options,
    now: Duration,
    keepers: Vec<Waker>,
    /// Links that are being dialled.
    dialling: Vec<Dialled>,
    links: Vec<Link>,
    /// Messages of which only a part has come.
    begun: Vec<(usize, Letter, [Charge; 2])>,
    /// What of the messages of each peer was dropped.
    taken: [Taken; PEERS.len()],
    results: Results,
    gathered: Vec<Gathered>,
    gathers: usize,
    numbers: u64,
}

fn waker() -> Waker {
    Waker(Arc::default())
}

fn key(number: u32) -> Key {
    Key { query: u128::from(number / 2), round: number % 2 }
}

/// Bytes that say which message they are.
fn bytes(letter: Letter) -> Bytes {
    let mut bytes = letter.number.to_le_bytes().to_vec();
    bytes.resize(letter.length, 0);
    bytes.into()
}

fn remove<T>(from: &mut Vec<T>, which: Index) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(which.index(from.len())))
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

impl Rig {
    fn new(strategy: options::Strategy, loops: usize) -> Self {
        let options = Options { strategy, largest: LARGEST, per_peer: 0, total: 0, ..Options::default() };
        let options = Options { patience: PATIENCE, loops, ..options };
        let members = PEERS.iter().map(|id| Member::new(*id, ([127, 0, 0, 1], 9).into())).collect();
        let hub = Hub::new(MemberId(ME), members, None, options.clone());
        let keepers: Vec<_> = (0..loops).map(|_| waker()).collect();
        keepers.iter().enumerate().for_each(|(on, keeper)| hub.keep(on, keeper.clone()));
        Self {
            hub,
            model: Model::new(options.clone()),
            options,
            now: Duration::ZERO,
            keepers,
            dialling: Vec::new(),
            links: Vec::new(),
            begun: Vec::new(),
            taken: PEERS.map(|_| Taken::new(u64::MAX, waker())),
            results: Arc::default(),
            gathered: Vec::new(),
            gathers: 0,
            numbers: 0,
        }
    }

    fn letter(&mut self, key_number: u32, length: usize) -> Letter {
        self.numbers += 1;
        Letter { number: self.numbers, key: key(key_number), length: LENGTHS[length] }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { peer, key, length } => {
                let letter = self.letter(key, length);
                let sent = self.hub.send(peer, letter.key, bytes(letter));
                assert_eq!(sent, self.model.send(peer, letter));
            }
            Step::Gather { key: number, millis } => {
                let (gather, patience) = (self.gathers, Duration::from_millis(millis));
                let results = Arc::clone(&self.results);
                let tell = Box::new(move |result| results.lock().unwrap().push((gather, result)));
                self.gathers += 1;
                self.model.gather(gather, key(number), patience);
                self.hub.gather(key(number), patience, Guarded::new(tell));
            }
            Step::Forget { key: number } => {
                self.model.forget(key(number));
                self.hub.forget(key(number));
            }
            Step::Begin { peer, key, length } if LENGTHS[length] <= LARGEST => {
                let letter = self.letter(key, length);
                let charges = self.hub.reserve(peer, letter.length);
                assert_eq!(charges.is_some(), self.model.reserve(peer, letter.length));
                self.begun.extend(charges.map(|charges| (peer, letter, charges)));
            }
            Step::Deliver { which } => {
                if let Some((peer, letter, charges)) = remove(&mut self.begun, which) {
                    self.model.deliver(peer, letter);
                    self.hub.deliver(peer, letter.key, bytes(letter), charges, self.taken[peer].clone());
                }
            }
            Step::Lose { which } => {
                if let Some((peer, letter, _charges)) = remove(&mut self.begun, which) {
                    self.model.peers[peer].held -= cost(letter.length);
                }
            }
            Step::Drop { which } => {
                for (id, message) in remove(&mut self.gathered, which).into_iter().flatten() {
                    let peer = PEERS.iter().position(|peer| *peer == id.0).unwrap();
                    self.model.drop_one(peer, message.len());
                }
            }
            Step::Keep { millis } => self.keep(Duration::from_millis(millis)),
            _ => self.step_of_link(step),
        }
    }

    fn step_of_link(&mut self, step: &Step) {
        match *step {
            Step::Join { peer } => {
                self.numbers += 1;
                let (number, waker) = (self.numbers, waker());
                let dialled = self.dialled(peer);
                let joins = self.hub.join(peer, number, waker.clone(), dialled.is_some());
                assert!(joins, "there are not so many");
                self.model.join(peer, number, dialled.is_some());
                self.links.push(Link { peer, number, waker, dialled, parcels: Vec::new() });
            }
            Step::Fail { peer } => {
                if let Some(on) = self.dialled(peer) {
                    let (dialled, trouble) = (Some(on), Some("refused".into()));
                    let left = Left { dialled, joined: false, trouble, parcels: Vec::new() };
                    self.model.leave(peer, u64::MAX, &left, Vec::new());
                    self.hub.leave(peer, u64::MAX, left);
                }
            }
            Step::Leave { link, trouble } => {
                let link = remove(&mut self.links, link);
                link.into_iter().for_each(|link| self.leave(link, trouble));
            }
            Step::Take { link, most } if !self.links.is_empty() => {
                let at = link.index(self.links.len());
                let link = &mut self.links[at];
                // As many as travel at once.
                if link.parcels.len() < self.options.strategy.at_once() {
                    let parcel = self.hub.take(link.peer, link.number, |length| length <= LENGTHS[most]);
                    let letter = self.model.take(link.peer, link.number, LENGTHS[most]);
                    let taken =
                        parcel.as_ref().map(|it| (number(&it.message), it.key, it.message.len(), it.expires));
                    assert_eq!(taken, letter.map(|(it, expires)| (it.number, it.key, it.length, expires)));
                    link.parcels.extend(parcel.zip(letter.map(|(letter, _)| letter)));
                }
            }
            Step::Confirm { link } => self.let_go(link, true),
            Step::GiveUp { link } => self.let_go(link, false),
            _ => {}
        }
    }

    /// On which loop a link to a peer has been dialled, if one has.
    fn dialled(&mut self, peer: usize) -> Option<usize> {
        let at = self.dialling.iter().position(|dialled| dialled.to == peer)?;
        Some(self.dialling.remove(at).on)
    }

    /// The oldest parcel of a link has been confirmed, or is not sent after all.
    fn let_go(&mut self, link: Index, confirmed: bool) {
        let Some(link) = (!self.links.is_empty()).then(|| link.index(self.links.len())) else { return };
        let link = &mut self.links[link];
        if link.parcels.is_empty() {
            return;
        }
        let (parcel, letter) = link.parcels.remove(0);
        let peer = &mut self.model.peers[link.peer];
        peer.under_way -= cost(letter.length);
        if confirmed {
            (peer.confirmed, peer.failures) = (peer.confirmed + 1, 0);
            self.hub.confirmed(link.peer, &parcel);
        } else {
            peer.expired += 1;
            self.hub.give_up(link.peer, &parcel);
        }
    }

    fn leave(&mut self, link: Link, trouble: bool) {
        let Link { peer, number, dialled, parcels, .. } = link;
        let trouble = trouble.then(|| format!("lost {number}"));
        let back = parcels.iter().map(|(parcel, letter)| (*letter, parcel.expires)).collect();
        let parcels = parcels.into_iter().map(|(parcel, _)| parcel).collect();
        let left = Left { dialled, joined: true, trouble, parcels };
        self.model.leave(peer, number, &left, back);
        self.hub.leave(peer, number, left);
    }

    fn keep(&mut self, time: Duration) {
        self.now += time;
        assert_eq!(self.hub.expire(self.now), self.model.expire(self.now));
        let back_off = |failures| Duration::from_millis(700) * failures;
        for peer in 0..PEERS.len() {
            let retry = self.hub.deal(peer, self.now, back_off);
            assert_eq!(retry, self.model.deal(peer, self.now, back_off));
            for on in 0..self.keepers.len() {
                let dealt = self.hub.dealt(on);
                let expected: Vec<_> = self.model.dealt.extract_if(.., |it| it.on == on).collect();
                assert_eq!(dealt, expected, "loop {on}");
                self.dialling.extend(dealt);
            }
        }
    }

    /// All that can be seen from outside is the same.
    fn compare(&mut self) {
        let mut told = Vec::new();
        for (gather, result) in mem::take(&mut *self.results.lock().unwrap()) {
            let named = |(id, message): &(MemberId, super::Message)| (*id, number(message));
            match result {
                Ok(gathered) => {
                    told.push((gather, Told::Gathered(gathered.iter().map(named).collect())));
                    self.gathered.push(gathered);
                }
                Err(error) => told.push((gather, Told::from(error))),
            }
        }
        assert_eq!(told, mem::take(&mut self.model.told));
        let woken: Vec<u64> =
            self.links.iter().filter(|link| link.waker.0.take()).map(|link| link.number).collect();
        let mut expected = mem::take(&mut self.model.woken);
        expected.sort_unstable();
        assert_eq!(woken, expected, "links that are woken");
        let woken: Vec<_> = self.keepers.iter().map(|keeper| keeper.0.take()).collect();
        assert_eq!(woken, self.model.keepers, "keepers that are woken");
        self.model.keepers.fill(false);
        assert_eq!(self.hub.shares(), self.model.shares, "links of each loop");
        let dialled = self.links.iter().filter(|link| link.dialled.is_some()).count();
        assert_eq!(self.model.shares.iter().sum::<usize>(), self.dialling.len() + dialled);
        let (stats, model) = (self.hub.stats(), &self.model);
        assert_eq!((stats.waiting, stats.held), (model.waiting(), model.held()));
        assert_eq!(
            (stats.late, stats.duplicate, stats.unclaimed),
            (model.late, model.duplicate, model.unclaimed)
        );
        for (at, peer) in model.peers.iter().enumerate() {
            let (id, it) = &stats.peers[at];
            assert_eq!((id.0, it.up, it.queued), (PEERS[at], peer.links.len(), peer.queued()));
            assert_eq!(
                (it.connections_opened, it.lost, &it.trouble),
                (peer.opened, peer.lost, &peer.trouble)
            );
            assert_eq!(
                (it.messages_in, it.messages_out, it.expired),
                (peer.came, peer.confirmed, peer.expired)
            );
            assert_eq!(self.taken[at].count().0, peer.dropped, "what its links are told was taken");
        }
        for link in &self.links {
            let joined = model.peers[link.peer].links.iter().any(|(number, _)| *number == link.number);
            assert_eq!(self.hub.has(link.peer, link.number), joined);
        }
    }

    /// All links are lost, all who wait have waited long enough, and all is dropped.
    fn end(mut self) {
        while let Some(link) = self.links.pop() {
            self.leave(link, true);
            self.compare();
        }
        self.begun.drain(..).for_each(|(peer, letter, _)| self.model.peers[peer].held -= cost(letter.length));
        for _ in 0..2 {
            self.keep(2 * PATIENCE);
            self.compare();
        }
        self.gathered.clear();
        let stats = self.hub.stats();
        assert_eq!((stats.waiting, stats.held), (0, 0));
        assert!(stats.peers.iter().all(|(_, peer)| (peer.up, peer.queued) == (0, 0)));
        assert_eq!(Arc::strong_count(&self.results), 1, "nobody waits to be told any more");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (peer, key, length) = (0..PEERS.len(), 0..10_u32, 0..LENGTHS.len());
    let which = any::<Index>;
    prop_oneof![
        8 => (peer.clone(), key.clone(), length.clone())
            .prop_map(|(peer, key, length)| Step::Send { peer, key, length }),
        4 => (key.clone(), 0..20_000_u64).prop_map(|(key, millis)| Step::Gather { key, millis }),
        1 => key.clone().prop_map(|key| Step::Forget { key }),
        8 => (peer.clone(), key, length.clone())
            .prop_map(|(peer, key, length)| Step::Begin { peer, key, length }),
        8 => which().prop_map(|which| Step::Deliver { which }),
        1 => which().prop_map(|which| Step::Lose { which }),
        1 => which().prop_map(|which| Step::Drop { which }),
        4 => prop_oneof![0..3_000_u64, Just(PATIENCE.as_millis() as u64)]
            .prop_map(|millis| Step::Keep { millis }),
        4 => peer.clone().prop_map(|peer| Step::Join { peer }),
        10 => (which(), length).prop_map(|(link, most)| Step::Take { link, most }),
        4 => which().prop_map(|link| Step::Confirm { link }),
        1 => which().prop_map(|link| Step::GiveUp { link }),
        3 => (which(), any::<bool>()).prop_map(|(link, trouble)| Step::Leave { link, trouble }),
        1 => peer.prop_map(|peer| Step::Fail { peer }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_hub_does_what_its_model_does(
        strategy in prop::sample::select(vec![Shared, PerQuery, Pool(2), Multiplexed]),
        loops in 1..4_usize,
        steps in vec(step(), 0..150),
    ) {
        let mut rig = Rig::new(strategy, loops);
        for step in &steps {
            rig.step(step);
            rig.compare();
        }
        rig.end();
    }
}
