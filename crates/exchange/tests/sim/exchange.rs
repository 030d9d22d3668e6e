//! The exchange under faults: what is gathered is right or its senders are named, and nothing is left behind.

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use roadstead_exchange::{Key, MemberId, Simulated, Strategy};
use roadstead_sim::{Failure, Faults, Report, Sim, seeds};

use super::{
    LIMIT,
    cluster::{Game, Outcome, STRATEGIES, Side, address, all_right, options, play, seat},
    noise,
};

/// A game that fits any faults.
fn game(seed: u64) -> Game {
    Game {
        seed,
        queries: 1 + u128::from(noise(seed, 20) % 4),
        rounds: 1 + (noise(seed, 21) % 3) as u32,
        lengths: 7,
        patience: LIMIT,
    }
}

/// Nothing, or everything that loses nothing.
fn kind(seed: u64) -> Faults {
    if seed.is_multiple_of(4) { Faults::none() } else { Faults::gentle() }
}

/// A few seeds may all be of one kind, many may not: then each kind is to be among them.
fn few() -> bool {
    seeds(100).count() < 100
}

/// Every run of these is many.
fn some_seeds() -> impl Iterator<Item = u64> {
    seeds(1000).step_by(999)
}

fn count(sides: &[Side], what: impl Fn(&Side) -> u64) -> u64 {
    sides.iter().map(what).sum()
}

#[test]
fn every_gather_is_right_where_nothing_is_lost() {
    for strategy in STRATEGIES {
        let overtaken = Cell::new(0);
        Sim::check(seeds(100), |sim| {
            let seed = sim.seed();
            let (_, sides) = play(sim.faults(kind(seed)), game(seed), &options(strategy))?;
            assert!(all_right(&sides), "{strategy}");
            for side in &sides {
                let stats = side.exchange.stats();
                assert_eq!((stats.late, stats.duplicate, stats.unclaimed), (0, 0, 0), "{strategy}");
                let in_order = side.outcomes().is_sorted_by_key(|(key, _)| (key.round, key.query));
                overtaken.update(|sum| sum + usize::from(!in_order));
            }
            Ok(())
        });
        // Where there are several ways to a peer the seeds let messages overtake each other.
        assert!(few() || strategy == Strategy::Shared || overtaken.get() > 0, "{strategy}");
    }
}

#[test]
fn under_all_faults_a_gather_is_right_or_names_who_is_missing() {
    for strategy in STRATEGIES {
        let (right, missing, twice) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Sim::check(seeds(100), |sim| {
            let game = Game { patience: Duration::from_secs(2), ..game(sim.seed()) };
            let mut options = options(strategy);
            options.patience = Duration::from_secs(10);
            let (_, sides) = play(sim.faults(Faults::harsh()), game, &options)?;
            twice.update(|sum| sum + count(&sides, |side| side.exchange.stats().duplicate));
            for (_, outcome) in sides.iter().flat_map(Side::outcomes) {
                let kind = if outcome == Outcome::Right { &right } else { &missing };
                kind.update(|sum| sum + 1);
            }
            Ok(())
        });
        let all = right.get() > 100 && missing.get() > 10 && twice.get() > 0;
        assert!(few() || all, "{strategy}: {right:?} right, {missing:?} missing, {twice:?} twice");
    }
}

/// Plays a game once whole, and again for every `step`th byte of every connection, which is lost there.
fn cut_everywhere(
    sim: &Sim,
    game: Game,
    strategy: Strategy,
    step: usize,
    mut each: impl FnMut(&[Side]),
) -> Result<(), Failure> {
    let seed = sim.seed();
    // A late third member keeps gathers open, so that what comes twice meets the first of it.
    let late = Duration::from_millis(if seed.is_multiple_of(2) { 100 } else { 1 });
    let world = || Sim::new(seed).faults(Faults::none()).slow(address(3), late);
    let (whole, _) = play(world(), game, &options(strategy))?;
    for (number, link) in whole.connections.iter().enumerate() {
        for (to_server, flow) in [(true, link.up), (false, link.down)] {
            for after in (0..flow.arrived).step_by(step) {
                let (report, sides) = play(world().cut(number, to_server, after), game, &options(strategy))?;
                let place = format!("{strategy}: connection {number} cut after {after} of {flow:?}");
                assert!(all_right(&sides), "{place}");
                check_cut(&report, number, &place);
                each(&sides);
            }
        }
    }
    Ok(())
}

