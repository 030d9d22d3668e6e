//! Servers that are down, die, hang or come back, and networks that lose, repeat, cut and reorder: every question gets
//! the truth or an error that names the server, and the same client works again afterwards.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rand::RngExt;
use roadstead::{Frame, Running, frame::Fields};
use roadstead_trident::{
    client::{Client, ClientError},
    party::Party,
    wire::{Kind, VERSION, Welcome},
};

use super::{
    common::{byte_rows, rng},
    harness::{Shares, WAYS, Way, addresses, any_port, client, guarded, hasty, names, true_scores, until},
    raw::Raw,
    relay::{Fate, KIND, Relay, To},
};

const THREADS: usize = 16;
const FETCHED: u8 = Kind::Fetched as u8;
const SECOND: Party = Party::ALL[1];

struct Setting {
    rows: Vec<Vec<f32>>,
    shares: Shares,
    servers: [Running; 3],
    relay: Relay,
}

impl Setting {
    /// Three servers, with a relay before the second.
    fn new() -> Self {
        let rows = byte_rows(100, 16, 1);
        let shares = Shares::of(&rows, 2);
        let servers = shares.serve(WAYS[0]);
        let relay = Relay::new(servers[1].addresses()[0]);
        Self { rows, shares, servers, relay }
    }

    fn addresses(&self) -> [SocketAddr; 3] {
        let [first, _, third] = addresses(&self.servers);
        [first, self.relay.address(), third]
    }

    fn client(&self, deadline: Duration) -> Client {
        hasty(&self.shares, self.addresses(), deadline)
    }

    fn names_second(&self, error: &ClientError) {
        names(error, SECOND, self.relay.address());
    }

    fn right(&self, client: &Client, index: usize) {
        assert_eq!(client.fetch(index).unwrap().values(), self.rows[index]);
        let scores = client.scores(&self.rows[index]).unwrap();
        assert_eq!(scores.as_slice(), true_scores(&self.rows, &self.rows[index]));
    }
}

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_server_that_is_down_at_the_start_is_named_and_used_once_it_is_up() {
    guarded(|| {
        let rows = byte_rows(50, 4, 1);
        let shares = Shares::of(&rows, 2);
        for down in Party::ALL {
            let mut servers: [Option<Running>; 3] =
                Party::ALL.map(|party| Some(shares.serve_on(any_port(), party, WAYS[0])));
            let addresses = servers.each_ref().map(|server| server.as_ref().unwrap().addresses()[0]);
            let address = addresses[down.index()];
            servers[down.index()] = None;
            let client = client(&shares, addresses);
            for _ in 0..100 {
                let error = client.fetch(0).unwrap_err();
                assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
                names(&error, down, address);
            }
            servers[down.index()] = Some(shares.serve_on(address, down, WAYS[0]));
            for (index, row) in rows.iter().enumerate() {
                assert_eq!(&client.fetch(index).unwrap().values(), row);
            }
        }
    });
}

/// [`THREADS`] threads ask while `fault` happens; every answer is the truth, every error names the second server, and
/// after `cure` every thread gets answers again from the same client.
fn outage(
    client: &Client,
    rows: &[Vec<f32>],
    address: SocketAddr,
    fault: impl FnOnce(),
    cure: impl FnOnce(),
) {
    let (failed, cured) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    let answered = AtomicUsize::new(0);
    let ask = |number: usize| -> Result<(), ClientError> {
        let index = number % rows.len();
        if number.is_multiple_of(2) {
            assert_eq!(client.fetch(index)?.values(), rows[index]);
        } else {
            assert_eq!(client.scores(&rows[index])?.as_slice(), true_scores(rows, &rows[index]));
        }
        Ok(())
    };
    thread::scope(|scope| {
        for first in 0..THREADS {
            let (failed, cured, answered, ask) = (&failed, &cured, &answered, &ask);
            scope.spawn(move || {
                let error = (first..).find_map(|number| {
                    let error = ask(number).err();
                    answered.fetch_add(usize::from(error.is_none()), SeqCst);
                    error
                });
                names(&error.unwrap(), SECOND, address);
                failed.wait();
                until("the cure", || cured.load(SeqCst));
                // What was begun before the cure may still fail.
                until("an answer after the cure", || {
                    ask(first).inspect_err(|error| names(error, SECOND, address)).is_ok()
                });
                (0..20).for_each(|number| ask(first + number).unwrap());
            });
        }
        until("a few answers", || answered.load(SeqCst) > 5 * THREADS);
        fault();
        failed.wait();
        cure();
        cured.store(true, SeqCst);
    });
}

