//! Every byte of all messages that a check covers, changed alone, and every length they can be cut to: refused, or
//! without effect on what is answered. All that is compared has a test that finds a comparison of half of its bytes:
//!
//! | compared | with | where | test |
//! |---|---|---|---|
//! | digest of a row | what the client holds | `query.rs` | `resealed.rs` |
//! | scores and elements | their two multiples | `check.rs` | here, `protocol.rs`, `shared.rs` |
//! | digest of a block | the directory's list | `integrity.rs` | `resealed.rs` |
//! | digest of that list | the manifest's root | `integrity.rs` | `resealed.rs` |
//! | the manifest's file | what it says, and its check | `manifest.rs` | `integrity.rs` |
//! | the manifest's digest | the other side's | `admission.rs`, `client/link.rs` | here, `cluster/flipped.rs` |
//! | a nonce | the one that was issued | `admission.rs` | here |
//! | the third answer | what two others make it | `client/thirds.rs` | there |
//! | public keys | pins | `trust.rs`, the engine's `tls/` and `exchange/trust.rs` | there |
//! | head of a frame | its checksum | the engine's `frame.rs` | there |
//!
//! What is between servers, and the answers of unchecked searches, has no check of its own: there TLS is what refuses a
//! change on the way, and a changed part of a row ends in the client's check.

#![allow(clippy::unwrap_used)]

mod common;

use roadstead_trident::{
    admission::{Admission, Admitted, Refused},
    check::{ROW_DIGEST, row_digest},
    manifest::{Digest, SharingId},
    mask::{Masks, PairKey, PairKeys, Purpose},
    party::Party,
    prg::{Direction, Expander},
    query::{AnswerError, Body, Fetch, Search},
    reshare::{add_up, query_id, reshare},
    shared::{Odd, SharedFetch},
    wire::{self, COUNTER, Hello, Kind, Refusal, Welcome},
};

use common::{Cluster, byte_rows, elements, rng, slices};

/// The row that is asked for.
const INDEX: usize = 5;

/// One bit of every byte, another one for each.
fn flips(length: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..length).map(|at| (at, 1 << (at % 8)))
}

#[test]
fn every_byte_of_a_row_of_its_salt_of_its_place_and_of_the_sharing_is_in_its_digest() {
    let digest = |at: usize, bit: u8| {
        let mut bytes = [7u8; 16 + 8 + 16 + 24];
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= bit;
        }
        let index = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
        let (sharing, salt) = (bytes[..16].try_into().unwrap(), bytes[24..40].try_into().unwrap());
        row_digest(&SharingId(sharing), index, &salt, &bytes[40..])
    };
    let right = digest(usize::MAX, 0);
    for (at, bit) in flips(64) {
        let changed = digest(at, bit);
        let same = changed.iter().zip(right).filter(|(a, b)| *a == b).count();
        assert!(same < ROW_DIGEST / 2, "byte {at}");
    }
}

/// A connection of `party` that waits for the nonces.
fn welcomed(cluster: &Cluster, party: Party, nonce: [u8; 16]) -> Admission {
    let mut connection = Admission::new(nonce);
    let hello = Hello { version: wire::VERSION, party, digest: cluster.client.digest() };
    connection.receive(&cluster.stores[party.index()], Kind::Hello, &hello.encode()).unwrap();
    connection
}

#[test]
fn whoever_speaks_an_older_or_a_newer_version_is_not_welcome() {
    let cluster = Cluster::new(&byte_rows(3, 2, 1), 2);
    let party = Party::ALL[0];
    for version in [0, wire::VERSION - 1, wire::VERSION + 1, u16::MAX] {
        let hello = Hello { version, party, digest: cluster.client.digest() }.encode();
        let refused = Admission::new([1; 16]).receive(&cluster.stores[0], Kind::Hello, &hello);
        assert_eq!(refused.err(), Some(Refused::Version(version)));
    }
}

