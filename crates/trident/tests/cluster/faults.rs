//! Servers that are down, die, hang or come back: every question gets the truth or an error that names the server, and
//! the same client works again afterwards.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use roadstead::Running;
use roadstead_trident::{
    client::{Client, ClientError},
    party::Party,
    wire::Kind,
};

use super::{
    common::byte_rows,
    harness::{Shares, WAYS, Way, addresses, any_port, client, guarded, hasty, names, true_scores, until},
    raw::Raw,
    relay::{Fate, Relay, To},
    setting::{HASTY, LONG, SECOND, Setting, THREADS},
};

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
        let (plain, secured) = (Shares::of(&rows, 4), Shares::over_tls(&rows, 4));
        let plain = WAYS.map(|way| (&plain, way));
        for (shares, way) in plain.into_iter().chain([(&secured, WAYS[0]), (&secured, WAYS[3])]) {
            let [first, second, third] = shares.serve(way);
            let address = second.addresses()[0];
            let client = client(shares, [first.addresses()[0], address, third.addresses()[0]]);
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
        let client = hasty(&shares, [first.addresses()[0], address, third.addresses()[0]], HASTY);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let error = client.fetch(0).unwrap_err();
                    assert!(matches!(error, ClientError::Deadline { deadline: HASTY, .. }), "{error}");
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
        let client = setting.client(HASTY);
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
                let begun = setting.client(HASTY);
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

/// Connections that are idle for too long are closed by the server; the client makes new ones when it needs them.
#[test]
fn a_client_that_was_idle_for_longer_than_servers_allow_asks_on_new_connections() {
    guarded(|| {
        let rows = byte_rows(30, 4, 7);
        let shares = Shares::of(&rows, 8);
        for way in WAYS {
            let servers = Party::ALL.map(|party| {
                shares.serve_within(any_port(), party, way, |budget| budget.idle(Duration::from_secs(2)))
            });
            let client = client(&shares, addresses(&servers));
            for (index, row) in rows.iter().enumerate().take(2) {
                assert_eq!(&client.fetch(index).unwrap().values(), row);
                until("the idle connections' end", || servers.iter().all(|server| server.open() == 0));
                until("the client to hear of it", || {
                    let stats = client.stats();
                    stats.closed == stats.connected
                });
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