#[test]
fn a_server_that_dies_mid_query_is_named_by_every_question_and_used_again_when_it_is_back() {
    guarded(|| {
        let rows = byte_rows(400, 16, 3);
        let shares = Shares::of(&rows, 4);
        for way in WAYS {
            let [first, second, third] = shares.serve(way);
            let address = second.addresses()[0];
            let client = client(&shares, [first.addresses()[0], address, third.addresses()[0]]);
            let second = Mutex::new(Some(second));
            outage(
                &client,
                &rows,
                address,
                || drop(second.lock().unwrap().take()),
                || *second.lock().unwrap() = Some(shares.serve_on(address, SECOND, way)),
            );
        }
    });
}

#[test]
fn a_server_that_drains_mid_query_loses_no_answer_it_owes() {
    guarded(|| {
        let rows = byte_rows(400, 16, 3);
        let shares = Shares::of(&rows, 4);
        for way in WAYS {
            let [first, second, third] = shares.serve(way);
            let address = second.addresses()[0];
            let client = client(&shares, [first.addresses()[0], address, third.addresses()[0]]);
            let second = Mutex::new(Some(second));
            outage(
                &client,
                &rows,
                address,
                || {
                    second.lock().unwrap().take().unwrap().drain(LONG).unwrap();
                },
                || *second.lock().unwrap() = Some(shares.serve_on(address, SECOND, way)),
            );
        }
    });
}

#[test]
fn a_server_that_accepts_and_never_answers_is_named_at_the_deadline() {
    guarded(|| {
        let rows = byte_rows(50, 4, 5);
        let shares = Shares::of(&rows, 6);
        let [first, third] =
            [Party::ALL[0], Party::ALL[2]].map(|party| shares.serve_on(any_port(), party, WAYS[0]));
        let silent = TcpListener::bind(any_port()).unwrap();
        let address = silent.local_addr().unwrap();
        let client = hasty(&shares, [first.addresses()[0], address, third.addresses()[0]], SHORT);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let error = client.fetch(0).unwrap_err();
                    assert!(matches!(error, ClientError::Deadline { deadline: SHORT, .. }), "{error}");
                    names(&error, SECOND, address);
                });
            }
        });
        drop(silent);
        let _second = shares.serve_on(address, SECOND, WAYS[0]);
        until("an answer", || client.fetch(7).is_ok_and(|row| row.values() == rows[7]));
        (0..rows.len()).for_each(|index| assert_eq!(client.fetch(index).unwrap().values(), rows[index]));
    });
}

/// As a network cable that was pulled: nothing comes any more, and nothing says so.
#[test]
fn a_connection_that_falls_silent_is_not_used_for_ever() {
    guarded(|| {
        let setting = Setting::new();
        let client = setting.client(SHORT);
        for (to, kind) in [
            (To::Server, Kind::Hello),
            (To::Client, Kind::Welcome),
            (To::Server, Kind::Nonces),
            (To::Server, Kind::Fetch),
            (To::Client, Kind::Fetched),
        ] {
            setting.relay.once(to, kind as u8, Fate::Mute);
            if matches!(kind, Kind::Hello | Kind::Welcome | Kind::Nonces) {
                // A connection to begin with.
                let begun = setting.client(SHORT);
                setting.names_second(&begun.fetch(0).unwrap_err());
                until("an answer", || begun.fetch(0).is_ok());
                setting.right(&begun, 1);
            } else {
                setting.names_second(&client.fetch(0).unwrap_err());
                until("an answer", || client.fetch(0).is_ok());
                setting.right(&client, 1);
            }
        }
    });
}