#[test]
fn every_byte_of_a_hello_and_of_the_nonce_in_a_servers_own_place_counts() {
    let cluster = Cluster::new(&byte_rows(3, 2, 1), 2);
    for party in Party::ALL {
        let store = &cluster.stores[party.index()];
        let hello = Hello { version: wire::VERSION, party, digest: cluster.client.digest() }.encode();
        for (at, bit) in flips(hello.len()) {
            let mut hello = hello.clone();
            hello[at] ^= bit;
            let refused = Admission::new([1; 16]).receive(store, Kind::Hello, &hello).unwrap_err();
            match at {
                0 | 1 => assert!(matches!(refused, Refused::Version(_))),
                2 => assert!(matches!(refused, Refused::Party { .. } | Refused::Body(_))),
                _ => assert!(matches!(refused, Refused::Manifest { .. }), "byte {at}: {refused}"),
            }
        }
        let own = std::array::from_fn(|at| at as u8);
        let nonces = Party::ALL.map(|other| if other == party { own } else { [9; 16] }).concat();
        for (at, bit) in flips(nonces.len()) {
            let mut nonces = nonces.clone();
            nonces[at] ^= bit;
            let admitted = welcomed(&cluster, party, own).receive(store, Kind::Nonces, &nonces);
            match admitted {
                Err(refused) => assert_eq!((refused, at / 16), (Refused::Nonce(party), party.index())),
                Ok(_) => assert_ne!(at / 16, party.index(), "byte {at}"),
            }
        }
    }
}

/// The nonces of others are not known to a server; what follows from them is different in every block if one byte is.
#[test]
fn every_byte_of_all_nonces_of_the_digest_and_of_the_counter_makes_other_masks_seeds_and_names() {
    let key = PairKey::from_bytes(&[5; 32]);
    let keys = PairKeys { next: key, previous: PairKey::from_bytes(&[6; 32]) };
    let follows = |at: usize, bit: u8| {
        let mut bytes = [3u8; 48 + 32 + 8];
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= bit;
        }
        let nonces: [[u8; 16]; 3] =
            std::array::from_fn(|nonce| bytes[16 * nonce..][..16].try_into().unwrap());
        let digest = Digest(bytes[48..80].try_into().unwrap());
        let counter = u64::from_le_bytes(bytes[80..].try_into().unwrap());
        let mut all = query_id(&digest, &nonces, counter).to_le_bytes().to_vec();
        let mut record = [0; 32];
        Masks::new(&keys, &digest, Purpose::FetchDirect, &nonces).xor(counter, &mut record);
        all.extend(record);
        let mut scores = [0; 8];
        Masks::new(&keys, &digest, Purpose::SearchScan, &nonces).add(counter, 0, &mut scores);
        all.extend(scores.iter().flat_map(|score: &u32| score.to_le_bytes()));
        let expander = Expander::new(&digest, &nonces);
        let mut block = [[7; 16].into(); 2];
        expander.expand(Direction::Left, &mut block[..1]);
        expander.expand(Direction::Leaf, &mut block[1..]);
        // It is made once for a connection, whatever the counter.
        let seeds = block.iter().flat_map(|block| block.iter().map(|byte| byte ^ bytes[80 + at % 8]));
        if at < 80 {
            all.extend(seeds);
        }
        all
    };
    let right = follows(usize::MAX, 0);
    for (at, bit) in flips(48 + 32 + 8) {
        let changed = follows(at, bit);
        assert!(changed.chunks(16).zip(right.chunks(16)).all(|(a, b)| a != b), "byte {at}");
    }
}

/// A question that can be asked, and what it takes to believe the answer.
enum Way {
    Fetch(Fetch),
    Search(Search),
    Shared(SharedFetch),
}

const KINDS: [Kind; 3] = [Kind::Fetch, Kind::Search, Kind::FetchShare];

impl Way {
    fn ask(cluster: &mut Cluster, kind: Kind, table: &[Vec<f32>]) -> (Self, [Body; 3]) {
        let counter = cluster.next_counter();
        let (client, expander, rng) = (&cluster.client, &cluster.expander, &mut cluster.rng);
        match kind {
            Kind::Fetch => {
                let (fetch, requests) = client.fetch(INDEX, counter, expander, rng).unwrap();
                (Self::Fetch(fetch), requests)
            }
            Kind::Search => {
                let (search, requests) = client.search(&table[INDEX], true, counter, rng).unwrap();
                (Self::Search(search), requests)
            }
            _ => {
                let (fetch, requests) = client.fetch_shared(INDEX, counter, expander, rng).unwrap();
                (Self::Shared(fetch), requests)
            }
        }
    }

