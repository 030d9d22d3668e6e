//! Admission, messages and directories: what is refused, and with which reason.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use proptest::prelude::*;

use roadstead_trident::{
    admission::{Admission, Admitted, Refused},
    data::{DataError, Rows},
    dpf::KeyError,
    field::P,
    fuzz,
    kernels::Kernel,
    manifest::{Digest, MAX_DIM, MAX_ROWS, Manifest, ManifestError},
    party::Party,
    query::Collection,
    share::{
        CLIENT_DIR, Options, SEARCH_FILE, ShareError, component_file, pair_key_file, server_dir, share,
        share_with,
    },
    store::{Store, StoreError},
    wire::{self, BodyError, COUNTER, Hello, Kind, MAX_TEXT, Refusal, Welcome},
};

use common::{Cluster, SEARCH, Table, byte_rows, rng, share_rows};

fn cluster() -> Cluster {
    Cluster::new(&byte_rows(150, 8, 1), 2)
}

/// Sends one message to the first server of a fresh connection and returns why it was refused.
fn refused(cluster: &mut Cluster, kind: Kind, body: &[u8]) -> Refused {
    cluster.reconnect();
    let refused = cluster.connections[0].receive(&cluster.stores[0], kind, body).unwrap_err();
    // Whatever it was, nothing is taken afterwards.
    let (_, requests) = cluster.client.fetch(0, 1_000, &cluster.expander, &mut cluster.rng).unwrap();
    let after = cluster.connections[0].receive(&cluster.stores[0], Kind::Fetch, &requests[0]).unwrap_err();
    assert_eq!(after, Refused::Order(Kind::Fetch));
    assert_eq!(Refusal::parse(&refused.refusal().encode()).unwrap().code, refused.code());
    refused
}

#[test]
fn malformed_requests_are_refused() {
    let mut cluster = cluster();
    let (_, fetch) = cluster.client.fetch(3, 1, &cluster.expander, &mut cluster.rng).unwrap();
    let (_, search) = cluster.client.search(&[1.0; 8], true, 1, &mut cluster.rng).unwrap();
    let (fetch, search) = (&fetch[0], &search[0]);
    assert_eq!(fetch.len(), wire::fetch_len(cluster.client.manifest()));
    assert_eq!(search.len(), wire::search_len(cluster.client.manifest(), true));

    for length in [0, 7, 8, fetch.len() - 1, fetch.len() + 1] {
        let mut body = fetch.clone();
        body.resize(length, 0);
        assert!(matches!(refused(&mut cluster, Kind::Fetch, &body), Refused::Body(BodyError::Length { .. })));
    }
    let mut stray = fetch.clone();
    stray[COUNTER + 32] |= 0x80;
    assert_eq!(refused(&mut cluster, Kind::Fetch, &stray), Refused::Key(KeyError::StrayBits));

    for length in [0, 8, 9, search.len() - 4, search.len() - 1, search.len() + 1] {
        let mut body = search.clone();
        body.resize(length, 0);
        assert!(matches!(
            refused(&mut cluster, Kind::Search, &body),
            Refused::Body(BodyError::Length { .. })
        ));
    }
    for (element, wrong) in [(0, P), (5, P + 1), (26, u32::MAX)] {
        let mut body = search.clone();
        body[COUNTER + 1 + 4 * element..][..4].copy_from_slice(&wrong.to_le_bytes());
        assert_eq!(
            refused(&mut cluster, Kind::Search, &body),
            Refused::Body(BodyError::Element { at: element })
        );
    }
    let mut flag = search.clone();
    flag[COUNTER] = 2;
    assert!(matches!(
        refused(&mut cluster, Kind::Search, &flag),
        Refused::Body(BodyError::Value { got: 2, .. })
    ));
    for kind in [Kind::Hello, Kind::Welcome, Kind::Nonces, Kind::Fetched, Kind::Searched, Kind::Refusal] {
        assert_eq!(refused(&mut cluster, kind, &[0; 48]), Refused::Order(kind));
    }
}