#[test]
fn a_lost_answer_or_request_costs_one_question_and_no_other() {
    guarded(|| {
        let setting = Setting::new();
        let client = setting.client(SHORT);
        setting.right(&client, 0);
        for (to, kind) in [(To::Client, Kind::Fetched), (To::Server, Kind::Fetch)] {
            setting.relay.once(to, kind as u8, Fate::Lose);
            let wrong = AtomicUsize::new(0);
            thread::scope(|scope| {
                for index in 0..THREADS {
                    let (client, setting, wrong) = (&client, &setting, &wrong);
                    scope.spawn(move || match client.fetch(index) {
                        Ok(row) => assert_eq!(row.values(), setting.rows[index]),
                        Err(error) => {
                            setting.names_second(&error);
                            wrong.fetch_add(1, SeqCst);
                        }
                    });
                }
            });
            assert_eq!(wrong.load(SeqCst), 1, "{kind:?}");
            setting.right(&client, 5);
        }
    });
}

#[test]
fn answers_that_come_late_or_in_another_order_are_right() {
    guarded(|| {
        let setting = Setting::new();
        let [first, _, third] = addresses(&setting.servers);
        let others = [Relay::new(first), Relay::new(third)];
        let relays = [&others[0], &setting.relay, &others[1]];
        for (seed, relay) in (0..).zip(relays) {
            let mut rng = rng(seed);
            relay.rule(move |to, frame| match rng.random_range(0..4) {
                _ if to == To::Server || ![FETCHED, Kind::Searched as u8].contains(&frame[KIND]) => {
                    Fate::Pass
                }
                0 => Fate::Late(Duration::from_millis(rng.random_range(0..8))),
                1 => Fate::Overtaken(Duration::from_millis(rng.random_range(0..8))),
                _ => Fate::Pass,
            });
        }
        let client = client(&setting.shares, relays.map(Relay::address));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (client, setting) = (&client, &setting);
                scope.spawn(move || (0..10).for_each(|number| setting.right(client, thread * 6 + number)));
            }
        });
    });
}

#[test]
fn an_answer_that_is_cut_off_ends_the_question_and_names_the_server() {
    guarded(|| {
        let setting = Setting::new();
        let client = setting.client(LONG);
        setting.right(&client, 0);
        for length in [0, 1, 4, 15, 16, 17, 24, 25, 40, 55] {
            setting.relay.once(To::Client, FETCHED, Fate::Cut(length));
            setting.names_second(&client.fetch(1).unwrap_err());
            setting.right(&client, 2);
        }
        for kind in [Kind::Welcome, Kind::Fetched, Kind::Searched] {
            for length in [0, 16, 20] {
                setting.relay.once(To::Client, kind as u8, Fate::Cut(length));
                let client = setting.client(LONG);
                let error = match client.fetch(3) {
                    Err(error) => error,
                    Ok(_) => client.scores(&setting.rows[3]).unwrap_err(),
                };
                setting.names_second(&error);
                setting.right(&client, 4);
            }
        }
    });
}