    /// Whether the answers are believed. Fails if what is believed is wrong.
    fn judge(&self, answers: &[Vec<u8>; 3], table: &[Vec<f32>]) -> Result<(), AnswerError> {
        match self {
            Self::Fetch(fetch) => assert_eq!(fetch.finish(slices(answers))?.values(), table[INDEX]),
            Self::Search(search) => {
                let query = &table[INDEX];
                let score =
                    |row: &Vec<f32>| row.iter().zip(query).map(|(&x, &q)| (x * x - 2.0 * q * x) as i32).sum();
                let scores: Vec<i32> = table.iter().map(score).collect();
                assert_eq!(search.finish(slices(answers))?.as_slice(), scores);
            }
            Self::Shared(fetch) => {
                let found = fetch.finish(answers.each_ref().map(|answer| Some(answer.as_slice())))?;
                assert_eq!(found.row.values(), table[INDEX]);
            }
        }
        Ok(())
    }
}

#[test]
fn every_byte_of_a_request_changed_is_refused_or_does_no_harm() {
    let table = byte_rows(300, 3, 3);
    let mut cluster = Cluster::new(&table, 4);
    for kind in KINDS {
        let (mut refused, mut disbelieved, mut harmless) = (0, 0, Vec::new());
        let length = Way::ask(&mut cluster, kind, &table).1[0].len();
        for server in 0..3 {
            for (at, bit) in flips(length) {
                cluster.reconnect();
                let (way, mut requests) = Way::ask(&mut cluster, kind, &table);
                requests[server][at] ^= bit;
                match cluster.ask(kind, &requests).map(|answers| way.judge(&answers, &table)) {
                    Err(_) => refused += 1,
                    Ok(Err(_)) => disbelieved += 1,
                    Ok(Ok(())) => harmless.push(at),
                }
            }
        }
        // Of a key not all is used: not what is for rows that there are not, or for the leaves of the other party.
        // Of answers that stay shared two are enough, so that a changed counter costs one of three.
        let used = match kind {
            Kind::Fetch => 0..COUNTER,
            Kind::Search => 0..length,
            _ => 0..1,
        };
        assert!(!harmless.iter().any(|at| used.contains(at)), "{kind:?}: {harmless:?}");
        assert!(disbelieved > length, "{kind:?}: {refused} refused, {disbelieved} disbelieved");
    }
}

#[test]
fn every_byte_of_an_answer_changed_is_refused_or_found_out() {
    let table = byte_rows(20, 3, 5);
    let mut cluster = Cluster::new(&table, 6);
    for kind in KINDS {
        let (way, requests) = Way::ask(&mut cluster, kind, &table);
        let answers = cluster.ask(kind, &requests).unwrap();
        assert_eq!(way.judge(&answers, &table), Ok(()));
        for server in 0..3 {
            for at in 0..answers[server].len() {
                for bit in 0..8 {
                    let mut wrong = answers.clone();
                    wrong[server][at] ^= 1 << bit;
                    let Way::Shared(fetch) = &way else {
                        assert!(way.judge(&wrong, &table).is_err(), "{kind:?}: bit {bit} of byte {at}");
                        continue;
                    };
                    let all = wrong.each_ref().map(|answer| Some(answer.as_slice()));
                    let found = fetch.finish(all).unwrap();
                    assert_eq!(found.row.values(), table[INDEX]);
                    assert_eq!(found.odd.unwrap().party(), Some(Party::ALL[server]));
                    let mut two = all;
                    two[(server + 1) % 3] = None;
                    assert!(fetch.finish(two).is_err(), "bit {bit} of byte {at}");
                }
            }
        }
    }
}

