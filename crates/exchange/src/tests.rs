//! The hub as links and services use it, without links.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;

use roadstead_proto::{
    Address,
    budget::Budget,
    connection::{Connection, Endpoint, Event, Op},
    guard::Guarded,
    host::{Host, Shared},
    ticket::{Token, Waker},
};

use crate::{
    GatherError, SendError,
    hub::{Gathered, Hub, Left},
    keeper::Keeper,
    link::Link,
    message::Message,
    options::{Key, Member, MemberId, Options, Strategy, cost},
    spread::Dialled,
    taken::Taken,
};

fn key(query: u128) -> Key {
    Key { query, round: 0 }
}

/// Member 9's, whose peers are these.
fn hub_among(peers: &[u8], options: Options) -> Arc<Hub> {
    let peers = peers.iter().map(|id| Member::new(*id, ([127, 0, 0, 1], 9).into()));
    Hub::new(MemberId(9), peers.collect(), None, options)
}

/// Member 9's, whose only peer is member 2.
fn hub(options: Options) -> Arc<Hub> {
    hub_among(&[2], options)
}

fn waker() -> Waker {
    Waker(Arc::default())
}

/// Links that have found nothing to send.
fn hungry<const N: usize>(hub: &Hub) -> [Waker; N] {
    let wakers = [(); N].map(|()| waker());
    for (number, waker) in (0..).zip(&wakers) {
        assert!(hub.join(0, number, waker.clone(), false));
        assert!(hub.take(0, number, |_| true).is_none());
    }
    wakers
}

/// Which of them were woken since this was asked last.
fn woken<const N: usize>(wakers: &[Waker; N]) -> [bool; N] {
    wakers.each_ref().map(|waker| waker.0.take())
}

#[test]
fn what_does_not_fit_one_link_goes_by_another() {
    let hub = hub(Options::with(Strategy::Pool(3)));
    let links = hungry(&hub);
    hub.send(0, key(1), "ahoy".into()).unwrap();
    assert_eq!(woken(&links), [true, false, false]);
    assert!(hub.take(0, 0, |_| false).is_none());
    assert_eq!(woken(&links), [false, true, false]);
    assert!(hub.take(0, 1, |_| true).is_some());
    assert_eq!(woken(&links), [false; 3]);
}

#[test]
fn a_link_that_has_something_to_send_is_not_woken_for_more() {
    let hub = hub(Options::with(Strategy::Pool(3)));
    let links = hungry(&hub);
    hub.send(0, key(1), "ahoy".into()).unwrap();
    // The second is faster than the first, which was woken.
    assert!(hub.take(0, 1, |_| true).is_some());
    hub.send(0, key(2), "ahoy".into()).unwrap();
    assert_eq!(woken(&links), [true, false, true]);
}

#[test]
fn what_is_under_way_takes_up_room_until_it_is_confirmed() {
    let hub = hub(Options { largest: 1000, per_peer: 0, ..Options::default() });
    let send = |query| hub.send(0, key(query), vec![0; 1000].into());
    (0..4).for_each(|query| send(query).unwrap());
    let taken = [(); 4].map(|()| hub.take(0, 0, |_| true).unwrap());
    assert_eq!(send(4), Err(SendError::Full { to: MemberId(2), limit: 4 * cost(1000) }));
    hub.confirmed(0, &taken[0]);
    send(4).unwrap();
    assert!(send(5).is_err());
}

#[test]
fn a_thread_that_is_slow_to_take_a_message_may_find_that_more_was_told_meanwhile() {
    let hub = hub(Options::default());
    let waker = waker();
    let taken = Taken::new(1, waker.clone());
    let message = || Message::new(Bytes::new(), hub.reserve(0, 0).unwrap(), taken.clone());
    taken.tell(cost(0) as u64 + 1);
    drop(message());
    assert!(!waker.0.take());
    drop(message());
    assert!(waker.0.take());
    assert_eq!((taken.count(), hub.stats().held), ((2 * cost(0) as u64, true), 0));
}