#[test]
fn counters_must_rise_and_are_consumed_by_malformed_requests_too() {
    let mut cluster = cluster();
    let body = |cluster: &mut Cluster, counter| {
        cluster.client.fetch(0, counter, &cluster.expander, &mut cluster.rng).unwrap().1[0].clone()
    };
    for (first, second) in [(1, 1), (5, 4), (u64::MAX, u64::MAX), (u64::MAX, 1)] {
        cluster.reconnect();
        for (counter, good) in [(first, true), (second, false)] {
            let request = body(&mut cluster, counter);
            let admitted = cluster.connections[0].receive(&cluster.stores[0], Kind::Fetch, &request);
            match admitted {
                Ok(Admitted::Fetch(_)) => assert!(good),
                Err(refused) => {
                    assert_eq!((refused, good), (Refused::Counter { got: second, last: first }, false))
                }
                other => panic!("{other:?}"),
            }
        }
    }
    for kind in [Kind::Fetch, Kind::Search, Kind::FetchShare] {
        cluster.reconnect();
        for (counter, good) in [(3, true), (3, false)] {
            let (client, expander, rng) = (&cluster.client, &cluster.expander, &mut cluster.rng);
            let [request, ..] = match kind {
                Kind::Fetch => client.fetch(0, counter, expander, rng).unwrap().1,
                Kind::Search => client.search(&[0.0; 8], false, counter, rng).unwrap().1,
                _ => client.fetch_shared(0, counter, expander, rng).unwrap().1,
            };
            let admitted = cluster.connections[0].receive(&cluster.stores[0], kind, &request);
            assert_eq!(admitted.is_ok(), good, "{kind:?}: {admitted:?}");
        }
    }
    let zero = body(&mut cluster, 0);
    assert_eq!(refused(&mut cluster, Kind::Fetch, &zero), Refused::Counter { got: 0, last: 0 });
    cluster.reconnect();
    for counter in [1, 2, 10, 1 << 50] {
        let request = body(&mut cluster, counter);
        assert!(cluster.connections[0].receive(&cluster.stores[0], Kind::Fetch, &request).is_ok());
    }
}

#[test]
fn hello_refuses_other_versions_servers_and_sharings_and_the_nonce_must_be_its_own() {
    let (cluster, other) = (cluster(), Cluster::new(&byte_rows(150, 8, 1), 3));
    let store = &cluster.stores[0];
    let good = Hello { version: wire::VERSION, party: Party::ALL[0], digest: store.digest() };
    let hello = |hello: Hello| Admission::new([7; 16]).receive(store, Kind::Hello, &hello.encode());

    assert_eq!(hello(Hello { version: 9, ..good }).unwrap_err(), Refused::Version(9));
    let error = hello(Hello { party: Party::ALL[2], ..good }).unwrap_err();
    assert_eq!(error, Refused::Party { wanted: Party::ALL[2], this: Party::ALL[0] });
    // The same data, shared twice: refused with both digests for people to compare.
    let theirs = other.client.digest();
    let error = hello(Hello { digest: theirs, ..good }).unwrap_err();
    assert_eq!(error, Refused::Manifest { theirs, ours: store.digest() });

    for place in 0..3 {
        let mut connection = Admission::new([7; 16]);
        let Ok(Admitted::Welcome(welcome)) = connection.receive(store, Kind::Hello, &good.encode()) else {
            panic!()
        };
        assert_eq!(Welcome::parse(&welcome).unwrap().nonce, [7; 16]);
        let mut nonces = [[8; 16]; 3];
        nonces[place] = [7; 16];
        let admitted = connection.receive(store, Kind::Nonces, &wire::encode_nonces(&nonces));
        match place {
            0 => assert!(matches!(admitted, Ok(Admitted::Ready))),
            _ => assert_eq!(admitted.unwrap_err(), Refused::Nonce(Party::ALL[0])),
        }
    }
    let early = Admission::new([7; 16]).receive(store, Kind::Fetch, &[0; 8]).unwrap_err();
    assert_eq!(early, Refused::Order(Kind::Fetch));
}

#[test]
fn a_collection_for_fetching_only_refuses_searches_and_takes_any_floats() {
    let dir = tempfile::tempdir().unwrap();
    let table = vec![vec![f32::NAN, f32::INFINITY], vec![f32::MAX, 1.5]];
    share_rows(&table, dir.path(), Options::default(), 4);
    let client = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
    assert!(client.search(&[0.0, 0.0], true, 1, &mut rng(5)).is_err());
    let stores = Party::ALL.map(|party| Store::open(&server_dir(dir.path(), party), party, 0).unwrap());
    let (mut connections, _) = common::connect(&client, &stores, &mut rng(6));
    let search = connections[0].receive(&stores[0], Kind::Search, &[0; 100]);
    assert_eq!(search.unwrap_err(), Refused::NoSearch);
}

