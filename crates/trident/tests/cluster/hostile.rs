//! Clients that break every rule: each loses its own connection, with a reason, and nobody else notices.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use rand::Rng;

use roadstead::{
    Frame, Running,
    frame::{Fields, HEAD},
};
use roadstead_trident::{
    field::P,
    manifest::Digest,
    party::Party,
    query::{Body, Collection},
    wire::{COUNTER, Hello, Kind, VERSION, encode_nonces, max_request},
};

use super::{
    common::{byte_rows, expander, rng},
    harness::{Shares, WAYS, Way, addresses, any_port, client, guarded, true_scores, until},
    raw::Raw,
};

const FIRST: Party = Party::ALL[0];

/// The first of three servers, and what an attacker knows: all that a client holds.
struct Target<'a> {
    address: SocketAddr,
    collection: &'a Collection,
}

impl Target<'_> {
    fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    fn admitted(&self) -> Raw {
        Raw::admitted(self.address, self.collection, FIRST)
    }

    fn fetch(&self, counter: u64) -> Body {
        let (_, [body, ..]) = self.collection.fetch(0, counter, &expander(), &mut rng(counter)).unwrap();
        body
    }

    fn search(&self, counter: u64) -> Body {
        let query = vec![1.0; self.collection.manifest().dim];
        let (_, [body, ..]) = self.collection.search(&query, true, counter, &mut rng(counter)).unwrap();
        body
    }
}

/// Runs `attack` on every model while an honest client asks all the time; afterwards nothing is left of the attack.
fn attacked(attack: impl Fn(&Target<'_>, &[Running; 3]) + Send + 'static) {
    guarded(move || {
        let rows = byte_rows(150, 8, 1);
        let shares = Shares::of(&rows, 2);
        let collection = shares.collection();
        for way in WAYS {
            let servers = shares.serve(way);
            let honest = client(&shares, addresses(&servers));
            let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(SeqCst) {
                        let number = answered.fetch_add(1, SeqCst) % rows.len();
                        assert_eq!(honest.fetch(number).unwrap().values(), rows[number], "{way:?}");
                        let scores = honest.scores(&rows[number]).unwrap();
                        assert_eq!(scores.as_slice(), true_scores(&rows, &rows[number]), "{way:?}");
                    }
                });
                let over = Over(&over);
                attack(&Target { address: servers[0].addresses()[0], collection: &collection }, &servers);
                let before = answered.load(SeqCst);
                until("an honest answer", || answered.load(SeqCst) > before + 1);
                drop(over);
            });
            until("the end of the attack", || servers[0].open() == 1 && servers[0].buffered() < 4_096);
            assert_eq!(honest.stats().connected, 3, "the honest client's connections were never lost");
        }
    });
}

/// Ends the honest client's questions, also when the attack's assertions fail.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn assert_refused(raw: Raw, code: u16, words: &str) {
    let refusal = raw.refused();
    assert!(refusal.text.contains(words), "{} lacks {words}", refusal.text);
    assert_eq!((refusal.code, refusal.counter), (code, 0), "{}", refusal.text);
}

#[test]
fn a_hello_that_does_not_fit_is_refused() {
    attacked(|target, _| {
        let good = Hello { version: VERSION, party: FIRST, digest: target.collection.digest() };
        let says = |hello: &[u8], code, words: &str| {
            let mut raw = target.connect();
            raw.send(Kind::Hello as u8, hello);
            assert_refused(raw, code, words);
        };
        says(&Hello { version: VERSION + 1, ..good }.encode(), 1, "version 3");
        says(&Hello { party: Party::ALL[1], ..good }.encode(), 2, "order of the addresses");
        says(&Hello { digest: Digest([7; 32]), ..good }.encode(), 3, "0707");
        for length in [0, 1, 34, 36, 48] {
            let mut hello = good.encode();
            hello.resize(length, 0);
            says(&hello, 8, &format!("{length} bytes instead of 35"));
        }
        for party in [0, 4, 255] {
            let mut hello = good.encode();
            hello[2] = party;
            says(&hello, 8, "party");
        }
    });
}

