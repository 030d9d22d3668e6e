//! A cluster of three members in the simulator that plays queries of several rounds, and what each of them gathered.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use roadstead_exchange::{
    Exchange, GatherError, Gathered, Key, Member, MemberId, Options, SendError, Simulated, Strategy,
};
use roadstead_sim::{Failure, Report, Sim};

use super::{LIMIT, noise};

pub(crate) const STRATEGIES: [Strategy; 4] =
    [Strategy::Shared, Strategy::PerQuery, Strategy::Pool(3), Strategy::Multiplexed];

/// What a message of the exchange may be cut into.
const PART: usize = 16 << 10;
/// Lengths of messages, below, at and above the limits of one part.
const LENGTHS: [usize; 7] = [0, 1, 500, PART, PART + 1, 3 * PART, 100_000];

/// What the members play: `queries` at once, each of some rounds, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Game {
    pub(crate) seed: u64,
    pub(crate) queries: u128,
    pub(crate) rounds: u32,
    /// The lengths of messages are the first so many of [`LENGTHS`].
    pub(crate) lengths: usize,
    /// How long a gather waits.
    pub(crate) patience: Duration,
}

impl Game {
    /// What `from` has to say to `to`: like no other message of the game.
    pub(crate) fn message(&self, key: Key, from: MemberId, to: MemberId) -> Vec<u8> {
        let place = key.query as u64 * 1000 + u64::from(key.round) * 100 + u64::from(from.0 * 10 + to.0);
        let salt = noise(self.seed, place);
        let length = LENGTHS[salt as usize % self.lengths];
        (0..length).map(|at| (salt >> (at % 57)) as u8 ^ (at / 57) as u8).collect()
    }
}

/// What a gather came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Right,
    Missing(Vec<MemberId>),
}

/// One member, and what it has gathered so far.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) exchange: Exchange,
    game: Game,
    members: Arc<[Member]>,
    log: Arc<Mutex<Vec<(Key, Outcome)>>>,
}

impl Side {
    pub(crate) fn new(exchange: Exchange, game: Game) -> Self {
        Self { exchange, game, members: members().into(), log: Arc::default() }
    }

    /// Plays the rounds of a query from this one on.
    pub(crate) fn play(&self, key: Key) {
        self.speak(key);
        self.gather(key, move |side| {
            if key.round + 1 < side.game.rounds {
                side.play(Key { round: key.round + 1, ..key });
            }
        });
    }

    /// Sends this member's messages of a key; answers to whom none can be sent any more.
    pub(crate) fn speak(&self, key: Key) -> Vec<MemberId> {
        let me = self.exchange.me();
        let sent = |to| match self.exchange.send(to, key, self.game.message(key, me, to)) {
            Ok(()) => None,
            Err(SendError::Full { to, .. }) => Some(to),
            Err(error) => panic!("{error}"),
        };
        self.peers().into_iter().filter_map(sent).collect()
    }

    /// Gathers, checks what came, and goes on.
    pub(crate) fn gather(&self, key: Key, then: impl FnOnce(&Self) + Send + 'static) {
        let side = self.clone();
        self.exchange.gather(key, self.game.patience, move |result| {
            let outcome = side.check(key, result);
            side.log.lock().unwrap().push((key, outcome));
            then(&side);
        });
    }

    /// What a gather came to; what came must be what was sent.
    pub(crate) fn check(&self, key: Key, result: Result<Gathered, GatherError>) -> Outcome {
        match result {
            Ok(messages) => {
                let from: Vec<MemberId> = messages.iter().map(|(id, _)| *id).collect();
                assert_eq!(from, self.peers(), "{key:?}");
                for (from, message) in &messages {
                    let right = self.game.message(key, *from, self.exchange.me());
                    assert!(message[..] == right, "{key:?} of {from} is not what was sent");
                }
                Outcome::Right
            }
            Err(GatherError::Missing { missing, .. }) => {
                Outcome::Missing(missing.iter().map(|it| it.id).collect())
            }
            Err(GatherError::Repeated) => panic!("{key:?} was gathered once only"),
        }
    }

    fn peers(&self) -> Vec<MemberId> {
        let ids = self.members.iter().map(|member| member.id);
        ids.filter(|id| *id != self.exchange.me()).collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<(Key, Outcome)> {
        self.log.lock().unwrap().clone()
    }

    /// Every message that came is accounted for once: gathered, in a gather that failed for others, or too much.
    pub(crate) fn check_accounts(&self) {
        let stats = self.exchange.stats();
        let came: u64 = stats.peers.iter().map(|(_, peer)| peer.messages_in).sum();
        let peers = self.peers();
        let gathered = self.outcomes().into_iter().map(|(key, outcome)| match outcome {
            Outcome::Right => peers.len(),
            Outcome::Missing(missing) => {
                assert!(!missing.is_empty() && missing.iter().all(|id| peers.contains(id)), "{key:?}");
                peers.len() - missing.len()
            }
        });
        let gathered = gathered.sum::<usize>() as u64;
        assert_eq!(came, gathered + stats.late + stats.duplicate + stats.unclaimed, "{stats:?}");
        assert_eq!((stats.waiting, stats.held), (0, 0), "{stats:?}");
    }
}

pub(crate) fn address(id: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, id], 7100))
}

pub(crate) fn members() -> Vec<Member> {
    (1..=3).map(|id| Member::new(id, address(id))).collect()
}

/// Options that notice losses within seconds.
pub(crate) fn options(strategy: Strategy) -> Options {
    let mut options = Options::with(strategy);
    options.silence = Duration::from_secs(2);
    options.connect = Duration::from_secs(1);
    options.patience = LIMIT;
    options
}

/// The three members of a game that is about to begin.
pub(crate) fn seat(sim: &mut Sim, game: Game, options: &Options) -> Vec<Side> {
    let members = members();
    let exchange = |id| sim.exchange(id, &members, options.clone()).unwrap();
    let exchanges: Vec<Exchange> = members.iter().map(|member| member.id).map(exchange).collect();
    exchanges.into_iter().map(|exchange| Side::new(exchange, game)).collect()
}

/// Plays the game to its end; answers what each member gathered. Every gather has ended by then.
pub(crate) fn play(mut sim: Sim, game: Game, options: &Options) -> Result<(Report, Vec<Side>), Failure> {
    let sides = seat(&mut sim, game, options);
    for query in 0..game.queries {
        sides.iter().for_each(|side| side.play(Key { query, round: 0 }));
    }
    let report = sim.run(LIMIT)?;
    for side in &sides {
        assert_eq!(side.outcomes().len(), game.queries as usize * game.rounds as usize, "every gather ends");
        side.check_accounts();
    }
    Ok((report, sides))
}

/// Whether every gather of every side was right.
pub(crate) fn all_right(sides: &[Side]) -> bool {
    sides.iter().flat_map(Side::outcomes).all(|(_, outcome)| outcome == Outcome::Right)
}