/// The connection was cut, and no other was lost.
fn check_cut(report: &Report, number: usize, place: &str) {
    let cut: Vec<usize> =
        (0..report.connections.len()).filter(|&link| report.connections[link].cut.is_some()).collect();
    assert_eq!(cut, [number], "{place}");
}

#[test]
fn a_connection_may_be_lost_after_any_byte_and_every_gather_is_right() {
    for strategy in STRATEGIES {
        let (late, twice) = (Cell::new(0), Cell::new(0));
        Sim::check(some_seeds(), |sim| {
            // All messages are empty, or some are.
            [1, 2].into_iter().try_for_each(|lengths| {
                let game = Game { queries: 2, rounds: 2, lengths, ..game(sim.seed()) };
                cut_everywhere(&sim, game, strategy, 1, |sides| {
                    late.update(|sum| sum + count(sides, |side| side.exchange.stats().late));
                    twice.update(|sum| sum + count(sides, |side| side.exchange.stats().duplicate));
                })
            })
        });
        assert!(few() || late.get() > 0 && twice.get() > 0, "{strategy}: nothing came twice");
    }
}

#[test]
fn a_connection_may_be_lost_within_large_messages_and_every_gather_is_right() {
    for strategy in STRATEGIES {
        Sim::check(some_seeds(), |sim| {
            let game = Game { queries: 3, rounds: 2, lengths: 7, ..game(sim.seed()) };
            cut_everywhere(&sim, game, strategy, 7919, |_| {})
        });
    }
}

#[test]
fn only_the_slow_member_is_missed() {
    for strategy in STRATEGIES {
        Sim::check(seeds(50), |sim| {
            let seed = sim.seed();
            let mut options = options(strategy);
            (options.silence, options.connect) = (Duration::from_secs(20), Duration::from_secs(20));
            options.patience = Duration::from_secs(60);
            let game = Game { patience: Duration::from_secs(1), lengths: 3, ..game(seed) };
            let sim = sim.faults(kind(seed)).slow(address(3), Duration::from_secs(4));
            let (_, sides) = play(sim, game, &options)?;
            for (key, outcome) in sides[..2].iter().flat_map(Side::outcomes) {
                assert_eq!(outcome, Outcome::Missing(vec![MemberId(3)]), "{strategy} {key:?}");
            }
            Ok(())
        });
    }
}

/// Member 3 sends its messages and gathers none; the others play one query after the other.
fn play_on(sides: Arc<[Side]>, query: u128, last: u128, full: Arc<dyn Fn(Vec<MemberId>) + Send + Sync>) {
    let key = Key { query, round: 0 };
    for side in &sides[..] {
        full(side.speak(key));
    }
    let all = Arc::clone(&sides);
    sides[0].gather(key, move |_| {
        let second = all[1].clone();
        second.gather(key, move |_| {
            if query < last {
                play_on(all, query + 1, last, full);
            }
        });
    });
}