#[test]
fn messages_out_of_order_and_of_kinds_that_are_not_a_clients_are_refused() {
    attacked(|target, _| {
        for kind in [Kind::Welcome, Kind::Nonces, Kind::Fetch, Kind::Search, Kind::Fetched, Kind::FetchShare]
        {
            let mut raw = target.connect();
            raw.send(kind as u8, &[0; 48]);
            assert_refused(raw, 4, &format!("{kind:?}"));
        }
        for kind in [Kind::Hello, Kind::Welcome, Kind::Fetch, Kind::Search, Kind::FetchShare] {
            let (mut raw, _) = Raw::welcomed(target.address, target.collection, FIRST);
            raw.send(kind as u8, &target.fetch(1));
            assert_refused(raw, 4, &format!("{kind:?}"));
        }
        for kind in
            [Kind::Hello, Kind::Welcome, Kind::Nonces, Kind::Fetched, Kind::FetchedShare, Kind::Refusal]
        {
            let mut raw = target.admitted();
            raw.send(kind as u8, &[0; 48]);
            assert_refused(raw, 4, &format!("{kind:?}"));
        }
        for kind in [0, 11, 255] {
            let mut raw = target.admitted();
            raw.send(kind, &[]);
            assert_refused(raw, 8, &format!("kind {kind}"));
        }
    });
}

#[test]
fn another_connections_nonce_is_refused() {
    attacked(|target, servers| {
        let (_other, theirs) = Raw::welcomed(target.address, target.collection, FIRST);
        let (_second, seconds) = Raw::welcomed(servers[1].addresses()[0], target.collection, Party::ALL[1]);
        for nonces in [[theirs; 3], [seconds; 3], [[0; 16]; 3]] {
            let (mut raw, _) = Raw::welcomed(target.address, target.collection, FIRST);
            raw.send(Kind::Nonces as u8, &encode_nonces(&nonces));
            assert_refused(raw, 5, "server 1");
        }
        let (mut raw, own) = Raw::welcomed(target.address, target.collection, FIRST);
        raw.send(Kind::Nonces as u8, &encode_nonces(&[theirs, own, own]));
        assert_refused(raw, 5, "server 1");
        for length in [0, 16, 47, 49] {
            let (mut raw, own) = Raw::welcomed(target.address, target.collection, FIRST);
            let mut nonces = encode_nonces(&[own; 3]);
            nonces.resize(length, 0);
            raw.send(Kind::Nonces as u8, &nonces);
            assert_refused(raw, 8, "nonces");
        }
    });
}

#[test]
fn counters_that_do_not_rise_are_refused() {
    attacked(|target, _| {
        for (first, second) in [(5, 5), (5, 4), (5, 0), (u64::MAX, u64::MAX), (u64::MAX, 1)] {
            for searches in [false, true] {
                let mut raw = target.admitted();
                raw.send(Kind::Fetch as u8, &target.fetch(first));
                let (kind, body) = raw.next().unwrap();
                assert_eq!((kind, &body[..COUNTER]), (Kind::Fetched as u8, &first.to_le_bytes()[..]));
                let (kind, body) = if searches {
                    (Kind::Search, target.search(second))
                } else {
                    (Kind::Fetch, target.fetch(second))
                };
                raw.send(kind as u8, &body);
                assert_refused(raw, 6, &format!("counter {second} is not above {first}"));
            }
        }
        let mut raw = target.admitted();
        raw.send(Kind::Fetch as u8, &target.fetch(0));
        assert_refused(raw, 6, "counter 0 is not above 0");
    });
}

#[test]
fn malformed_keys_and_elements_are_refused() {
    attacked(|target, _| {
        let (fetch, search) = (target.fetch(1), target.search(1));
        for length in [0, 7, 8, fetch.len() - 1, fetch.len() + 1] {
            let (mut raw, mut body) = (target.admitted(), fetch.clone());
            body.resize(length, 0);
            raw.send(Kind::Fetch as u8, &body);
            assert_refused(raw, 8, "instead of");
        }
        let (mut raw, mut stray) = (target.admitted(), fetch.clone());
        stray[COUNTER + 32] |= 0x80;
        raw.send(Kind::Fetch as u8, &stray);
        assert_refused(raw, 7, "no level uses");
        for length in [0, 8, 9, search.len() - 4, search.len() - 1] {
            let (mut raw, mut body) = (target.admitted(), search.clone());
            body.resize(length, 0);
            raw.send(Kind::Search as u8, &body);
            assert_refused(raw, 8, "instead of");
        }
        for (element, wrong) in [(0, P), (13, P + 1), (26, u32::MAX)] {
            let (mut raw, mut body) = (target.admitted(), search.clone());
            body[COUNTER + 1 + 4 * element..][..4].copy_from_slice(&wrong.to_le_bytes());
            raw.send(Kind::Search as u8, &body);
            assert_refused(raw, 8, &format!("element {element} is not below p"));
        }
        let (mut raw, mut body) = (target.admitted(), search.clone());
        body[COUNTER] = 2;
        raw.send(Kind::Search as u8, &body);
        assert_refused(raw, 8, "checked flag");
    });
}

