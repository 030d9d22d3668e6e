//! Fetches whose results stay shared: answers of two servers are enough, all three must share, and whoever does not is
//! named.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;

use roadstead::Running;
use roadstead_trident::{
    client::{Client, ClientError, Options, Protocol},
    field::P,
    party::Party,
    query::AnswerError,
    server::CODE_NO_PEERS,
    wire::{COUNTER, Kind, Refusal},
};

use super::{
    common::{byte_rows, expander, rng},
    harness::{Shares, WAYS, Way, addresses, any_port, client, guarded, until},
    mesh::Mesh,
    raw::Raw,
    relay::{Fate, KIND, Relay, To},
    setting::{HASTY, LONG, SECOND, SHORT, THREADS},
};

const SHARE: u8 = Kind::FetchedShare as u8;

/// Three servers that share results over a mesh.
struct Cluster {
    rows: Vec<Vec<f32>>,
    shares: Shares,
    mesh: Mesh,
    servers: [Running; 3],
}

impl Cluster {
    fn new(way: Way) -> Self {
        let rows = byte_rows(150, 24, 1);
        Self::of(Shares::of(&rows, 2), rows, way)
    }

    fn over_tls(way: Way) -> Self {
        let rows = byte_rows(150, 24, 1);
        Self::of(Shares::over_tls(&rows, 2), rows, way)
    }

    fn of(shares: Shares, rows: Vec<Vec<f32>>, way: Way) -> Self {
        let mesh = Mesh::new();
        let servers = Party::ALL.map(|party| shares.serve_with(any_port(), party, way, mesh.port(party)));
        Self { rows, shares, mesh, servers }
    }

    fn client(&self, deadline: Duration) -> Client {
        sharing(&self.shares, addresses(&self.servers), deadline)
    }

    /// The addresses with that of a relay in the place of `party`.
    fn through(&self, relay: &Relay, party: Party) -> [SocketAddr; 3] {
        let mut through = addresses(&self.servers);
        through[party.index()] = relay.address();
        through
    }

    fn right(&self, client: &Client, index: usize) {
        assert_eq!(client.fetch(index).unwrap().values(), self.rows[index]);
    }

    /// Asks for every row from [`THREADS`] threads.
    fn all_right(&self, client: &Client) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(index) = Some(next.fetch_add(1, SeqCst)).filter(|at| *at < self.rows.len())
                    {
                        self.right(client, index);
                    }
                });
            }
        });
    }
}

fn sharing(shares: &Shares, servers: [SocketAddr; 3], deadline: Duration) -> Client {
    let options = Options { deadline, protocol: Protocol::Exchange, ..Options::default() };
    shares.client(servers, options)
}

#[test]
fn many_fetches_at_once_are_all_right_on_every_model() {
    guarded(|| {
        let clusters = WAYS.into_iter().map(Cluster::new).chain([WAYS[0], WAYS[3]].map(Cluster::over_tls));
        for cluster in clusters {
            let client = cluster.client(LONG);
            cluster.all_right(&client);
            let direct = super::harness::client(&cluster.shares, addresses(&cluster.servers));
            cluster.all_right(&direct);
            drop((client, direct));
            let left =
                || cluster.servers.iter().map(|server| server.open() + server.buffered()).sum::<usize>();
            until("nothing to be left", || left() == 0 && cluster.mesh.open() == 0);
        }
    });
}

#[test]
fn a_server_whose_answers_do_not_come_delays_nothing() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        for party in Party::ALL {
            for slow in [Fate::Lose, Fate::Overtaken(LONG / 40)] {
                let relay = Relay::new(cluster.servers[party.index()].addresses()[0]);
                relay.rule(move |to, frame| match (to, frame[KIND]) {
                    (To::Client, SHARE) => slow,
                    _ => Fate::Pass,
                });
                cluster.all_right(&sharing(&cluster.shares, cluster.through(&relay, party), LONG));
            }
        }
    });
}

#[test]
fn a_third_answer_that_contradicts_is_found_after_the_row_was_given() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        for party in Party::ALL {
            let relay = Relay::new(cluster.servers[party.index()].addresses()[0]);
            let client = sharing(&cluster.shares, cluster.through(&relay, party), LONG);
            for wrong in [0, 1] {
                relay.rule(move |to, frame| match (to, frame[KIND]) {
                    (To::Client, SHARE) => {
                        *frame.last_mut().unwrap() ^= wrong;
                        Fate::Overtaken(LONG / 40)
                    }
                    _ => Fate::Pass,
                });
                assert_eq!(client.fetch(3).unwrap().values(), cluster.rows[3]);
                let mut contradictions = [0; 3];
                contradictions[party.index()] = u64::from(wrong);
                assert_eq!(client.settle(LONG), contradictions);
            }
        }
    });
}

