//! However many workers cut a pass, what its ranges give together is what one range gives.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::{
    agreed::wire::{Hello, Kind, VERSION},
    arithmetic::{party::Party, prg::Expander},
    client::query::{Body, Collection},
    owner::{
        data::{DataError, Rows},
        share::{CLIENT_DIR, Options, server_dir, share_with},
    },
    server::{
        admission::{Admission, Admitted},
        answers::{Answers, Reply},
        cut::Cut,
    },
};

const DIM: usize = 3;

/// Rows of bytes, or of floats.
struct Table {
    rows: usize,
    floats: bool,
}

impl Rows for Table {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        let scale = if self.floats { 0.37 } else { 1.0 };
        for (at, value) in out.iter_mut().enumerate() {
            *value = ((first * DIM + at) * 31 % 251) as f32 * scale;
        }
        Ok(())
    }
}

/// What a client asks, as one server has admitted it.
struct Asked {
    store: Store,
    fetches: Vec<FetchQuery>,
    searches: Vec<SearchQuery>,
    shared: Vec<SharedQuery>,
}

impl Asked {
    /// Two questions of each kind.
    fn new(table: &mut Table, party: Party, on_disk: bool, seed: u64) -> Self {
        let (dir, mut random) = (tempfile::tempdir().unwrap(), ChaCha20Rng::seed_from_u64(seed));
        let options = Options { search: true, ..Options::default() };
        share_with(table, dir.path(), options, &mut random, |_, _| {}).unwrap();
        let collection = Collection::open(&dir.path().join(CLIENT_DIR)).unwrap();
        let limit = if on_disk { 0 } else { u64::MAX };
        let store = Store::open(&server_dir(dir.path(), party), party, limit).unwrap();
        let mut nonces = [[0; 16]; 3];
        nonces.iter_mut().for_each(|nonce| random.fill_bytes(nonce));
        let mut connection = Admission::new(nonces[party.index()]);
        let hello = Hello { version: VERSION, party, digest: collection.digest() };
        connection.receive(&store, Kind::Hello, &hello.encode()).unwrap();
        connection.receive(&store, Kind::Nonces, &wire::encode_nonces(&nonces)).unwrap();
        let expander = Expander::new(&collection.digest(), &nonces);
        let mut asked = Self { store, fetches: Vec::new(), searches: Vec::new(), shared: Vec::new() };
        let mut admit = |kind, bodies: [Body; 3]| match connection
            .receive(&asked.store, kind, &bodies[party.index()])
            .unwrap()
        {
            Admitted::Fetch(query) => asked.fetches.push(query),
            Admitted::Search(query) => asked.searches.push(query),
            Admitted::FetchShare(query) => asked.shared.push(query),
            other => panic!("{other:?} is no request"),
        };
        for counter in [1, 4] {
            let index = random.next_u32() as usize % table.rows;
            admit(Kind::Fetch, collection.fetch(index, counter, &expander, &mut random).unwrap().1);
            let checked = counter == 1;
            let search = collection.search(&[7.0; DIM], checked, counter + 1, &mut random).unwrap();
            admit(Kind::Search, search.1);
            let shared = collection.fetch_shared(index, counter + 2, &expander, &mut random).unwrap();
            admit(Kind::FetchShare, shared.1);
        }
        asked
    }
}

/// What each range gives, the last one first, in the order of the ranges.
fn of_all<T>(cut: Cut, part: impl Fn(Range<usize>) -> T) -> Vec<T> {
    let mut parts: Vec<T> = (0..cut.count()).rev().map(|number| part(cut.range(number))).collect();
    parts.reverse();
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_the_ranges_give_together_is_what_one_gives(
        rows in 1_usize..5_500,
        workers in 1_usize..6,
        floats: bool,
        on_disk: bool,
        party in 0_usize..3,
        seed: u64,
    ) {
        let asked = Asked::new(&mut Table { rows, floats }, Party::ALL[party], on_disk, seed);
        let (store, cut) = (asked.store.with_ranges(1), Cut::new(rows, rows, 1, workers));
        prop_assert_eq!((store.cut_components(workers), store.cut_shares(workers)), (cut, cut));
        prop_assert_eq!(cut.count() > 1, workers > 1 && rows > 1_024);

        let parts = of_all(cut, |range| store.fetch_rows(&asked.fetches, range));
        prop_assert_eq!(store.fetched(&asked.fetches, parts), store.fetch(&asked.fetches));

        let parts = of_all(cut, |range| store.combine_rows(&asked.shared, range).unwrap());
        prop_assert_eq!(added(parts), store.combine(&asked.shared).unwrap());

        let parts = of_all(cut, |range| store.search_rows(&asked.searches, range).unwrap());
        let whole = store.search(&asked.searches).unwrap();
        for (at, (query, whole)) in asked.searches.iter().zip(whole).enumerate() {
            let pieces = parts.iter().map(|part| part[at].clone()).collect();
            let allowance = Answers::new(1 << 30).reserve(whole.len(), || panic!("there is room")).unwrap();
            let reply = Reply::woven(Kind::Searched, pieces, query.vectors.len(), allowance);
            prop_assert_eq!((reply.len(), reply.body.concat()), (whole.len(), whole));
        }
    }
}