#[test]
fn data_that_cannot_be_searched_is_refused_with_the_row() {
    let long = vec![vec![1.0; 6_000], vec![255.0; 6_000]];
    let not_finite = vec![vec![0.5, 1.0], vec![1.0, f32::NAN]];
    for table in [long, not_finite] {
        let dir = tempfile::tempdir().unwrap();
        let error = share_with(&mut Table(table), dir.path(), SEARCH, &mut rng(7), |_, _| {}).unwrap_err();
        assert!(matches!(error, ShareError::Row { row: 1, .. }), "{error}");
        // What was begun cannot be taken for a sharing.
        assert!(Collection::open(&dir.path().join(CLIENT_DIR)).is_err());
        assert!(Store::open(&server_dir(dir.path(), Party::ALL[0]), Party::ALL[0], 0).is_err());
    }
}

#[test]
fn shapes_beyond_the_limits_are_refused_before_rows_are_read() {
    /// Has a shape, and no rows to go with it.
    struct Shape(usize, usize);
    impl Rows for Shape {
        fn rows(&self) -> usize {
            self.0
        }
        fn dim(&self) -> usize {
            self.1
        }
        fn read(&mut self, _: usize, _: &mut [f32]) -> Result<(), DataError> {
            panic!("read although {} x {} is refused", self.0, self.1)
        }
    }
    for (rows, dim) in [(0, 1), (1, 0), (MAX_ROWS + 1, 1), (1, MAX_DIM + 1), (usize::MAX, usize::MAX)] {
        let dir = tempfile::tempdir().unwrap();
        let error = share(&mut Shape(rows, dim), dir.path(), SEARCH, |_, _| {}).unwrap_err();
        assert!(matches!(error, ShareError::Manifest(ManifestError::Range { .. })), "{error}");
    }
}

#[test]
fn a_sharing_is_replaced_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table(byte_rows(3_000, 4, 8));
    let mut progress = Vec::new();
    let first = share(&mut table, dir.path(), SEARCH, |done, all| progress.push((done, all))).unwrap();
    assert_eq!(progress, [(1_024, 3_000), (2_048, 3_000), (3_000, 3_000)]);
    let again = share(&mut table, dir.path(), SEARCH, |_, _| {}).unwrap_err();
    assert!(matches!(again, ShareError::Exists(at) if at == server_dir(dir.path(), Party::ALL[0])));
    assert_eq!(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap().digest(), first.digest());
    let fetch_only = Options { replace: true, ..Options::default() };
    let second = share(&mut table, dir.path(), fetch_only, |_, _| {}).unwrap();
    assert_ne!(first.digest(), second.digest());
    assert!(!server_dir(dir.path(), Party::ALL[0]).join(SEARCH_FILE).exists());
}

#[test]
fn a_sharing_that_breaks_off_leaves_what_was_there_and_nothing_else() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows = byte_rows(2_000, 4, 8);
    let first = share(&mut Table(rows.clone()), dir.path(), SEARCH, |_, _| {}).unwrap();
    let mut broken = rows;
    broken[1_999][0] = f32::NAN;
    for out in [dir.path(), empty.path()] {
        let replace = Options { replace: true, ..SEARCH };
        let error = share(&mut Table(broken.clone()), out, replace, |_, _| {}).unwrap_err();
        assert!(matches!(error, ShareError::Row { row: 1_999, .. }), "{error}");
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    assert_eq!(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap().digest(), first.digest());
    for party in Party::ALL {
        let store = Store::open(&server_dir(dir.path(), party), party, 0).unwrap();
        assert_eq!(store.digest(), first.digest());
    }
}

