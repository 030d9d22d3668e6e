//! Files whose bytes are changed one by one, and all digests before them put in order again: what compares the next one
//! has to look at every byte of it. And files cut to every length.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::HashSet, fs, path::Path};

use roadstead::tls::{Keys, Pin};
use roadstead_keys::{Authority, Role};
use roadstead_trident::{
    check::{Check, ROW_DIGEST},
    integrity::{FILE, Roots, verify},
    manifest::{self, Digest, Manifest},
    party::Party,
    query::Collection,
    scales::SCALES_FILE,
    share::{CLIENT_DIR, DIGESTS_FILE, SEARCH_FILE, component_file, pair_key_file, server_dir},
    store::{Store, StoreError},
    trust::{Pins, TrustError, acceptor},
    wire::Kind,
};

use common::{Cluster, SEARCH, byte_rows, share_rows, slices};

/// One bit of every byte, another one for each.
fn flips(length: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..length).map(|at| (at, 1 << (at % 8)))
}

/// Puts the digests of a directory's blocks, and the root of these, in order again. `files` are its files, with the
/// bytes of each block, in the order of their digests.
fn reseal(dir: &Path, files: &[(String, usize)], change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.join(manifest::FILE);
    let manifest = Manifest::parse(&fs::read(&path).unwrap()).unwrap();
    let mut list = fs::read(dir.join(FILE)).unwrap()[..32].to_vec();
    for (name, block) in files {
        let bytes = fs::read(dir.join(name)).unwrap();
        bytes.chunks(*block).for_each(|block| list.extend_from_slice(blake3::hash(block).as_bytes()));
    }
    assert_eq!(list.len(), fs::read(dir.join(FILE)).unwrap().len());
    change(&mut list);
    fs::write(dir.join(FILE), &list).unwrap();
    let mut hasher = blake3::Hasher::new_derive_key("roadstead trident directory root v1");
    let root = Digest(hasher.update(&list).finalize().into());
    let mut roots = manifest.roots;
    match manifest.party {
        Some(party) => roots.servers[party.index()] = root,
        None => roots.client = root,
    }
    fs::write(path, manifest.with_roots(roots).to_json().unwrap()).unwrap();
}

/// The files of the client's directory.
fn client_files() -> [(String, usize); 2] {
    [(DIGESTS_FILE.into(), 1024 * ROW_DIGEST), (SCALES_FILE.into(), 1024 + 20)]
}

#[test]
fn every_byte_of_a_row_digest_counts() {
    let table = byte_rows(8, 4, 1);
    let mut cluster = Cluster::new(&table, 2);
    let dir = cluster.dir.path().join(CLIENT_DIR);
    let whole = fs::read(dir.join(DIGESTS_FILE)).unwrap();
    for (at, bit) in flips(whole.len()) {
        let mut digests = whole.clone();
        digests[at] ^= bit;
        fs::write(dir.join(DIGESTS_FILE), digests).unwrap();
        reseal(&dir, &client_files(), |_| {});
        let client = Collection::open(&dir).unwrap();
        for index in [at / ROW_DIGEST, (at / ROW_DIGEST + 1) % 8] {
            let counter = cluster.next_counter();
            let (fetch, requests) =
                client.fetch(index, counter, &cluster.expander, &mut cluster.rng).unwrap();
            let answers = cluster.ask(Kind::Fetch, &requests).unwrap();
            match fetch.finish(slices(&answers)) {
                Err(error) => assert_eq!((error, index), (Check::RowDigest.into(), at / ROW_DIGEST)),
                Ok(row) => assert!(index != at / ROW_DIGEST && row.values() == table[index], "byte {at}"),
            }
        }
    }
}