#[test]
fn a_new_link_takes_the_place_of_one_whose_end_has_not_come_through() {
    for (strategy, kept) in [(Strategy::Shared, 1), (Strategy::Pool(3), 3), (Strategy::Multiplexed, 1)] {
        let hub = hub(Options::with(strategy));
        let links: Vec<Waker> = (0..=kept).map(|_| waker()).collect();
        for (number, waker) in (0..).zip(&links) {
            assert!(hub.join(0, number, waker.clone(), false));
        }
        let woken: Vec<bool> = links.iter().map(|waker| waker.0.take()).collect();
        assert_eq!(woken.iter().filter(|woken| **woken).count(), 1, "{strategy}");
        assert!(woken[0] && !hub.has(0, 0) && hub.has(0, kept), "{strategy}");
        assert_eq!(hub.stats().peers[0].1.up as u64, kept, "{strategy}");
    }
}

#[test]
fn a_peer_may_have_a_link_for_each_query_and_no_more_than_there_may_be_at_once() {
    let hub = hub(Options::with(Strategy::PerQuery));
    assert_eq!((0..1000).take_while(|number| hub.join(0, *number, waker(), false)).count(), 128);
}

#[test]
fn who_is_at_the_limit_of_its_connections_dials_again_after_a_while() {
    let (hub, shared) = (hub(Options::default()), Shared::new(Budget::default().connections(1)));
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let permit = shared.gate.admit(None).unwrap();
    let address = ([127, 0, 0, 1], 9).into();
    let (mut keeper, _) = Connection::outgoing(Keeper::new(Arc::clone(&hub), 0), address, shared, permit);
    keeper.place(Token(1), host.wake_queue(), Duration::ZERO);
    keeper.handle(Duration::ZERO, Event::Opened, &mut host);
    let mut now = Duration::ZERO;
    for lost in 1..4 {
        let (_, peer) = hub.stats().peers.remove(0);
        assert!(peer.lost == lost && peer.trouble.is_some(), "{peer:?}");
        keeper.handle(now, Event::Woken, &mut host);
        now = keeper.deadline().unwrap();
        keeper.handle(now, Event::Tick, &mut host);
    }
}

#[test]
fn what_was_forgotten_before_it_came_is_not_kept() {
    let hub = hub(Options::default());
    hub.forget(key(1));
    let taken = Taken::new(1, waker());
    let charges = hub.reserve(0, 4).unwrap();
    hub.deliver(0, key(1), "ahoy".into(), charges, taken);
    assert_eq!((hub.stats().late, hub.stats().held, hub.stats().waiting), (1, 0, 0));
}

/// One byte of a peer, for the first query.
fn come(hub: &Hub, peer: usize) {
    let taken = Taken::new(1, waker());
    hub.deliver(peer, key(1), vec![peer as u8].into(), hub.reserve(peer, 1).unwrap(), taken);
}

/// What the first query's gather will come to.
fn gather(hub: &Hub, patience: Duration) -> mpsc::Receiver<Result<usize, GatherError>> {
    let (tell, told) = mpsc::channel();
    let tell = move |gathered: Result<Gathered, _>| tell.send(gathered.map(|all| all.len())).unwrap();
    hub.gather(key(1), patience, Guarded::new(Box::new(tell)));
    told
}

#[test]
fn a_gatherer_that_panics_is_no_fault_of_whoever_brought_the_last_message() {
    let hub = hub(Options::default());
    hub.gather(
        key(1),
        Duration::MAX,
        Guarded::new(Box::new(|_| panic!("a gatherer that is meant to panic"))),
    );
    come(&hub, 0);
    assert_eq!((hub.stats().waiting, hub.stats().held), (0, 0));
}

