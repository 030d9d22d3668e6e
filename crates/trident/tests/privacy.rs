//! What one server sees is uniform, whatever the data, the index and the query; and masks never repeat.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use rand::Rng;

use roadstead_trident::{
    field::{P, add, sub},
    manifest::Digest,
    mask::{Masks, PairKey, PairKeys, Purpose},
    party::Party,
    query::Body,
    share::{SEARCH_FILE, component_file, server_dir},
    wire::{COUNTER, Kind},
};

use common::{Cluster, SEARCH, chi_square_bytes, chi_square_elements, elements, rng, share_rows};

/// The extremes, so that any trace of the data would be a heavy one.
fn extreme_tables() -> [Vec<Vec<f32>>; 2] {
    [vec![vec![0.0; 16]; 64], vec![vec![255.0; 16]; 64]]
}

#[test]
fn shares_of_one_server_are_uniform_over_many_sharings() {
    for table in extreme_tables() {
        let mut components: [[Vec<u8>; 2]; 3] = Default::default();
        let mut shares: [Vec<u32>; 3] = Default::default();
        for seed in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            share_rows(&table, dir.path(), SEARCH, seed);
            for party in Party::ALL {
                let dir = server_dir(dir.path(), party);
                for (at, (component, _)) in party.components().iter().enumerate() {
                    components[party.index()][at]
                        .extend(std::fs::read(dir.join(component_file(*component))).unwrap());
                }
                shares[party.index()].extend(elements(&std::fs::read(dir.join(SEARCH_FILE)).unwrap()));
            }
        }
        for (components, shares) in components.iter().zip(&shares) {
            components.iter().for_each(|component| chi_square_bytes(component));
            chi_square_elements(shares);
            // Together too: a server holds both of its components.
            let sum: Vec<u8> = components[0].iter().zip(&components[1]).map(|(a, b)| a ^ b).collect();
            chi_square_bytes(&sum);
        }
    }
}

#[test]
fn queries_to_one_server_are_uniform() {
    let mut cluster = Cluster::new(&extreme_tables()[0], 1);
    for query in [vec![0.0; 16], vec![255.0; 16]] {
        let mut seen: [Vec<u32>; 3] = Default::default();
        for counter in 1..400 {
            let (_, requests) = cluster.client.search(&query, true, counter, &mut cluster.rng).unwrap();
            for (seen, request) in seen.iter_mut().zip(&requests) {
                seen.extend(elements(&request[COUNTER + 1..]));
            }
        }
        seen.iter().for_each(|seen| chi_square_elements(seen));
    }
}

/// Without masks, answers to repeated reads of one row would differ by what other rows hold.
#[test]
fn answers_to_repeated_requests_differ_by_uniform_noise() {
    let mut cluster = Cluster::new(&extreme_tables()[1], 2);
    let (mut records, mut scores): ([Vec<u8>; 3], [Vec<u32>; 3]) = Default::default();
    let mut last: Option<[[Vec<u8>; 3]; 2]> = None;
    // The very same keys and vectors every time: all that changes is the counter.
    let (_, fetch) = cluster.client.fetch(7, 0, &cluster.expander, &mut cluster.rng).unwrap();
    let (_, search) = cluster.client.search(&[255.0; 16], false, 0, &mut cluster.rng).unwrap();
    let with_counter = |requests: &[Body; 3], counter: u64| {
        requests.clone().map(|mut request| {
            request[..COUNTER].copy_from_slice(&counter.to_le_bytes());
            request
        })
    };
    for _ in 0..400 {
        let counter = cluster.next_counter();
        let fetched = cluster.ask(Kind::Fetch, &with_counter(&fetch, counter)).unwrap();
        let counter = cluster.next_counter();
        let searched = cluster.ask(Kind::Search, &with_counter(&search, counter)).unwrap();
        if let Some([old_fetched, old_searched]) = &last {
            for at in 0..3 {
                let bytes = |answer: &Vec<u8>| answer[COUNTER..].to_vec();
                records[at]
                    .extend(bytes(&fetched[at]).iter().zip(bytes(&old_fetched[at])).map(|(a, b)| a ^ b));
                let pairs = elements(&searched[at][COUNTER..])
                    .into_iter()
                    .zip(elements(&old_searched[at][COUNTER..]));
                scores[at].extend(pairs.map(|(a, b)| sub(a, b)));
            }
        }
        last = Some([fetched, searched]);
    }
    records.iter().for_each(|records| chi_square_bytes(records));
    scores.iter().for_each(|scores| chi_square_elements(scores));
}

