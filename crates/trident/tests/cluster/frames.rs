//! Networks that lose, repeat, cut and reorder, and servers that break the protocol: every question gets the truth or
//! an error that names the server.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use rand::RngExt;

use roadstead::{Frame, frame::Fields};
use roadstead_trident::{
    party::Party,
    wire::{Kind, VERSION, Welcome},
};

use super::{
    common::rng,
    harness::{addresses, client, guarded, until},
    relay::{Fate, KIND, Relay, To},
    setting::{FETCHED, HASTY, LONG, SECOND, Setting, THREADS},
};

#[test]
fn a_lost_answer_or_request_costs_one_question_and_no_other() {
    guarded(|| {
        let setting = Setting::new();
        let client = setting.client(HASTY);
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