#[test]
fn every_byte_of_a_blocks_digest_counts_and_the_salt_before_them_may_be_any() {
    let out = tempfile::tempdir().unwrap();
    share_rows(&byte_rows(3, 2, 1), out.path(), SEARCH, 2);
    // A component of three rows is one block of lines, as are the search shares; a key is another.
    let server = server_dir(out.path(), Party::ALL[0]);
    let keys = [Party::ALL[0], Party::ALL[2]].map(pair_key_file);
    let names = [component_file(2), component_file(3), SEARCH_FILE.into()].into_iter().chain(keys);
    let server_files: Vec<_> = names.map(|name| (name, 1 << 20)).collect();
    let client = out.path().join(CLIENT_DIR);
    for (dir, files, holder) in
        [(&server, &server_files[..], Some(Party::ALL[0])), (&client, &client_files()[..], None)]
    {
        let length = fs::metadata(dir.join(FILE)).unwrap().len() as usize;
        for (at, bit) in flips(length) {
            reseal(dir, files, |list| list[at] ^= bit);
            let faults = verify(dir, &mut |_, _| {}).faults;
            let opened = match holder {
                Some(party) => Store::open(dir, party, u64::MAX).map(drop),
                None => Collection::open(dir).map(drop),
            };
            if at < 32 {
                assert!(faults.is_empty() && opened.is_ok());
            } else {
                let path = dir.join(&files[(at - 32) / 32].0);
                assert!(matches!(&faults[..], [StoreError::Damaged { path: named, .. }] if *named == path));
                assert_eq!(opened.unwrap_err().path(), path, "byte {at}");
            }
            // Of the list only the salt is kept.
            reseal(dir, files, |list| _ = (at < 32).then(|| list[at] ^= bit));
        }
        assert!(verify(dir, &mut |_, _| {}).faults.is_empty());
    }
}

#[test]
fn every_byte_of_a_directorys_own_root_counts_and_all_roots_are_in_the_digest() {
    let out = tempfile::tempdir().unwrap();
    let written = share_rows(&byte_rows(3, 2, 1), out.path(), SEARCH, 2);
    let mut digests = HashSet::from([written.digest().0]);
    for holder in 0..4 {
        let party = Party::ALL.get(holder).copied();
        let dir = party.map_or(out.path().join(CLIENT_DIR), |party| server_dir(out.path(), party));
        let path = dir.join(manifest::FILE);
        let whole = fs::read(&path).unwrap();
        for (at, bit) in flips(4 * 32) {
            let manifest = Manifest::parse(&whole).unwrap();
            let Roots { mut servers, mut client } = manifest.roots;
            let root = servers.get_mut(at / 32).unwrap_or(&mut client);
            root.0[at % 32] ^= bit;
            let manifest = manifest.with_roots(Roots { servers, client });
            assert_eq!(digests.insert(manifest.digest().0), holder == 0, "servers would not see it");
            fs::write(&path, manifest.to_json().unwrap()).unwrap();
            let opened = match party {
                Some(party) => Store::open(&dir, party, u64::MAX).map(drop),
                None => Collection::open(&dir).map(drop),
            };
            match opened {
                Ok(()) => assert_ne!(at / 32, holder),
                Err(error) => assert_eq!((error.path(), at / 32), (&*dir.join(FILE), holder)),
            }
        }
        fs::write(path, whole).unwrap();
    }
}

#[test]
fn files_cut_to_any_length_are_refused() {
    let out = tempfile::tempdir().unwrap();
    share_rows(&byte_rows(3, 2, 1), out.path(), SEARCH, 2);
    let (client, server) = (out.path().join(CLIENT_DIR), server_dir(out.path(), Party::ALL[1]));
    for dir in [&client, &server] {
        for file in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let whole = fs::read(&file).unwrap();
            for length in 0..whole.len() {
                fs::write(&file, &whole[..length]).unwrap();
                let opened = match *dir == client {
                    true => Collection::open(dir).map(drop),
                    false => Store::open(dir, Party::ALL[1], u64::MAX).map(drop),
                };
                assert_eq!(opened.unwrap_err().path(), file, "{length} bytes");
            }
            fs::write(&file, whole).unwrap();
        }
    }
}

#[test]
fn every_byte_of_a_servers_own_pin_counts() {
    let out = tempfile::tempdir().unwrap();
    let written = share_rows(&byte_rows(3, 2, 1), out.path(), SEARCH, 2);
    let issued = Authority::new("cluster").unwrap().issue("server-2", Role::Server).unwrap();
    let keys = Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()).unwrap();
    let party = Party::ALL[1];
    let dir = server_dir(out.path(), party);
    let accepts = |pin| {
        let pins = Pins::new([Pin([1; 32]), pin, Pin([3; 32])]).unwrap();
        let manifest = written.with_pins(Some(pins)).for_party(party);
        fs::write(dir.join(manifest::FILE), manifest.to_json().unwrap()).unwrap();
        let store = Store::open(&dir, party, u64::MAX).unwrap();
        acceptor(store.manifest(), party, Some(&keys), &[([127, 0, 0, 1], 1).into()])
    };
    assert!(accepts(keys.pin()).unwrap().is_some());
    for (at, bit) in flips(32) {
        let mut pin = keys.pin();
        pin.0[at] ^= bit;
        assert!(matches!(accepts(pin), Err(TrustError::Foreign { .. })), "byte {at}");
    }
}