fn keys(seed: u64) -> [PairKeys; 3] {
    let mut rng = rng(seed);
    let keys = Party::ALL.map(|_| PairKey::generate(&mut rng));
    Party::ALL.map(|party| PairKeys {
        next: keys[party.index()].clone(),
        previous: keys[party.previous().index()].clone(),
    })
}

#[test]
fn three_masks_cancel() {
    let nonces = [[1; 16], [2; 16], [3; 16]];
    for length in [0, 1, 15, 16, 17, 144, 1_023, 1_024, 1_025, 5_000] {
        let (mut bytes, mut sums) = (vec![0; length], vec![0; length]);
        for keys in &keys(1) {
            Masks::new(keys, &Digest([9; 32]), Purpose::FetchDirect, &nonces).xor(5, &mut bytes);
            let mut elements = vec![0; length];
            Masks::new(keys, &Digest([9; 32]), Purpose::SearchScan, &nonces).add(5, 3, &mut elements);
            assert!(elements.iter().all(|element| *element < P));
            sums.iter_mut().zip(elements).for_each(|(sum, element)| *sum = add(*sum, element));
        }
        assert!(bytes.iter().all(|byte| *byte == 0) && sums.iter().all(|sum| *sum == 0), "length {length}");
    }
}

/// The definition, written out: keyed BLAKE3, then one AES block at a time.
#[test]
fn masks_equal_their_definition() {
    let (nonces, digest, counter) = ([[1; 16], [2; 16], [3; 16]], Digest([9; 32]), 0x0102_0304_0506u64);
    let keys = &keys(2)[0];
    let stream = |key: &PairKey, codes: [u8; 2]| {
        let message = [b"roadstead trident mask v1", &digest.0[..], &codes, &nonces.concat()].concat();
        let key: [u8; 16] = blake3::keyed_hash(key.expose(), &message).as_bytes()[..16].try_into().unwrap();
        let cipher = aes::Aes128::new(&key.into());
        let block = |number: u64| -> [u8; 16] {
            let mut block =
                [counter.to_le_bytes(), number.to_le_bytes()].concat().as_slice().try_into().unwrap();
            cipher.encrypt_block(&mut block);
            block.into()
        };
        (0..100).flat_map(block).collect::<Vec<u8>>()
    };
    let mut bytes = vec![0; 1_600];
    Masks::new(keys, &digest, Purpose::FetchDirect, &nonces).xor(counter, &mut bytes);
    let expected: Vec<u8> =
        stream(&keys.next, [1, 1]).iter().zip(stream(&keys.previous, [1, 1])).map(|(a, b)| a ^ b).collect();
    assert_eq!(bytes, expected);

    let mut sums = vec![0; 400];
    Masks::new(keys, &digest, Purpose::SearchScan, &nonces).add(counter, 0, &mut sums);
    let pairs =
        elements(&stream(&keys.next, [2, 1])).into_iter().zip(elements(&stream(&keys.previous, [2, 1])));
    assert_eq!(sums, pairs.map(|(next, previous)| sub(next & P, previous & P)).collect::<Vec<_>>());
}