#[test]
fn a_message_that_comes_twice_stands_for_one_peer_and_one_that_comes_after_all_were_gathered_for_none() {
    let hub = hub_among(&[1, 2], Options::default());
    let told = gather(&hub, Duration::from_secs(1));
    come(&hub, 0);
    come(&hub, 0);
    assert!(told.try_recv().is_err(), "the other is missing");
    come(&hub, 1);
    assert_eq!(told.try_recv().unwrap(), Ok(2));
    come(&hub, 1);
    let stats = hub.stats();
    assert_eq!((stats.duplicate, stats.late, stats.held, stats.waiting), (1, 1, 0, 0));
}

#[test]
fn a_gather_has_all_of_its_patience_however_early_a_message_came() {
    let second = Duration::from_secs(1);
    let hub = hub_among(&[1, 2], Options { patience: second, ..Options::default() });
    come(&hub, 0);
    hub.expire(Duration::ZERO);
    let told = gather(&hub, 3 * second);
    for (now, over) in [(Duration::ZERO, false), (2 * second, false), (3 * second, true)] {
        hub.expire(now);
        assert_eq!(told.try_recv().is_ok(), over, "after {now:?}");
    }
    assert_eq!((hub.stats().held, hub.stats().waiting), (0, 0));
}

#[test]
fn back_off_follows_the_loss_of_links_that_this_side_has_opened_until_one_has_carried_something() {
    let second = Duration::from_secs(1);
    for (dialled, confirmed, wait) in [(false, 0, 0), (true, 0, 4), (true, 3, 2)] {
        let hub = hub(Options::with(Strategy::PerQuery));
        for number in 0..3 {
            assert!(hub.join(0, number, waker(), dialled));
            hub.send(0, key(number.into()), "ahoy".into()).unwrap();
            if number < confirmed {
                hub.confirmed(0, &hub.take(0, number, |_| true).unwrap());
            }
            if dialled {
                hub.deal(0, Duration::ZERO, |_| Duration::ZERO);
            }
            let dialled = dialled.then_some(0);
            let left = Left { dialled, joined: true, trouble: Some("lost".into()), parcels: Vec::new() };
            hub.leave(0, number, left);
        }
        hub.send(0, key(3), "ahoy".into()).unwrap();
        let retry = hub.deal(0, second, |failures| second * (failures + 1));
        assert_eq!(retry, (wait > 0).then_some(second * (1 + wait)));
    }
}