#[test]
fn a_search_of_a_collection_for_fetching_only_is_refused() {
    guarded(|| {
        let rows = byte_rows(150, 8, 1);
        let options = roadstead_trident::share::Options::default();
        let shares = Shares::with(&mut super::common::Table(rows.clone()), options, 2);
        let servers = shares.serve(WAYS[0]);
        let collection = shares.collection();
        let address = servers[0].addresses()[0];
        let mut raw = Raw::admitted(address, &collection, FIRST);
        raw.send(Kind::Search as u8, &[1; 9]);
        assert_refused(raw, 9, "fetching only");
        // Far less than a search would take is already too much here.
        let mut raw = Raw::admitted(address, &collection, FIRST);
        raw.send(Kind::Search as u8, &vec![0; max_request(collection.manifest()) + 1]);
        assert_refused(raw, 12, "a frame with a body of");
    });
}

#[test]
fn what_is_no_frame_is_refused_and_closes_the_connection_before_anything_is_allocated() {
    attacked(|target, servers| {
        let most = max_request(target.collection.manifest());
        let mut whole = Vec::new();
        Frame::encode(&mut whole, Kind::Hello as u8, &Fields::new(), &[0; 35]);
        let broken = |at: usize, by: u8| {
            let mut bytes = whole.clone();
            bytes[at] ^= by;
            bytes
        };
        let announces = |fields: u16, body: u32| {
            let mut head = Vec::new();
            Frame::encode(&mut head, Kind::Fetch as u8, &Fields::new(), &[]);
            head[6..8].copy_from_slice(&fields.to_le_bytes());
            head[8..12].copy_from_slice(&body.to_le_bytes());
            let checksum = crc32(&head[..12]);
            head[12..HEAD].copy_from_slice(&checksum.to_le_bytes());
            head
        };
        let cases = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0; 64],
            vec![255; 64],
            broken(0, 1),
            broken(4, 3),
            broken(5, 1),
            broken(8, 1),
            broken(13, 128),
            announces(0, most as u32 + 1),
            announces(0, u32::MAX),
            announces(1, 8),
            announces(u16::MAX, 0),
            announces(u16::MAX, u32::MAX),
        ];
        for bytes in cases {
            for mut raw in [target.connect(), target.admitted()] {
                // The server may have closed before all was written.
                let _ = raw.stream.write_all(&bytes);
                assert_refused(raw, 12, "frame");
                assert!(servers[0].buffered() < 64 << 10, "{}", servers[0].buffered());
            }
        }
        // At the limit a body is waited for, and what was announced is not allocated.
        let waiting: Vec<Raw> = (0..50)
            .map(|_| {
                let mut raw = target.admitted();
                raw.stream.write_all(&announces(0, most as u32)).unwrap();
                raw
            })
            .collect();
        assert!(servers[0].buffered() < 256 << 10, "{}", servers[0].buffered());
        drop(waiting);
    });
}

/// CRC-32 (IEEE 802.3), bit by bit: heads that a client would never make need a right checksum too.
fn crc32(bytes: &[u8]) -> u32 {
    let byte = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(sum & 1)))
    };
    !bytes.iter().fold(u32::MAX, byte)
}