#[test]
fn masks_never_repeat_across_connections_restarts_counters_and_purposes() {
    let mut seen = HashSet::new();
    let mut fresh = |masks: &Masks, counter: u64| {
        let mut bytes = [0; 64];
        masks.xor(counter, &mut bytes);
        assert!(bytes.chunks(16).all(|block| seen.insert(block.to_vec())), "a mask repeats");
    };
    let (mut rng, keys) = (rng(3), keys(3));
    // A restart is nothing but new nonces: nothing else is remembered.
    let mut nonces = [[0; 16]; 3];
    for connection in 0..200 {
        // One server's nonce alone must be enough, whichever it is: the others may be chosen to repeat.
        rng.fill_bytes(&mut nonces[connection % 3]);
        for purpose in [Purpose::FetchDirect, Purpose::SearchScan] {
            for keys in &keys {
                let masks = Masks::new(keys, &Digest([1; 32]), purpose, &nonces);
                for counter in [1, 2, 3, 1 << 40, u64::MAX] {
                    fresh(&masks, counter);
                }
            }
        }
    }
    let other_manifest = Masks::new(&keys[0], &Digest([2; 32]), Purpose::FetchDirect, &nonces);
    fresh(&other_manifest, 1);
}

/// What a server adds to an answer is the mask of its own kind of question: with another's, bytes and elements of one
/// stream would hide two answers.
#[test]
fn fetches_and_searches_are_masked_by_streams_of_their_own() {
    let mut cluster = Cluster::new(&extreme_tables()[1], 3);
    let nonces = [[1; 16], [2; 16], [3; 16]];
    cluster.connect_with(nonces);
    let (_, fetch) = cluster.client.fetch(7, 1, &cluster.expander, &mut cluster.rng).unwrap();
    let mut again = fetch.clone();
    again.iter_mut().for_each(|request| request[0] = 2);
    let fetched = [fetch, again].map(|requests| cluster.ask(Kind::Fetch, &requests).unwrap());
    let (_, mut search) = cluster.client.search(&[255.0; 16], false, 3, &mut cluster.rng).unwrap();
    // A vector of zeros has zeros for products.
    search.iter_mut().for_each(|request| request[COUNTER + 1..].fill(0));
    let searched = cluster.ask(Kind::Search, &search).unwrap();
    for (at, store) in cluster.stores.iter().enumerate() {
        let masks = |purpose| Masks::new(store.keys(), &store.digest(), purpose, &nonces);
        let [one, two] = [(1, &fetched[0][at]), (2, &fetched[1][at])].map(|(counter, answer)| {
            let mut record = answer[COUNTER..].to_vec();
            masks(Purpose::FetchDirect).xor(counter, &mut record);
            record
        });
        assert_eq!(one, two, "the same keys select the same record");
        let mut zeros = vec![0; store.manifest().rows];
        masks(Purpose::SearchScan).add(3, 0, &mut zeros);
        assert_eq!(elements(&searched[at][COUNTER..]), zeros);
    }
}

/// Without salts of their own, whoever has a client's digests could confirm a guess of a row.
#[test]
fn every_record_has_a_random_salt_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = share_rows(&vec![vec![7.0; 16]; 2_000], dir.path(), SEARCH, 5);
    let [one, two, three] = Party::ALL.map(|party| {
        let held = server_dir(dir.path(), party.next()).join(component_file(party.number()));
        std::fs::read(held).unwrap()
    });
    let sum = |at: usize| one[at] ^ two[at] ^ three[at];
    // A row of sixteen bytes, then its salt: four rows side by side in each of two lines.
    assert_eq!((manifest.record_width(), one.len()), (2, 2_000 / 4 * 128));
    let salts: Vec<Vec<u8>> = (0..2_000)
        .map(|row| {
            let at = row / 4 * 128 + row % 4 * 16;
            assert!((at..at + 16).all(|at| sum(at) == 7));
            (at + 64..at + 80).map(sum).collect()
        })
        .collect();
    chi_square_bytes(&salts.concat());
    assert_eq!(salts.iter().collect::<HashSet<_>>().len(), salts.len());
}