#[test]
fn what_comes_twice_does_no_harm_or_is_blamed_on_its_server() {
    guarded(|| {
        let setting = Setting::new();
        let client = setting.client(LONG);
        setting.right(&client, 0);
        for kind in [Kind::Fetched, Kind::Searched] {
            for index in 0..20 {
                setting.relay.once(To::Client, kind as u8, Fate::Twice);
                setting.right(&client, index);
            }
        }
        // A server takes no counter twice.
        for kind in [Kind::Fetch, Kind::Search] {
            setting.relay.once(To::Server, kind as u8, Fate::Twice);
            until("the refusal", || {
                let asked =
                    client.fetch(1).map(drop).and_then(|()| client.scores(&setting.rows[0]).map(drop));
                asked.inspect_err(|error| setting.names_second(error)).is_err()
            });
            setting.right(&client, 2);
        }
        for (to, kind) in [(To::Client, Kind::Welcome), (To::Server, Kind::Hello), (To::Server, Kind::Nonces)]
        {
            for _ in 0..20 {
                setting.relay.once(to, kind as u8, Fate::Twice);
                let client = setting.client(LONG);
                until("the refusal", || {
                    client.fetch(1).inspect_err(|error| setting.names_second(error)).is_err()
                });
                setting.right(&client, 3);
            }
        }
    });
}

/// A frame for the second server to send instead of the answer to a hello.
fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Frame::encode(&mut wire, kind as u8, &Fields::new(), body);
    wire
}

#[test]
fn a_server_that_breaks_the_protocol_is_named_with_the_reason() {
    guarded(|| {
        let setting = Setting::new();
        let digest = setting.shares.collection().digest();
        let other = roadstead_trident::manifest::Digest([9; 32]);
        let good = Welcome { version: VERSION, party: SECOND, digest, nonce: [1; 16] };
        let mut large = frame(Kind::Fetched, &[0; 64]);
        Frame::encode(&mut large, FETCHED, &Fields::new(), &vec![0; 1 << 20]);
        let cases = [
            (frame(Kind::Welcome, &Welcome { version: 7, ..good }.encode()), "version 7"),
            (
                frame(Kind::Welcome, &Welcome { party: Party::ALL[2], ..good }.encode()),
                "order of the addresses",
            ),
            (frame(Kind::Welcome, &Welcome { digest: other, ..good }.encode()), "0909"),
            (frame(Kind::Welcome, &[0; 50]), "50 bytes instead of 51"),
            (frame(Kind::Welcome, &[]), "0 bytes instead of 51"),
            (frame(Kind::Hello, &[0; 35]), "Hello"),
            (frame(Kind::Fetch, &[]), "Fetch"),
            (frame(Kind::Nonces, &[0; 48]), "Nonces"),
            (frame(Kind::Fetched, &[1; 64]), "not asked"),
            (frame(Kind::Searched, &[0; 64]), "not asked"),
            (frame(Kind::Searched, &[0; 3]), "3 bytes instead of 8"),
            (frame(Kind::Refusal, &[0; 4]), "refusal"),
            (frame(Kind::Refusal, &[255; 30]), "UTF-8"),
            (large[64 + 16..].to_vec(), "1048576"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "magic"),
        ];
        for (instead, reason) in cases {
            let bytes = instead.clone();
            setting.relay.rule(move |to, frame| {
                if to == To::Client {
                    *frame = bytes.clone();
                }
                Fate::Pass
            });
            let client = setting.client(LONG);
            let error = client.fetch(0).unwrap_err();
            setting.names_second(&error);
            assert!(error.to_string().contains(reason), "{error} lacks {reason}");
            setting.relay.rule(|_, _| Fate::Pass);
            setting.right(&client, 1);
        }
    });
}

#[test]
fn a_welcome_that_comes_in_the_middle_is_blamed_on_its_server() {
    guarded(|| {
        let setting = Setting::new();
        let digest = setting.shares.collection().digest();
        let welcome = Welcome { version: VERSION, party: SECOND, digest, nonce: [1; 16] }.encode();
        setting.relay.rule(move |to, bytes| {
            if to == To::Client && bytes[KIND] == FETCHED {
                *bytes = frame(Kind::Welcome, &welcome);
            }
            Fate::Pass
        });
        let client = setting.client(LONG);
        for _ in 0..20 {
            let error = client.fetch(0).unwrap_err();
            setting.names_second(&error);
        }
    });
}

