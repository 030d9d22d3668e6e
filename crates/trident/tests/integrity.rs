//! Damage to the files of a sharing: found wherever it is, named by file and block, and never computed with.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashSet,
    fs,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use roadstead_trident::{
    check::ROW_DIGEST,
    field::{P, add, sub},
    integrity::{FILE, verify},
    manifest::{self, Manifest},
    party::Party,
    query::Collection,
    scales::SCALES_FILE,
    share::{CLIENT_DIR, DIGESTS_FILE, SEARCH_FILE, component_file, pair_key_file, server_dir},
    store::{Store, StoreError},
    wire::Kind,
};

use common::{Cluster, SEARCH, byte_rows, share_rows};

fn shared(rows: usize, dim: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    share_rows(&byte_rows(rows, dim, 1), dir.path(), SEARCH, 2);
    dir
}

fn holders() -> [Option<Party>; 4] {
    [Some(Party::ALL[0]), Some(Party::ALL[1]), Some(Party::ALL[2]), None]
}

fn directory(out: &Path, holder: Option<Party>) -> PathBuf {
    holder.map_or(out.join(CLIENT_DIR), |party| server_dir(out, party))
}

/// What whoever uses the directory of `holder` is told.
fn open(dir: &Path, holder: Option<Party>, search_memory: u64) -> Result<(), StoreError> {
    match holder {
        Some(party) => Store::open(dir, party, search_memory).map(drop),
        None => Collection::open(dir).map(drop),
    }
}

/// Fails unless the only fault of the directory is in `file`, for those who verify it and for those who use it. Answers
/// the fault.
#[track_caller]
fn only_fault(dir: &Path, holder: Option<Party>, file: &Path) -> StoreError {
    let mut faults = verify(dir, &mut |_, _| {}).faults;
    assert_eq!(faults.len(), 1, "{file:?}: {faults:?}");
    assert_eq!(faults[0].path(), file);
    for search_memory in [0, u64::MAX] {
        let error = open(dir, holder, search_memory).unwrap_err();
        assert_eq!(error.path(), file, "{error}");
        assert_eq!(error.to_string(), faults[0].to_string());
    }
    faults.remove(0)
}

#[test]
fn every_changed_byte_of_every_file_is_found_and_its_file_named() {
    let out = shared(3, 2);
    for holder in holders() {
        let dir = directory(out.path(), holder);
        assert!(verify(&dir, &mut |_, _| {}).faults.is_empty());
        open(&dir, holder, u64::MAX).unwrap();
        for file in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            let whole = fs::read(&file).unwrap();
            for at in 0..whole.len() {
                // The second makes another whitespace of none, and another case of a digit.
                for mask in [0x01, 0x20] {
                    let mut bytes = whole.clone();
                    bytes[at] ^= mask;
                    fs::write(&file, &bytes).unwrap();
                    only_fault(&dir, holder, &file);
                }
            }
            fs::write(&file, whole).unwrap();
        }
        assert!(verify(&dir, &mut |_, _| {}).faults.is_empty());
    }
}

#[test]
fn the_damaged_block_is_named_also_where_rows_stay_on_disk() {
    let out = shared(2_050, 1);
    // A record has 17 bytes: two columns of 16 for each of four rows.
    let component = 2 * 64 * 1024 / 4;
    let search = 2 * 64 * 1024 / 16;
    for holder in holders() {
        let dir = directory(out.path(), holder);
        let files: Vec<(String, u64, u64)> = match holder {
            None => vec![(DIGESTS_FILE.into(), ROW_DIGEST as u64 * 1024, 0), (SCALES_FILE.into(), 1024, 20)],
            Some(party) => vec![
                (component_file(party.next().number()), component, 0),
                (component_file(party.previous().number()), component, 0),
                (SEARCH_FILE.into(), search, 0),
            ],
        };
        for (name, block, header) in files {
            let path = dir.join(name);
            let whole = fs::read(&path).unwrap();
            let changed = |blocks: &[u64]| {
                let mut bytes = whole.clone();
                blocks.iter().for_each(|number| bytes[(header + number * block) as usize] ^= 4);
                fs::write(&path, bytes).unwrap();
            };
            let length = whole.len() as u64;
            let start = |number: u64| if number == 0 { 0 } else { (header + number * block).min(length) };
            for number in 0..3 {
                changed(&[number]);
                let StoreError::Damaged { first, last, blocks, bytes, .. } = only_fault(&dir, holder, &path)
                else {
                    panic!("a changed bit is damage")
                };
                let at = number as usize + 1;
                assert_eq!((first, last, blocks, bytes), (at, at, 3, start(number)..start(number + 1)));
            }
            let runs = |blocks: &[u64]| {
                changed(blocks);
                let run = |fault: &StoreError| match fault {
                    StoreError::Damaged { first, last, bytes, .. } => (*first, *last, bytes.clone()),
                    other => panic!("{other}"),
                };
                verify(&dir, &mut |_, _| {})
                    .faults
                    .iter()
                    .map(run)
                    .collect::<Vec<(usize, usize, Range<u64>)>>()
            };
            assert_eq!(runs(&[0, 2]), [(1, 1, 0..start(1)), (3, 3, start(2)..length)]);
            assert_eq!(runs(&[1, 2]), [(2, 3, start(1)..length)]);
            fs::write(&path, whole).unwrap();
        }
    }
}

