//! The exchange over real sockets: every strategy, loss and return of a member, strangers and liars.

#[path = "exchange/cluster.rs"]
#[allow(dead_code, reason = "not every test needs all of it")]
mod cluster;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use cluster::{Cluster, PATIENCE, STRATEGIES, key, payload};
use roadstead::{
    Frame,
    exchange::{GatherError, MemberId, Options, SendError, Strategy},
    frame::Fields,
};

#[test]
fn every_member_gathers_what_its_peers_sent_with_every_strategy() {
    for strategy in STRATEGIES {
        let cluster = Cluster::start(3, Options::with(strategy));
        for length in [0, 1, 500, 16 << 10, (16 << 10) + 1, 300_000] {
            cluster.all_right(&key(length as u128), length);
        }
    }
}

#[test]
fn many_queries_at_once_do_not_mix() {
    for strategy in STRATEGIES {
        let cluster = Cluster::start(3, Options::with(strategy));
        cluster.level(16, 320, |query| if query % 16 == 3 { 100_000 } else { 500 });
    }
}

/// A gather is told by the loop of the link that brought the last message.
#[test]
fn links_are_on_different_loops_and_all_of_these_bring_messages() {
    for (strategy, loops) in [(Strategy::Multiplexed, 2), (Strategy::Pool(4), 3), (Strategy::PerQuery, 2)] {
        let mut options = Options::with(strategy);
        options.loops = loops;
        let cluster = Cluster::start(3, options);
        let threads = Arc::<Mutex<[BTreeSet<String>; 3]>>::default();
        cluster.all_right(&key(0), 500);
        let deadline = Instant::now() + PATIENCE;
        let mut queries = 1..;
        // Which message is the last is chance, and where there is one link to each peer, so is its loop.
        while threads.lock().unwrap().iter().any(|threads| threads.len() < loops) {
            assert!(Instant::now() < deadline, "{strategy}: {threads:?}");
            let queries: Vec<_> = queries.by_ref().take(8).map(key).collect();
            let (tell, told) = mpsc::channel();
            for (at, key) in (0..3).flat_map(|at| queries.iter().map(move |key| (at, *key))) {
                let (threads, tell) = (Arc::clone(&threads), tell.clone());
                cluster.member(at).gather(key, PATIENCE, move |gathered| {
                    let name = thread::current().name().unwrap_or_default().to_owned();
                    threads.lock().unwrap()[at].insert(name);
                    tell.send(gathered.unwrap().len()).unwrap();
                });
            }
            for (at, key) in (0..3).flat_map(|at| queries.iter().map(move |key| (at, *key))) {
                cluster.member(at).send_all(key, payload(key.query, at, 500)).unwrap();
            }
            assert!(told.iter().take(24).all(|messages| messages == 2));
        }
        let all = (0..loops).map(|number| format!("reactor-{number}")).collect();
        assert_eq!(*threads.lock().unwrap(), [(); 3].map(|()| BTreeSet::clone(&all)), "{strategy}");
    }
}

#[test]
fn small_messages_have_at_most_the_window_before_them() {
    let cluster = Cluster::start(2, Options::default());
    cluster.level(32, 320, |query| if query % 8 == 0 { 2 << 20 } else { 500 });
    for member in cluster.members() {
        let peer = &member.stats().peers[0].1;
        assert!(peer.most_ahead > 0 && peer.most_ahead <= 256 << 10, "{} bytes", peer.most_ahead);
        assert_eq!(peer.connections_opened + peer.lost, u64::from(member.me() == MemberId(2)));
    }
}

#[test]
fn a_member_that_is_down_is_named_by_the_deadline_and_comes_back() {
    for strategy in STRATEGIES {
        let mut cluster = Cluster::start(3, Options::with(strategy));
        cluster.all_right(&key(1), 500);
        cluster.kill(1);
        let (tell, told) = mpsc::channel();
        let first = cluster.member(0);
        first.send_all(key(2), payload(2, 0, 500)).unwrap();
        cluster.member(2).send_all(key(2), payload(2, 2, 500)).unwrap();
        cluster.wait("what the other sent has come", || first.stats().held > 0);
        first.gather(key(2), Duration::from_millis(300), move |result| tell.send(result.map(drop)).unwrap());
        match told.recv_timeout(PATIENCE).unwrap() {
            Err(GatherError::Missing { missing, .. }) => {
                assert_eq!(missing.iter().map(|it| it.id).collect::<Vec<_>>(), [MemberId(2)], "{strategy}");
            }
            other => panic!("{strategy}: {other:?}"),
        }
        cluster.revive(1);
        // What they were sent they would keep until their patience is over.
        (1..3).for_each(|at| cluster.member(at).forget(key(2)));
        cluster.all_right(&key(3), 500);
        cluster.level(16, 160, |_| 500);
    }
}