/// Relays before all servers: `liar`'s share is spoilt and comes first, then that of `second`, then the last.
fn lying(cluster: &Cluster, liar: Party, second: Party, spoil: fn(&mut Vec<u8>)) -> [Relay; 3] {
    let relays = addresses(&cluster.servers).map(Relay::new);
    for (party, relay) in Party::ALL.into_iter().zip(&relays) {
        relay.rule(move |to, frame| match (to, frame[KIND]) {
            (To::Client, SHARE) if party == liar => {
                spoil(frame);
                Fate::Pass
            }
            (To::Client, SHARE) => Fate::Overtaken(SHORT / if party == second { 6 } else { 3 }),
            _ => Fate::Pass,
        });
    }
    relays
}

#[test]
fn a_server_that_lies_first_costs_no_row_and_is_counted() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let changed: fn(&mut Vec<u8>) = |frame| *frame.last_mut().unwrap() ^= 1;
        let no_element: fn(&mut Vec<u8>) = |frame| frame.last_chunk_mut::<4>().unwrap().fill(0xff);
        for liar in Party::ALL {
            for second in Party::ALL.into_iter().filter(|party| *party != liar) {
                for spoil in [changed, no_element] {
                    let relays = lying(&cluster, liar, second, spoil);
                    let client = sharing(&cluster.shares, relays.each_ref().map(Relay::address), LONG);
                    cluster.right(&client, 3);
                    let mut contradictions = [0; 3];
                    contradictions[liar.index()] = 1;
                    assert_eq!(client.settle(LONG), contradictions);
                }
            }
        }
    });
}

#[test]
fn a_lie_is_refused_by_the_deadline_when_the_third_answer_does_not_come() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let [liar, second, third] = Party::ALL;
        let relays = lying(&cluster, liar, second, |frame| *frame.last_mut().unwrap() ^= 1);
        relays[third.index()].rule(|_, frame| if frame[KIND] == SHARE { Fate::Lose } else { Fate::Pass });
        let client = sharing(&cluster.shares, relays.each_ref().map(Relay::address), 2 * HASTY);
        let error = client.fetch(3).unwrap_err();
        assert!(matches!(error, ClientError::Answer(AnswerError::Refused(_))), "{error}");
        // The client goes on, and needs the third again.
        relays.iter().for_each(|relay| relay.rule(|_, _| Fate::Pass));
        cluster.right(&client, 3);
    });
}

/// Whose answer strays is not who has lied.
#[test]
fn a_wrong_part_to_one_server_costs_no_row_and_proves_nobodys_fault() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let victim = Party::ALL[0];
        cluster.mesh.rule(move |from, to, message| {
            let mut message = message.to_vec();
            if (from, to) == (SECOND, victim) {
                message[8] ^= 1;
            }
            Some(Bytes::from(message))
        });
        let relays = lying(&cluster, victim, SECOND, |_| {});
        let client = sharing(&cluster.shares, relays.each_ref().map(Relay::address), LONG);
        cluster.right(&client, 3);
        assert_eq!(client.settle(LONG), [1, 0, 0]);
    });
}

#[test]
fn without_two_answers_the_deadline_names_those_that_are_missing() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let relays = [0, 2].map(|at| Relay::new(cluster.servers[at].addresses()[0]));
        for relay in &relays {
            relay.rule(|_, frame| if frame[KIND] == SHARE { Fate::Lose } else { Fate::Pass });
        }
        let [_, second, _] = addresses(&cluster.servers);
        let client = sharing(&cluster.shares, [relays[0].address(), second, relays[1].address()], HASTY);
        let error = client.fetch(3).unwrap_err();
        let ClientError::Deadline { missing, .. } = &error else { panic!("{error}") };
        let parties: Vec<Party> = missing.iter().map(|(party, _)| *party).collect();
        assert_eq!(parties, [Party::ALL[0], Party::ALL[2]]);
    });
}

#[test]
fn a_server_that_takes_no_part_is_named_by_the_others_until_it_does() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let client = cluster.client(LONG);
        cluster.right(&client, 0);
        for silent in Party::ALL {
            cluster.mesh.patience(LONG / 5);
            cluster.mesh.rule(move |from, _, message| (from != silent).then_some(message));
            thread::scope(|scope| {
                for index in 0..THREADS {
                    let client = &client;
                    scope.spawn(move || {
                        let error = client.fetch(index).unwrap_err();
                        assert!(matches!(error, ClientError::Refused { .. }), "{error}");
                        assert!(error.to_string().contains(&format!("{silent} took no part")), "{error}");
                    });
                }
            });
            cluster.mesh.heal();
            cluster.all_right(&client);
        }
        drop(client);
        let left = || cluster.servers.iter().map(|server| server.open() + server.buffered()).sum::<usize>();
        until("nothing to be kept of what failed", || left() == 0);
    });
}