/// What no check covers by itself: the parts that servers send each other.
#[test]
fn every_byte_of_a_part_between_servers_changed_costs_no_right_row() {
    let table = byte_rows(20, 3, 7);
    let mut cluster = Cluster::new(&table, 8);
    let (way, requests) = Way::ask(&mut cluster, Kind::FetchShare, &table);
    let Way::Shared(fetch) = way else { unreachable!() };
    let sums: [Vec<u32>; 3] = std::array::from_fn(|at| {
        let store = &cluster.stores[at];
        match cluster.connections[at].receive(store, Kind::FetchShare, &requests[at]).unwrap() {
            Admitted::FetchShare(query) => store.combine(&[query]).unwrap().remove(0),
            other => panic!("{other:?}"),
        }
    });
    let messages = Party::ALL.map(|party| reshare(party, &sums[party.index()], &mut cluster.rng));
    let counter = u64::from_le_bytes(requests[0][..COUNTER].try_into().unwrap());
    let manifest = cluster.client.manifest();
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0)] {
        for (at, bit) in flips(messages[from][to].len()) {
            let mut messages = messages.clone();
            messages[from][to][at] ^= bit;
            let answers = Party::ALL.map(|party| {
                let parts = messages.each_ref().map(|messages| messages[party.index()].as_slice());
                add_up(manifest, counter, parts)
            });
            let answers = answers.each_ref().map(|answer| answer.as_deref().ok());
            let found = fetch.finish(answers).unwrap();
            assert_eq!(found.row.values(), table[INDEX], "byte {at} from {from} to {to}");
            // A part with an element that is none is refused by its receiver, which then has no answer.
            let odd = answers[to].map(|_| Odd::Contradicts(Party::ALL[to]));
            assert_eq!(found.odd, odd);
        }
        for length in 0..messages[from][to].len() {
            let mut parts = messages.each_ref().map(|messages| messages[to].as_slice());
            parts[from] = &parts[from][..length];
            assert_eq!(add_up(manifest, counter, parts).unwrap_err().party, Party::ALL[from]);
        }
    }
}

#[test]
fn messages_cut_to_any_length_are_refused() {
    let table = byte_rows(20, 3, 9);
    let mut cluster = Cluster::new(&table, 10);
    for kind in KINDS {
        let requests = Way::ask(&mut cluster, kind, &table).1;
        for length in 0..requests[0].len() {
            cluster.reconnect();
            let cut = &requests[0][..length];
            assert!(cluster.connections[0].receive(&cluster.stores[0], kind, cut).is_err(), "{kind:?}");
        }
        cluster.reconnect();
        let (way, requests) = Way::ask(&mut cluster, kind, &table);
        let answers = cluster.ask(kind, &requests).unwrap();
        for server in 0..3 {
            for length in 0..answers[server].len() {
                let mut cut = answers.clone();
                cut[server].truncate(length);
                match &way {
                    Way::Shared(fetch) => {
                        let all = cut.each_ref().map(|answer| Some(answer.as_slice()));
                        let odd = fetch.finish(all).unwrap().odd.unwrap();
                        assert!(matches!(odd, Odd::Malformed(_)) && odd.party() == Some(Party::ALL[server]));
                    }
                    way => assert!(matches!(way.judge(&cut, &table), Err(AnswerError::Malformed { .. }))),
                }
            }
        }
    }
    let (party, digest) = (Party::ALL[0], cluster.client.digest());
    let hello = Hello { version: wire::VERSION, party, digest }.encode();
    let welcome = Welcome { version: wire::VERSION, party, digest, nonce: [1; 16] }.encode();
    let nonces = wire::encode_nonces(&[[1; 16]; 3]);
    assert!((0..hello.len()).all(|length| Hello::parse(&hello[..length]).is_err()));
    assert!((0..welcome.len()).all(|length| Welcome::parse(&welcome[..length]).is_err()));
    assert!((0..nonces.len()).all(|length| wire::parse_nonces(&nonces[..length]).is_err()));
    // The text of a refusal has any length, so only what is before it cannot be cut.
    let refusal = Refusal { counter: 1, code: 2, text: "so".into() }.encode();
    assert!((0..refusal.len()).all(|length| Refusal::parse(&refusal[..length]).is_ok() == (length >= 10)));
}

/// A score that is not that of its row passes an unchecked search, as its documentation says, if a row could have it.
#[test]
fn an_unchecked_search_takes_a_changed_score_but_none_that_no_row_can_have() {
    let table = byte_rows(20, 3, 11);
    let mut cluster = Cluster::new(&table, 12);
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(&table[INDEX], false, counter, &mut rng(1)).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    let right = search.finish(slices(&answers)).unwrap();
    let mut taken = 0;
    for at in COUNTER..answers[1].len() {
        for bit in 0..8 {
            let mut wrong = answers.clone();
            wrong[1][at] ^= 1 << bit;
            let Ok(found) = search.finish(slices(&wrong)) else { continue };
            taken += 1;
            let differ = found.as_slice().iter().zip(right.as_slice()).filter(|(a, b)| a != b).count();
            assert_eq!((differ, elements(&wrong[1][COUNTER..]).len()), (1, 20));
        }
    }
    // Of the 31 bits that a change may be in, those that scores of such rows have.
    assert!((20 * 16..20 * 24).contains(&taken), "{taken}");
}