#[test]
fn what_was_sent_while_a_peer_was_away_reaches_it() {
    for strategy in STRATEGIES {
        let mut cluster = Cluster::start(2, Options::with(strategy));
        cluster.kill(1);
        cluster.member(0).send_all(key(9), payload(9, 0, 70_000)).unwrap();
        cluster.revive(1);
        let (tell, told) = mpsc::channel();
        cluster.member(1).gather(key(9), PATIENCE, move |result| tell.send(result).unwrap());
        let messages = told.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(&messages[0].1[..], payload(9, 0, 70_000));
    }
}

#[test]
fn late_and_repeated_messages_are_dropped_and_counted() {
    let cluster = Cluster::start(2, Options::default());
    let [first, second] = [cluster.member(0), cluster.member(1)];
    first.send_all(key(1), "once").unwrap();
    first.send_all(key(1), "twice").unwrap();
    cluster.wait("both have come", || second.stats().peers[0].1.messages_in == 2);
    assert_eq!(second.stats().duplicate, 1);
    let (tell, told) = mpsc::channel();
    second.gather(key(1), PATIENCE, move |result| tell.send(result.unwrap()[0].1.to_vec()).unwrap());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"once");
    first.send_all(key(1), "late").unwrap();
    cluster.wait("it is counted as late", || second.stats().late == 1);
    let (tell, told) = mpsc::channel();
    second.gather(key(1), PATIENCE, move |result| tell.send(result.map(drop)).unwrap());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(GatherError::Repeated));
}

#[test]
fn what_nobody_gathers_is_given_up() {
    let mut options = Options::default();
    options.patience = Duration::from_secs(4);
    let cluster = Cluster::start(2, options);
    cluster.member(0).send_all(key(1), "for nobody").unwrap();
    cluster.wait("it was given up", || cluster.member(1).stats().unclaimed == 1);
}

#[test]
fn limits_hold_at_below_and_above() {
    let mut options = Options::default();
    (options.largest, options.per_peer) = (1000, 4000);
    options.patience = Duration::from_secs(4);
    let mut cluster = Cluster::start(2, options);
    cluster.all_right(&key(1), 999);
    cluster.all_right(&key(2), 1000);
    let first = cluster.member(0);
    let error = first.send_all(key(3), vec![0; 1001]).unwrap_err();
    assert_eq!(error, SendError::TooLarge { length: 1001, limit: 1000 });
    assert_eq!(first.send(MemberId(1), key(3), "me"), Err(SendError::Unknown(MemberId(1))));
    cluster.expect_empty();
    cluster.kill(1);
    let first = cluster.member(0);
    let sent = (0..5).map(|query| first.send_all(key(10 + query), vec![0; 1000])).collect::<Vec<_>>();
    assert!(sent[..4].iter().all(Result::is_ok));
    // Four of the largest, each with what is kept about it.
    assert_eq!(sent[4], Err(SendError::Full { to: MemberId(2), limit: 4 * (1000 + 256) }));
}

#[test]
fn a_peer_that_does_not_take_its_messages_has_the_sender_wait_and_nothing_is_lost() {
    let mut options = Options::default();
    (options.largest, options.per_peer) = (100_000, 400_000);
    let cluster = Cluster::start(2, options);
    let [first, second] = [cluster.member(0), cluster.member(1)];
    for query in 0..6 {
        let send = || first.send_all(key(query), payload(query, 0, 100_000));
        cluster.wait("there is room in the outbox", || send().is_ok());
    }
    cluster.wait("as much has come as may", || second.stats().held >= 300_000);
    assert!(second.stats().held <= 400_000);
    for query in 0..6 {
        let (tell, told) = mpsc::channel();
        second.gather(key(query), PATIENCE, move |result| tell.send(result).unwrap());
        let messages = told.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(&messages[0].1[..], payload(query, 0, 100_000), "query {query}");
    }
}

#[test]
fn a_panic_of_who_gathers_costs_neither_the_link_nor_later_gathers() {
    let cluster = Cluster::start(2, Options::default());
    let first = cluster.member(0);
    first.gather(key(1), PATIENCE, |_| panic!("a panic of the test that is meant to be"));
    cluster.member(1).send_all(key(1), "ahoy").unwrap();
    first.gather(key(2), Duration::from_millis(1), |_| panic!("a panic of the test that is meant to be"));
    cluster.wait("both were told", || first.stats().waiting == 0);
    cluster.level(4, 16, |_| 500);
    let (tell, told) = mpsc::channel();
    first.gather(key(3), Duration::from_millis(1), move |result| tell.send(result.map(drop)).unwrap());
    assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Err(GatherError::Missing { .. })));
    assert_eq!(first.stats().peers[0].1.lost, 0);
}