/// Connections that are idle for too long are closed by the server; the client makes new ones when it needs them.
#[test]
fn a_client_that_was_idle_for_longer_than_servers_allow_asks_on_new_connections() {
    guarded(|| {
        let rows = byte_rows(30, 4, 7);
        let shares = Shares::of(&rows, 8);
        for way in WAYS {
            let servers = Party::ALL.map(|party| {
                shares.serve_within(any_port(), party, way, |budget| budget.idle(Duration::from_millis(50)))
            });
            let client = client(&shares, addresses(&servers));
            for (index, row) in rows.iter().enumerate().take(3) {
                assert_eq!(&client.fetch(index).unwrap().values(), row);
                until("the idle connections' end", || servers.iter().all(|server| server.open() == 0));
                // The client hears of it a moment later.
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
}

/// The longest deadline there is means none, not a panic.
#[test]
fn no_deadline_is_too_long_and_none_too_short() {
    guarded(|| {
        let setting = Setting::new();
        setting.right(&setting.client(Duration::MAX), 0);
        let error = setting.client(Duration::ZERO).fetch(0).unwrap_err();
        assert!(matches!(error, ClientError::Deadline { deadline: Duration::ZERO, .. }), "{error}");
    });
}

/// With more in flight than a connection may buffer, questions wait for each other and none is lost.
#[test]
fn more_questions_than_a_connection_may_buffer_are_all_answered() {
    guarded(|| {
        let rows = byte_rows(4, 8_192, 9);
        let shares = Shares::of(&rows, 10);
        let servers = shares.serve(Way { workers: 2, ..WAYS[0] });
        let relay = Relay::new(servers[1].addresses()[0]);
        let [first, _, third] = addresses(&servers);
        let client = client(&shares, [first, relay.address(), third]);
        assert_eq!(client.fetch(0).unwrap().values(), rows[0]);
        // Three vectors of 8,193 elements each: 98 kB a question, 9.6 MB in all.
        relay.once(To::Server, Kind::Search as u8, Fate::Late(Duration::from_millis(300)));
        thread::scope(|scope| {
            for number in 0..96 {
                let (client, rows) = (&client, &rows);
                scope.spawn(move || {
                    let query = &rows[number % 4];
                    assert_eq!(client.scores(query).unwrap().as_slice(), true_scores(rows, query));
                });
            }
        });
    });
}

#[test]
fn all_servers_that_hang_are_named() {
    guarded(|| {
        let rows = byte_rows(10, 4, 11);
        let shares = Shares::of(&rows, 12);
        let silent = [any_port(); 3].map(|address| TcpListener::bind(address).unwrap());
        let addresses = silent.each_ref().map(|listener| listener.local_addr().unwrap());
        for _ in 0..5 {
            let client = hasty(&shares, addresses, Duration::from_millis(10));
            let error = client.fetch(0).unwrap_err();
            let ClientError::Deadline { missing, .. } = &error else { panic!("{error}") };
            assert_eq!(missing.len(), 3, "all three are named");
        }
    });
}

/// Each question a new client: what a server keeps for those that left must not grow.
#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    guarded(|| {
        let rows = byte_rows(20, 4, 13);
        let shares = Shares::of(&rows, 14);
        for way in WAYS {
            let servers = shares.serve(way);
            for number in 0..30 {
                let client = client(&shares, addresses(&servers));
                let index = number % rows.len();
                assert_eq!(client.fetch(index).unwrap().values(), rows[index]);
            }
            // Half-made ones too.
            let collection = shares.collection();
            let raw: Vec<Raw> = (0..30)
                .map(|_| Raw::welcomed(servers[0].addresses()[0], &collection, Party::ALL[0]).0)
                .collect();
            drop(raw);
            until("the connections' end", || {
                servers.iter().all(|server| server.open() == 0 && server.buffered() == 0)
            });
        }
    });
}