#[test]
fn truncated_missing_longer_and_exchanged_files_are_named() {
    let out = shared(40, 3);
    for holder in holders() {
        let dir = directory(out.path(), holder);
        let files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        for file in &files {
            let whole = fs::read(file).unwrap();
            let half = &whole[..whole.len() / 2];
            for wrong in [&whole[..whole.len() - 1], half, &[], &[&whole[..], &[0]].concat()] {
                fs::write(file, wrong).unwrap();
                only_fault(&dir, holder, file);
            }
            fs::remove_file(file).unwrap();
            assert!(matches!(only_fault(&dir, holder, file), StoreError::File(_)));
            // What another directory has under this name, or under another.
            for other in holders().into_iter().filter(|other| *other != holder) {
                for found in fs::read_dir(directory(out.path(), other)).unwrap() {
                    let bytes = fs::read(found.unwrap().path()).unwrap();
                    if bytes != whole && !file.ends_with(manifest::FILE) {
                        fs::write(file, bytes).unwrap();
                        only_fault(&dir, holder, file);
                    }
                }
            }
            fs::write(file, whole).unwrap();
        }
    }
    let [one, two] = [2, 3].map(|number| server_dir(out.path(), Party::ALL[0]).join(component_file(number)));
    let (first, second) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
    fs::write(&one, second).unwrap();
    fs::write(&two, first).unwrap();
    let faults = verify(&server_dir(out.path(), Party::ALL[0]), &mut |_, _| {}).faults;
    assert_eq!(faults.iter().map(StoreError::path).collect::<Vec<_>>(), [&*one, &*two]);
}

/// Who opens a pipe waits until somebody writes to it, and then for as much as is wanted of it.
#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_refused() {
    let out = shared(3, 2);
    for holder in holders() {
        let dir = directory(out.path(), holder);
        for file in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            let whole = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
            // Who opens it all the same finds a writer and more than enough to read.
            let mut pipe = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
            pipe.write_all(&[b' '; 2 * manifest::MAX_BYTES]).unwrap();
            let fault = only_fault(&dir, holder, &file);
            assert!(fault.to_string().contains("it is not a regular file"), "{fault}");
            fs::remove_file(&file).unwrap();
            fs::write(&file, whole).unwrap();
        }
    }
}

#[test]
fn a_directory_of_another_sharing_of_the_same_rows_does_not_fit() {
    let (out, rows) = (shared(40, 3), byte_rows(40, 3, 1));
    let other = tempfile::tempdir().unwrap();
    share_rows(&rows, other.path(), SEARCH, 3);
    let dir = server_dir(out.path(), Party::ALL[1]);
    for name in [component_file(1), SEARCH_FILE.into(), pair_key_file(Party::ALL[1]), FILE.into()] {
        let whole = fs::read(dir.join(&name)).unwrap();
        fs::copy(server_dir(other.path(), Party::ALL[1]).join(&name), dir.join(&name)).unwrap();
        only_fault(&dir, Some(Party::ALL[1]), &dir.join(&name));
        fs::write(dir.join(&name), whole).unwrap();
    }
}