#[test]
fn a_member_that_takes_nothing_disturbs_no_query_of_the_others() {
    for strategy in STRATEGIES {
        let waited = Cell::new(0);
        Sim::check(seeds(10), |mut sim| {
            let seed = sim.seed();
            let game = Game { lengths: 5, rounds: 1, ..game(seed) };
            let mut options = options(strategy);
            (options.largest, options.per_peer) = (48 << 10, 200_000);
            options.patience = Duration::from_secs(60);
            let sides = seat(&mut sim, game, &options);
            let turned_away = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&turned_away);
            let full = move |whom: Vec<MemberId>| {
                assert!(whom.iter().all(|id| *id == MemberId(3)), "{whom:?}");
                count.fetch_add(whom.len(), Relaxed);
            };
            play_on(sides.clone().into(), 0, 119, Arc::new(full));
            // On a narrow road its own messages would fill the outbox while their confirmations wait behind others.
            let report = sim.faults(Faults { short: 0.0, ..kind(seed) }).run(LIMIT)?;
            for side in &sides[..2] {
                let outcomes = side.outcomes();
                assert_eq!(outcomes.len(), 120, "{strategy}");
                assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Right), "{strategy}");
            }
            waited.update(|sum| sum + turned_away.load(Relaxed));
            // Nobody is cut off for what it could not know, or comes again at once when it is turned away.
            let opened = report.connections.len();
            let most = match strategy {
                Strategy::PerQuery => 20_000,
                Strategy::Pool(links) => 3 * usize::from(links),
                Strategy::Shared | Strategy::Multiplexed => 3,
            };
            assert!(opened <= most, "{strategy}: {opened} connections");
            Ok(())
        });
        assert!(few() || waited.get() > 0, "{strategy}: there was room for everything");
    }
}

#[test]
fn a_member_that_dies_and_comes_back_is_waited_for() {
    for strategy in STRATEGIES {
        let died_within = Cell::new(0);
        Sim::check(seeds(50), |mut sim| {
            let seed = sim.seed();
            let game = Game { queries: 6, rounds: 1, patience: Duration::from_secs(300), ..game(seed) };
            let sides = seat(&mut sim, game, &options(strategy));
            let at = Duration::from_micros(noise(seed, 30) % 30_000);
            let again = sim.restart(&sides[1].exchange, at, Duration::from_millis(300)).unwrap();
            let again = Side::new(again, game);
            let keys = (0..game.queries).map(|query| Key { query, round: 0 });
            for key in keys.clone() {
                [&sides[0], &sides[1], &sides[2], &again].iter().for_each(|side| side.play(key));
            }
            // A query that begins when all others are over finds all three.
            let last = Key { query: 99, round: 0 };
            let (first, third) = (sides[0].clone(), sides[2].clone());
            let (early, whole) = (sides[1].clone(), [again.clone()]);
            again.gather(Key { query: 98, round: 0 }, move |again| {
                [&first, again, &third].iter().for_each(|side| side.play(last));
            });
            sim.faults(kind(seed)).run(LIMIT)?;
            for key in keys.clone() {
                // What the dead one still waits for holds its handle.
                early.exchange.forget(key);
            }
            died_within.update(|sum| sum + usize::from(early.outcomes().len() < keys.count()));
            assert!(all_right(&[sides[0].clone(), sides[2].clone()]), "{strategy}");
            for side in [&sides[0], &sides[2], &whole[0]] {
                assert_eq!(side.outcomes().last(), Some(&(last, Outcome::Right)), "{strategy}");
                side.check_accounts();
            }
            Ok(())
        });
        assert!(
            few() || died_within.get() > 0,
            "{strategy}: it had always gathered everything before it died"
        );
    }
}

#[test]
fn the_same_seed_is_the_same_cluster() {
    let mut traces = BTreeSet::new();
    for seed in 0..40 {
        let strategy = STRATEGIES[seed as usize % STRATEGIES.len()];
        let mut options = options(strategy);
        options.patience = Duration::from_secs(10);
        let game = Game { patience: Duration::from_secs(2), ..game(seed) };
        let runs = [(); 2].map(|()| {
            let (report, sides) = play(Sim::new(seed), game, &options).unwrap();
            (report, sides.iter().map(|side| (side.outcomes(), side.exchange.stats())).collect::<Vec<_>>())
        });
        assert_eq!(runs[0], runs[1]);
        traces.insert(runs[0].0.trace.to_string());
    }
    assert_eq!(traces.len(), 40, "and another seed is another run");
}