#[test]
fn a_key_that_is_used_twice_does_not_cost_the_link() {
    let cluster = Cluster::start(2, Options::default());
    let [first, second] = [cluster.member(0), cluster.member(1)];
    for _ in 0..3 {
        first.send_all(key(1), vec![7; 1 << 20]).unwrap();
    }
    first.send_all(key(1), "small").unwrap();
    let (tell, told) = mpsc::channel();
    second.gather(key(1), PATIENCE, move |result| tell.send(result.map(drop)).unwrap());
    told.recv_timeout(PATIENCE).unwrap().unwrap();
    cluster.expect_empty();
    assert_eq!((first.stats().peers[0].1.lost, second.stats().peers[0].1.lost), (0, 0));
}

#[test]
fn peers_together_fill_no_more_than_the_total_and_wait_for_the_rest() {
    let mut options = Options::default();
    (options.largest, options.per_peer, options.total) = (100_000, 1_000_000, 1_000_000);
    let cluster = Cluster::start(3, options);
    let gatherer = cluster.member(0);
    for query in 0..6 {
        for sender in [1, 2] {
            let message = payload(query, sender, 100_000);
            let send = || cluster.member(sender).send(MemberId(1), key(query), message.clone());
            cluster.wait("there is room in the outbox", || send().is_ok());
        }
    }
    cluster.wait("as much has come as may", || gatherer.stats().held >= 400_000);
    assert!(gatherer.stats().held <= 1_000_000);
    for query in 0..6 {
        let (tell, told) = mpsc::channel();
        gatherer.gather(key(query), PATIENCE, move |result| tell.send(result.map(drop)).unwrap());
        told.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    assert!(gatherer.stats().peers.iter().all(|(_, peer)| peer.lost == 0), "{:?}", gatherer.stats());
}

#[test]
fn a_member_that_comes_back_need_not_wait_until_its_old_link_is_known_to_be_dead() {
    let mut options = Options::default();
    options.silence = Duration::from_secs(60);
    let mut cluster = Cluster::start(2, options);
    cluster.kill(1);
    let mut old = TcpStream::connect(cluster.member(0).address()).unwrap();
    old.write_all(&hello(2, 1, [4, 0])).unwrap();
    cluster.wait("it is taken for the member", || cluster.member(0).stats().peers[0].1.up == 1);
    cluster.revive(1);
    cluster.all_right(&key(1), 500);
    assert_eq!(cluster.member(0).stats().peers[0].1.up, 1);
}

/// A hello as member 1 sends it to member 2.
fn hello(from: u8, to: u8, strategy: [u8; 2]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut body = vec![1, from, to, strategy[0], strategy[1]];
    body.extend_from_slice(&(1u64 << 30).to_le_bytes());
    Frame::encode(&mut wire, 1, &Fields::new(), &body);
    wire
}

fn part(length: u32, offset: u32, count: usize) -> Vec<u8> {
    let mut body = vec![7; 20];
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&offset.to_le_bytes());
    body.resize(28 + count, 0);
    let mut wire = Vec::new();
    Frame::encode(&mut wire, 2, &Fields::new(), &body);
    wire
}

#[test]
fn strangers_and_liars_are_turned_away_and_nothing_else_is_disturbed() {
    let mut options = Options::with(Strategy::Multiplexed);
    options.largest = 100_000;
    let cluster = Cluster::start(3, options);
    let known = hello(1, 2, [4, 0]);
    let lies: [(&str, Vec<u8>); 9] = [
        ("no member's words", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a member that is none", hello(9, 2, [4, 0])),
        ("itself", hello(2, 2, [4, 0])),
        ("for somebody else", hello(1, 3, [4, 0])),
        ("another strategy", hello(1, 2, [1, 0])),
        ("a message before its name", part(5, 0, 5)),
        ("a message that is too large", [known.clone(), part(100_001, 0, 16 << 10)].concat()),
        ("a part that was not begun", [known.clone(), part(40_000, 16 << 10, 16 << 10)].concat()),
        ("the same part for ever", [known, part(50_000, 0, 16 << 10), part(50_000, 0, 16 << 10)].concat()),
    ];
    for (what, words) in lies {
        let mut stranger = TcpStream::connect(cluster.member(1).address()).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(&words).unwrap();
        let mut said = Vec::new();
        // Ended or reset, but not left open.
        if let Err(error) = stranger.read_to_end(&mut said) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}");
        }
        cluster.level(4, 16, |_| 500);
    }
}