#[test]
fn random_conversations_close_or_go_on_but_never_harm() {
    attacked(|target, _| {
        let kinds = prop_oneof![8 => 1u8..=8, 1 => any::<u8>()];
        let lengths = prop_oneof![Just(0usize), Just(8), Just(35), Just(48), 0usize..200];
        let messages = prop::collection::vec((kinds, lengths, any::<u64>()), 1..6);
        let mut runner =
            TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
        let conversation = (0u8..3, messages, any::<bool>());
        let run = |(stage, messages, valid): (u8, Vec<(u8, usize, u64)>, bool)| {
            let mut raw = match stage {
                0 => target.connect(),
                1 => Raw::welcomed(target.address, target.collection, FIRST).0,
                _ => target.admitted(),
            };
            for (kind, length, seed) in messages {
                let mut body = match kind {
                    4 if valid => target.fetch(seed),
                    5 if valid => target.search(seed),
                    _ => Body::new(vec![0; length]),
                };
                if !valid {
                    rng(seed).fill_bytes(&mut body);
                }
                // A server that has closed takes no more.
                let _ = raw.try_send(kind, &body);
            }
            let _ = raw.stream.shutdown(Shutdown::Write);
            while raw.next().is_some() {}
            Ok(())
        };
        runner.run(&conversation, run).unwrap();
    });
}

#[test]
fn silence_and_half_a_message_are_given_up() {
    guarded(|| {
        let rows = byte_rows(20, 4, 3);
        let shares = Shares::of(&rows, 4);
        let collection = shares.collection();
        for way in WAYS {
            let short = Duration::from_secs(4);
            let server =
                shares.serve_within(any_port(), FIRST, way, |budget| budget.first_byte(short).idle(short));
            let address = server.addresses()[0];
            let mut hello = Vec::new();
            let body = Hello { version: VERSION, party: FIRST, digest: collection.digest() }.encode();
            Frame::encode(&mut hello, Kind::Hello as u8, &Fields::new(), &body);
            let silent = Raw::connect(address);
            let halves = [1, 4, HEAD - 1, HEAD, HEAD + 1, hello.len() - 1].map(|length| {
                let mut raw = Raw::connect(address);
                raw.stream.write_all(&hello[..length]).unwrap();
                raw
            });
            let welcomed = Raw::welcomed(address, &collection, FIRST).0;
            let admitted = Raw::admitted(address, &collection, FIRST);
            silent.closed();
            halves.into_iter().for_each(Raw::closed);
            welcomed.closed();
            admitted.closed();
            until("the connections' end", || server.open() == 0 && server.buffered() == 0);
        }
    });
}

#[test]
fn a_client_that_stops_sending_still_gets_what_it_asked_for() {
    attacked(|target, _| {
        for count in [1, 2, 40] {
            let mut raw = target.admitted();
            for counter in 1..=count {
                let (kind, body) = match counter % 2 {
                    0 => (Kind::Fetch, target.fetch(counter)),
                    _ => (Kind::Search, target.search(counter)),
                };
                raw.send(kind as u8, &body);
            }
            raw.stream.shutdown(Shutdown::Write).unwrap();
            let mut counters: Vec<u64> = std::iter::from_fn(|| raw.next())
                .map(|(_, body)| u64::from_le_bytes(*body.first_chunk().unwrap()))
                .collect();
            counters.sort_unstable();
            assert_eq!(counters, (1..=count).collect::<Vec<_>>());
        }
    });
}

#[test]
fn more_connections_than_the_budget_admits_are_turned_away_and_the_others_work() {
    guarded(|| {
        let rows = byte_rows(50, 4, 5);
        let shares = Shares::of(&rows, 6);
        let way = Way { workers: 0, ..WAYS[0] };
        // What the crowd has is not given up while it comes.
        let first_byte = Duration::from_secs(3_600);
        let servers = Party::ALL
            .map(|party| shares.serve_within(any_port(), party, way, |budget| budget.first_byte(first_byte)));
        let honest = client(&shares, addresses(&servers));
        assert_eq!(honest.fetch(0).unwrap().values(), rows[0]);
        let address = servers[0].addresses()[0];
        let limit = shares.trident(FIRST).budget().connections;
        // One that is turned away may hear of it before its connect has returned.
        let crowd: Vec<_> = (0..2 * limit).map(|_| TcpStream::connect(address)).collect();
        until("the refusals", || servers[0].stats().refused as usize >= limit);
        assert_eq!(servers[0].open(), limit);
        assert!(servers[0].buffered() < 1 << 20);
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(&honest.fetch(index).unwrap().values(), row);
        }
        let error = client(&shares, addresses(&servers)).fetch(0).unwrap_err();
        super::harness::names(&error, FIRST, address);
        drop(crowd);
        until("room", || servers[0].open() == 1);
        assert_eq!(client(&shares, addresses(&servers)).fetch(1).unwrap().values(), rows[1]);
    });
}