#[test]
fn what_a_sharing_that_was_killed_has_left_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    for holder in ["server-1", "client"] {
        let left = dir.path().join("unfinished").join(holder);
        fs::create_dir_all(&left).unwrap();
        for name in ["manifest.json", "blocks.bin", "component-2.bin", "digests.bin"] {
            fs::write(left.join(name), "cut off").unwrap();
        }
    }
    let manifest = share(&mut Table(byte_rows(10, 4, 8)), dir.path(), SEARCH, |_, _| {}).unwrap();
    assert_eq!(Collection::open(&dir.path().join(CLIENT_DIR)).unwrap().digest(), manifest.digest());
    assert!(Store::open(&server_dir(dir.path(), Party::ALL[0]), Party::ALL[0], 0).is_ok());
    assert!(!dir.path().join("unfinished").exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_and_no_directory_holds_what_belongs_elsewhere() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = cluster();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut names = Vec::new();
    for dir in fs::read_dir(cluster.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        assert_eq!(mode(&dir), 0o700);
        for file in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            assert_eq!(mode(&file), 0o600);
            names.push(file.strip_prefix(cluster.dir.path()).unwrap().display().to_string());
        }
    }
    names.sort();
    let mut expected: Vec<String> = ["blocks.bin", "digests.bin", "manifest.json", "scales.bin"]
        .iter()
        .map(|name| format!("client/{name}"))
        .collect();
    for (server, components, pairs) in
        [(1, [2, 3], ["12", "31"]), (2, [1, 3], ["12", "23"]), (3, [1, 2], ["23", "31"])]
    {
        expected.extend(components.map(|component| format!("server-{server}/component-{component}.bin")));
        expected.extend(pairs.map(|pair| format!("server-{server}/pair-{pair}.key")));
        expected.extend(
            ["blocks.bin", "manifest.json", "search.bin"].map(|name| format!("server-{server}/{name}")),
        );
    }
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn a_store_checks_its_files_against_the_manifest() {
    let cluster = cluster();
    let [one, two, _] = Party::ALL;
    let dir = server_dir(cluster.dir.path(), one);
    assert!(matches!(Store::open(&dir, two, 0), Err(StoreError::Party { .. })));
    assert!(matches!(
        Store::open(&cluster.dir.path().join(CLIENT_DIR), one, 0),
        Err(StoreError::Party { holder: None, wanted: Some(wanted), .. }) if wanted == one
    ));
    let refused = Collection::open(&dir).err();
    assert!(
        matches!(refused, Some(StoreError::Party { holder: Some(holder), wanted: None, .. }) if holder == one)
    );
    for name in [
        component_file(2),
        component_file(3),
        SEARCH_FILE.into(),
        pair_key_file(one),
        pair_key_file(one.previous()),
    ] {
        let path = dir.join(name);
        let bytes = fs::read(&path).unwrap();
        for wrong in [&bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat(), &[]] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(Store::open(&dir, one, u64::MAX), Err(StoreError::Length { .. })));
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(Store::open(&dir, one, u64::MAX), Err(StoreError::File(_))));
        fs::write(&path, bytes).unwrap();
    }
    assert!(Store::open(&dir, one, 0).is_ok());
}

/// The digest of such a file may be right: the owner wrote it.
#[test]
fn search_shares_that_are_no_field_elements_are_refused() {
    let cluster = cluster();
    let dir = server_dir(cluster.dir.path(), Party::ALL[0]);
    let manifest = Manifest::parse(&fs::read(dir.join("manifest.json")).unwrap()).unwrap();
    let mut search = fs::read(dir.join(SEARCH_FILE)).unwrap();
    let mut blocks = fs::read(dir.join("blocks.bin")).unwrap();
    let was = blake3::hash(&search);
    search[..4].copy_from_slice(&P.to_le_bytes());
    let at = blocks.chunks(32).position(|digest| digest == was.as_bytes()).unwrap();
    blocks[32 * at..][..32].copy_from_slice(blake3::hash(&search).as_bytes());
    let mut roots = manifest.roots;
    let root =
        blake3::Hasher::new_derive_key("roadstead trident directory root v1").update(&blocks).finalize();
    roots.servers[0] = Digest(root.into());
    fs::write(dir.join(SEARCH_FILE), search).unwrap();
    fs::write(dir.join("blocks.bin"), blocks).unwrap();
    fs::write(dir.join("manifest.json"), manifest.with_roots(roots).to_json().unwrap()).unwrap();
    for limit in [0, u64::MAX] {
        assert!(matches!(Store::open(&dir, Party::ALL[0], limit), Err(StoreError::Element { .. })));
    }
}