#[test]
fn shares_that_are_damaged_on_disk_after_they_were_loaded_are_not_computed_with() {
    let rows = byte_rows(3_000, 4, 5);
    let mut cluster = Cluster::of(&mut common::Table(rows.clone()), 6, 0);
    let path = server_dir(cluster.dir.path(), Party::ALL[1]).join(SEARCH_FILE);
    let whole = fs::read(&path).unwrap();
    for block in 0..3 {
        let mut bytes = whole.clone();
        bytes[block * 5 * 64 * 64 + 7] ^= 1;
        fs::write(&path, bytes).unwrap();
        let counter = cluster.next_counter();
        let (_, requests) = cluster.client.search(&rows[0], true, counter, &mut cluster.rng).unwrap();
        let admitted =
            cluster.connections[1].receive(&cluster.stores[1], Kind::Search, &requests[1]).unwrap();
        let roadstead_trident::admission::Admitted::Search(query) = admitted else { panic!("a search") };
        let error = cluster.stores[1].search(&[query]).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { first, .. } if first == block + 1), "{error}");
    }
    fs::write(&path, whole).unwrap();
    cluster.reconnect();
    let counter = cluster.next_counter();
    let (search, requests) = cluster.client.search(&rows[7], true, counter, &mut cluster.rng).unwrap();
    let answers = cluster.ask(Kind::Search, &requests).unwrap();
    assert_eq!(search.finish(common::slices(&answers)).unwrap().nearest(1)[0].index, 7);
}

#[test]
fn verifying_says_how_far_it_is_until_all_bytes_were_read() {
    let out = shared(2_050, 4);
    for holder in holders() {
        let mut steps = Vec::new();
        let verified = verify(&directory(out.path(), holder), &mut |done, all| steps.push((done, all)));
        assert!(steps.is_sorted());
        assert_eq!(steps.last(), Some(&(verified.bytes, verified.bytes)));
        assert_eq!(verified.manifest.unwrap().party, holder);
    }
}

/// A server that guesses the rows can compute the shares of another, and so the digests of their blocks: it must not be
/// able to compare them with the root that it knows.
#[test]
fn roots_are_hidden_from_who_guesses_the_rows() {
    let out = tempfile::tempdir().unwrap();
    let rows = byte_rows(16, 2, 1);
    share_rows(&rows, out.path(), SEARCH, 2);
    let [first, second] = [0, 1].map(|at| server_dir(out.path(), Party::ALL[at]));
    let words = |bytes: Vec<u8>| common::elements(&bytes);
    let own = words(fs::read(first.join(SEARCH_FILE)).unwrap());
    let secret = |at: usize| {
        let (column, row) = (at / 16, &rows[at % 16]);
        let norm = row.iter().map(|value| value * value).sum();
        row.get(column).copied().unwrap_or(norm) as u32
    };
    let guess =
        own.iter().enumerate().flat_map(|(at, &share)| sub(add(share, share), secret(at)).to_le_bytes());
    let guess: Vec<u8> = guess.collect();
    assert!(
        guess == fs::read(second.join(SEARCH_FILE)).unwrap()
            && common::elements(&guess).iter().all(|&e| e < P)
    );
    let blocks = fs::read(second.join(FILE)).unwrap();
    let digest = blake3::hash(&guess);
    let (_, digests) = blocks.split_at(32);
    assert!(digests.chunks(32).any(|found| found == digest.as_bytes()), "the guess is right");

    let salts: HashSet<Vec<u8>> = holders()
        .map(|holder| fs::read(directory(out.path(), holder).join(FILE)).unwrap()[..32].to_vec())
        .into();
    assert_eq!(salts.len(), 4, "every directory has its own");
    let parsed = Manifest::parse(&fs::read(first.join(manifest::FILE)).unwrap()).unwrap();
    let root = |bytes: &[u8]| {
        let mut hasher = blake3::Hasher::new_derive_key("roadstead trident directory root v1");
        *hasher.update(bytes).finalize().as_bytes()
    };
    assert_eq!(root(&blocks), parsed.roots.servers[1].0, "the root is of these bytes");
    let without = [&[0; 32][..], digests].concat();
    assert!(root(digests) != parsed.roots.servers[1].0 && root(&without) != parsed.roots.servers[1].0);
}