#[test]
fn what_is_gathered_is_in_the_order_of_the_peers_whoever_came_first_and_who_did_not_is_named() {
    for (came, missing) in [(vec![2, 0, 1], vec![]), (vec![1], vec![1, 3]), (vec![2, 0], vec![2])] {
        let hub = hub_among(&[1, 2, 3], Options::default());
        let (tell, told) = mpsc::channel();
        hub.gather(key(1), Duration::ZERO, Guarded::new(Box::new(move |result| tell.send(result).unwrap())));
        for peer in came {
            let taken = Taken::new(1, waker());
            let charges = hub.reserve(peer, 1).unwrap();
            hub.deliver(peer, key(1), vec![peer as u8].into(), charges, taken);
        }
        hub.expire(Duration::ZERO);
        match told.try_recv().unwrap() {
            Ok(gathered) => {
                let gathered: Vec<_> = gathered.iter().map(|(id, message)| (id.0, message[0])).collect();
                assert_eq!((gathered, missing), (vec![(1, 0), (2, 1), (3, 2)], vec![]));
            }
            Err(GatherError::Missing { missing: named, .. }) => {
                assert_eq!(named.iter().map(|it| it.id.0).collect::<Vec<_>>(), missing);
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!((hub.stats().waiting, hub.stats().held), (0, 0));
    }
}

#[test]
fn a_link_is_not_given_up_as_silent_because_somebody_calls_before_its_socket_was_looked_at() {
    let (hub, address) = (hub(Options::default()), Address::from(([127, 0, 0, 1], 9)));
    let shared = Shared::new(Budget::default());
    let mut host = Host::alone(Arc::clone(&shared), 1);
    let permit = shared.gate.admit(None).unwrap();
    let link = Link::new(Arc::clone(&hub), address.clone(), Some(Dialled { to: 0, on: 0 }));
    let (mut connection, waker) = Connection::outgoing(link, address, shared, permit);
    connection.place(Token(1), host.wake_queue(), Duration::ZERO);
    connection.handle(Duration::ZERO, Event::Opened, &mut host);
    let mut closes = |event| {
        connection.handle(hub.options.silence, event, &mut host);
        std::iter::from_fn(|| connection.next()).any(|op| matches!(op, Op::Close { .. }))
    };
    waker.wake();
    assert!(!closes(Event::Woken));
    assert!(closes(Event::Tick));
}

#[test]
fn who_came_later_dials_as_many_links_as_are_kept_and_none_twice() {
    let dials = |hub: &Hub, peer| {
        assert_eq!(hub.deal(peer, Duration::ZERO, |_| Duration::ZERO), None);
        hub.dealt(0).len()
    };
    for (strategy, kept) in [(Strategy::Shared, 1), (Strategy::Multiplexed, 1), (Strategy::Pool(3), 3)] {
        let hub = hub_among(&[2, 10], Options::with(strategy));
        assert_eq!([0, 0, 1].map(|peer| dials(&hub, peer)), [kept, 0, 0], "{strategy}");
        assert!(hub.join(0, 1, waker(), true));
        assert_eq!(dials(&hub, 0), 0, "{strategy}: it is one of those that were dialled");
    }
    // One for each message, whoever came first, and not too many at once.
    let hub = hub_among(&[2, 10], Options::with(Strategy::PerQuery));
    for query in 0..100 {
        hub.send(1, key(query), "ahoy".into()).unwrap();
        if query == 1 {
            assert_eq!([1, 1, 0].map(|peer| dials(&hub, peer)), [2, 0, 0]);
        }
    }
    assert_eq!([dials(&hub, 1), dials(&hub, 1)], [62, 0]);
}

#[test]
fn a_peer_is_told_of_what_was_taken_when_it_is_so_much_that_it_was_not_told_of() {
    let waker = waker();
    let taken = Taken::new(10, waker.clone());
    for (more, told, woken) in [(9, 0, false), (1, 0, true), (9, 10, false), (1, 10, true), (30, 20, true)] {
        taken.tell(told);
        let (before, _) = taken.count();
        taken.add(more);
        assert_eq!((waker.0.take(), taken.count()), (woken, (before + more, woken)), "{more} after {before}");
    }
}

#[test]
fn links_are_dealt_to_the_loop_that_has_fewest_and_one_that_is_lost_is_dealt_in_its_place() {
    let hub = hub(Options { loops: 3, ..Options::with(Strategy::Pool(5)) });
    let keepers = [(); 3].map(|()| waker());
    keepers.iter().enumerate().for_each(|(on, keeper)| hub.keep(on, keeper.clone()));
    let deal = || hub.deal(0, Duration::ZERO, |_| Duration::ZERO);
    let dealt = || [0, 1, 2].map(|on| hub.dealt(on).len());
    assert_eq!(deal(), None);
    assert_eq!(woken(&keepers), [false, true, true], "the first is the one that deals");
    assert_eq!((dealt(), hub.shares()), ([1, 2, 2], vec![1, 2, 2]));
    assert_eq!((deal(), dealt()), (None, [0; 3]), "none twice");
    for (number, on, joined) in [(1, 0, true), (2, 1, true), (u64::MAX, 1, false)] {
        if joined {
            assert!(hub.join(0, number, waker(), true));
        }
        let trouble = Some("lost".into());
        hub.leave(0, number, Left { dialled: Some(on), joined, trouble, parcels: Vec::new() });
    }
    assert_eq!((woken(&keepers), hub.shares()), ([true, false, false], vec![0, 0, 2]));
    deal();
    assert_eq!((dealt(), hub.shares()), ([1, 2, 0], vec![1, 2, 2]));
}