#[test]
fn the_memory_limit_decides_where_search_shares_are() {
    let cluster = cluster();
    let (dir, party) = (server_dir(cluster.dir.path(), Party::ALL[0]), Party::ALL[0]);
    let bytes = fs::metadata(dir.join(SEARCH_FILE)).unwrap().len();
    for (limit, in_memory) in [(bytes - 1, false), (bytes, true), (bytes + 1, true)] {
        let store = Store::open(&dir, party, limit).unwrap();
        assert_eq!((store.search_in_memory(), store.kernel()), (Some(in_memory), Kernel::best()));
    }
}

#[test]
fn refusals_are_bounded() {
    for (length, kept) in [(0, 0), (MAX_TEXT, MAX_TEXT), (MAX_TEXT + 1, MAX_TEXT)] {
        let refusal = Refusal { counter: 3, code: 4, text: "x".repeat(length) };
        assert_eq!(Refusal::parse(&refusal.encode()).unwrap().text.len(), kept);
    }
    // A cut falls between characters.
    let wide = Refusal { counter: 0, code: 1, text: "é".repeat(MAX_TEXT) }.encode();
    assert!(Refusal::parse(&wide).is_ok());
    assert_eq!(
        Refusal::parse(&[0; 11 + MAX_TEXT]),
        Err(BodyError::Length { what: "text of a refusal", got: MAX_TEXT + 1, want: MAX_TEXT })
    );
    assert_eq!(Refusal::parse(&[255; 20]), Err(BodyError::Text));
    for forged in ["two\nlines", "\x1b[2Ja cleared screen", "\u{9b}31m", "\0", "\r", "\x7f", "\u{2028}"] {
        let refusal = Refusal { counter: 1, code: 1, text: forged.into() };
        assert_eq!(Refusal::parse(&refusal.encode()), Err(BodyError::Text), "{forged:?}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let mut cluster = cluster();
    let key = format!("{:?}", cluster.stores[0].keys());
    assert_eq!(key, "PairKeys { next: PairKey { .. }, previous: PairKey { .. } }");
    let (_, requests) = cluster.client.fetch(0, 1, &cluster.expander, &mut cluster.rng).unwrap();
    let query = cluster.connections[0].receive(&cluster.stores[0], Kind::Fetch, &requests[0]).unwrap();
    assert_eq!(
        format!("{query:?}"),
        "Fetch(FetchQuery { counter: 1, keys: [Key { .. }, Key { .. }], expander: Expander { .. }, masks: Masks { .. } })"
    );
    let (_, requests) = cluster.client.search(&[1.0; 8], true, 2, &mut cluster.rng).unwrap();
    let query = cluster.connections[0].receive(&cluster.stores[0], Kind::Search, &requests[0]).unwrap();
    assert_eq!(format!("{query:?}"), "Search(SearchQuery { counter: 2, checked: true, .. })");
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::keys(&data);
        fuzz::manifest(&data);
        fuzz::messages(&data);
    }

    #[test]
    fn bodies_survive_the_wire(version: u16, party in 1u8..=3, digest: [u8; 32], nonces: [[u8; 16]; 3], counter: u64, code: u16, text in "[ -~À-ɏ]{0,100}") {
        let (party, digest) = (Party::new(party).unwrap(), roadstead_trident::manifest::Digest(digest));
        let hello = Hello { version, party, digest };
        prop_assert_eq!(Hello::parse(&hello.encode()), Ok(hello));
        let welcome = Welcome { version, party, digest, nonce: nonces[0] };
        prop_assert_eq!(Welcome::parse(&welcome.encode()), Ok(welcome));
        prop_assert_eq!(wire::parse_nonces(&wire::encode_nonces(&nonces)), Ok(nonces));
        let refusal = Refusal { counter, code, text };
        prop_assert_eq!(Refusal::parse(&refusal.encode()), Ok(refusal));
    }

    #[test]
    fn any_message_in_any_order_is_admitted_or_refused(messages in prop::collection::vec((1u8..=8, prop::collection::vec(any::<u8>(), 0..80)), 0..6)) {
        thread_local!(static CLUSTER: Cluster = cluster());
        CLUSTER.with(|cluster| {
            let mut connection = Admission::new([7; 16]);
            for (kind, body) in &messages {
                let _ = connection.receive(&cluster.stores[0], Kind::try_from(*kind).unwrap(), body);
            }
        });
    }
}