/// One link is down one way: one server has no share of the result, and the other two are enough. That server waits for
/// every part in vain, and takes no more requests of a connection when it waits for as many as it may: then questions
/// fail, and say who took no part.
#[test]
fn a_link_that_is_down_one_way_costs_one_answer_of_three_until_too_many_wait_for_it() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let client = cluster.client(LONG);
        let down = |from: Party, to: Party| from == Party::ALL[0] && to == Party::ALL[2];
        cluster.mesh.rule(move |from, to, message| (!down(from, to)).then_some(message));
        (0..48).for_each(|index| cluster.right(&client, index));
        cluster.mesh.patience(SHORT);
        let client = cluster.client(LONG);
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(index) =
                        Some(next.fetch_add(1, SeqCst)).filter(|at| *at < cluster.rows.len())
                    {
                        match client.fetch(index) {
                            Ok(row) => assert_eq!(row.values(), cluster.rows[index]),
                            Err(error) => assert!(error.to_string().contains("took no part"), "{error}"),
                        }
                    }
                });
            }
        });
        cluster.mesh.heal();
        cluster.all_right(&cluster.client(LONG));
    });
}

#[test]
fn a_part_that_was_changed_is_refused() {
    guarded(|| {
        let cluster = Cluster::new(WAYS[0]);
        let client = cluster.client(LONG);
        let changed = |at: usize, value: u32| {
            move |from: Party, _: Party, message: Bytes| {
                let mut message = message.to_vec();
                if from == SECOND {
                    message[at..at + 4].copy_from_slice(&value.to_le_bytes());
                }
                Some(Bytes::from(message))
            }
        };
        cluster.mesh.rule(changed(8, 5));
        let error = client.fetch(1).unwrap_err();
        assert!(matches!(error, ClientError::Answer(AnswerError::Refused(_))), "{error}");
        let malformed = "server 2 sent a malformed part";
        cluster.mesh.rule(changed(8, P));
        let error = client.fetch(1).unwrap_err().to_string();
        assert!(error.contains(malformed), "{error}");
        cluster.mesh.rule(|from, _, message| Some(if from == SECOND { message.slice(4..) } else { message }));
        let error = client.fetch(1).unwrap_err().to_string();
        assert!(error.contains(malformed), "{error}");
        cluster.mesh.heal();
        cluster.all_right(&client);
    });
}

/// [`THREADS`] threads ask while the second server dies and comes back.
#[test]
fn a_server_that_dies_is_named_by_every_question_and_used_again_when_it_is_back() {
    guarded(|| {
        for way in [WAYS[0], WAYS[3]] {
            let Cluster { rows, shares, mesh, servers: [first, second, third] } = Cluster::new(way);
            let address = second.addresses()[0];
            let client = sharing(&shares, [first.addresses()[0], address, third.addresses()[0]], LONG);
            let (second, answered, failed) =
                (Mutex::new(Some(second)), AtomicUsize::new(0), AtomicUsize::new(0));
            let back = AtomicUsize::new(0);
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (rows, client, answered, failed, back) = (&rows, &client, &answered, &failed, &back);
                    scope.spawn(move || {
                        for index in (thread..).map(|number| number % rows.len()) {
                            match client.fetch(index) {
                                Ok(row) => {
                                    assert_eq!(row.values(), rows[index]);
                                    answered.fetch_add(1, SeqCst);
                                }
                                Err(error) => {
                                    assert!(error.to_string().contains("server 2"), "{error}");
                                    failed.fetch_add(1, SeqCst);
                                }
                            }
                            if back.load(SeqCst) != 0 && answered.load(SeqCst) > back.load(SeqCst) + 200 {
                                break;
                            }
                        }
                    });
                }
                until("a few answers", || answered.load(SeqCst) > 5 * THREADS);
                drop(second.lock().unwrap().take());
                until("a few failures", || failed.load(SeqCst) > THREADS);
                *second.lock().unwrap() = Some(shares.serve_with(address, SECOND, way, mesh.port(SECOND)));
                back.store(answered.load(SeqCst).max(1), SeqCst);
            });
        }
    });
}

#[test]
fn a_server_without_peers_says_so_and_answers_everything_else() {
    guarded(|| {
        let rows = byte_rows(150, 8, 3);
        let shares = Shares::of(&rows, 4);
        let servers = shares.serve(WAYS[0]);
        let error = sharing(&shares, addresses(&servers), LONG).fetch(0).unwrap_err();
        assert!(
            matches!(error, ClientError::Refused { .. }) && error.to_string().contains("without its peers")
        );
        assert_eq!(client(&shares, addresses(&servers)).fetch(5).unwrap().values(), rows[5]);

        let collection = shares.collection();
        let mut raw = Raw::admitted(addresses(&servers)[0], &collection, Party::ALL[0]);
        let (_, [shared, ..]) = collection.fetch_shared(5, 1, &expander(), &mut rng(5)).unwrap();
        raw.send(Kind::FetchShare as u8, &shared);
        let (kind, body) = raw.next().unwrap();
        let refusal = Refusal::parse(&body).unwrap();
        assert_eq!((kind, refusal.counter, refusal.code), (Kind::Refusal as u8, 1, CODE_NO_PEERS));
        let (_, [direct, ..]) = collection.fetch(5, 2, &expander(), &mut rng(6)).unwrap();
        raw.send(Kind::Fetch as u8, &direct);
        let (kind, body) = raw.next().unwrap();
        assert_eq!((kind, &body[..COUNTER]), (Kind::Fetched as u8, &2u64.to_le_bytes()[..]));
    });
}
