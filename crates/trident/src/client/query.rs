//! The client's side without any network: three request bodies out of a question, and the answer out of three bodies.

use std::path::Path;
use std::sync::Arc;

use rand::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    agreed::{
        integrity::{Contents, Directory},
        manifest::{Digest, Element, Manifest, SharingId},
        reading::{StoreError, read_manifest},
        scales::Scales,
        wire,
    },
    arithmetic::{
        check::{self, Check, ROW_DIGEST, SALT},
        dpf::{self, Key, Role},
        field::{add, from_signed, mul, to_signed, uniform_nonzero},
        oblivious,
        party::Party,
        prg::Expander,
        quantise::{QuantiseError, QuantisedQuery, power},
        shamir,
    },
};

pub use super::verdict::AnswerError;

/// What a client holds of a sharing: its manifest, and the digest and the scale of every row.
#[derive(Debug)]
pub struct Collection {
    manifest: Manifest,
    digest: Digest,
    row_digests: Vec<u8>,
    scales: Option<Arc<Scales>>,
}

/// Why a question cannot be asked: the caller's fault.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum QueryError {
    /// No such row.
    #[error("there is no row {index}, the collection has rows 0 to {last}")]
    Index {
        /// Row asked for.
        index: usize,
        /// The last row.
        last: usize,
    },
    /// A query of another dimension.
    #[error("the query has {got} elements, rows have {want}")]
    Dimension {
        /// Elements of the query.
        got: usize,
        /// Elements of a row.
        want: usize,
    },
    /// A query that cannot be compared.
    #[error("the query cannot be used: {0}")]
    Quantise(#[from] QuantiseError),
    /// The collection has no search shares.
    #[error("this collection was shared for fetching only")]
    NoSearch,
}

impl Collection {
    /// Reads a client's directory, and compares every byte with what the owner wrote.
    ///
    /// # Errors
    /// When a file is missing or damaged, has another length than the manifest asks for, or is a server's.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let manifest = read_manifest(dir)?;
        if manifest.party.is_some() {
            return Err(StoreError::Party { path: dir.into(), holder: manifest.party, wanted: None });
        }
        let progress = &mut |_, _| {};
        let mut files = Directory::open(dir, &manifest, progress)?;
        let mut row_digests: Vec<u8> = files.room(Contents::RowDigests, manifest.rows * ROW_DIGEST)?;
        files.read(Contents::RowDigests, |bytes| row_digests.extend_from_slice(bytes))?;
        let scales = match manifest.search {
            true => Some(Arc::new(Scales::load(&mut files, dir, &manifest)?)),
            false => None,
        };
        Ok(Self { digest: manifest.digest(), manifest, row_digests, scales })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Asks for row `index`: what is needed to finish, and the bodies of [`wire::Kind::Fetch`] for servers 1, 2, 3.
    ///
    /// `counter` must be above every counter used on the three connections before; `expander` is that of their nonces.
    ///
    /// # Errors
    /// [`QueryError::Index`].
    pub fn fetch(
        &self,
        index: usize,
        counter: u64,
        expander: &Expander,
        rng: &mut impl CryptoRng,
    ) -> Result<(Fetch, [Body; 3]), QueryError> {
        self.check_index(index)?;
        let domain = self.manifest.domain();
        let pairs: [[Key; 2]; 3] = std::array::from_fn(|_| dpf::generate(domain, index, expander, rng));
        let bodies = Party::ALL.map(|party| {
            let mut body = body(counter, wire::fetch_len(&self.manifest));
            for (component, role) in party.components() {
                let [first, second] = &pairs[usize::from(component - 1)];
                body.extend_from_slice(if role == Role::First {
                    first.as_bytes()
                } else {
                    second.as_bytes()
                });
            }
            body
        });
        let digest = oblivious::pick(self.row_digests.as_chunks().0, index);
        let Manifest { sharing, element, .. } = self.manifest;
        Ok((
            Fetch { counter, index, digest, sharing, element, record_bytes: self.manifest.record_bytes() },
            bodies,
        ))
    }

    /// How rows and queries become integers for searches.
    ///
    /// # Errors
    /// [`QueryError::NoSearch`].
    pub fn scales(&self) -> Result<&Arc<Scales>, QueryError> {
        self.scales.as_ref().ok_or(QueryError::NoSearch)
    }

    /// How far the distance of row `index` to `query`, as a search finds it, can be from the true one.
    ///
    /// # Errors
    /// As [`Collection::search`], and [`QueryError::Index`].
    pub fn distance_error(&self, query: &[f32], index: usize) -> Result<f64, QueryError> {
        let (scales, query, _) = self.quantise(query)?;
        self.check_index(index)?;
        Ok(scales.error(query, index))
    }

    fn quantise(&self, query: &[f32]) -> Result<(&Arc<Scales>, QuantisedQuery, Integers), QueryError> {
        let scales = self.scales()?;
        if query.len() != self.manifest.dim {
            return Err(QueryError::Dimension { got: query.len(), want: self.manifest.dim });
        }
        let mut integers = Zeroizing::new(Vec::with_capacity(query.len()));
        let quantised = scales.quantisation().query(query, &mut integers)?;
        Ok((scales, quantised, integers))
    }

    pub(crate) fn check_index(&self, index: usize) -> Result<(), QueryError> {
        let last = self.manifest.rows - 1;
        if index > last { Err(QueryError::Index { index, last }) } else { Ok(()) }
    }

    /// Asks for the scores of `query`: what is needed to finish, and the bodies of [`wire::Kind::Search`] for servers
    /// 1, 2, 3. Unchecked is a third of the work and of the bytes, without integrity, and
    /// private only against servers that follow the protocol.
    ///
    /// In a collection of bytes the elements of a query are rounded to integers.
    ///
    /// `counter` must be above every counter used on the three connections before.
    ///
    /// # Errors
    /// When the collection cannot be searched, or the query has another dimension, is not finite or is too long.
    pub fn search(
        &self,
        query: &[f32],
        checked: bool,
        counter: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(Search, [Body; 3]), QueryError> {
        let (scales, query, integers) = self.quantise(query)?;
        let elements = integers.iter().map(|&value| from_signed(-2 * i64::from(value))).chain([1]);
        let vector: Zeroizing<Vec<u32>> = Zeroizing::new(elements.collect());

        let multipliers = checked.then(|| [uniform_nonzero(rng), uniform_nonzero(rng)]);
        let mut bodies = Party::ALL.map(|_| {
            let mut body = body(counter, wire::search_len(&self.manifest, checked));
            body.push(checked.into());
            body
        });
        for multiplier in [1].into_iter().chain(multipliers.into_iter().flatten()) {
            for &element in vector.iter() {
                let shares = shamir::share(mul(multiplier, element), rng);
                for (body, share) in bodies.iter_mut().zip(shares) {
                    body.extend_from_slice(&share.to_le_bytes());
                }
            }
        }
        Ok((Search { counter, multipliers, query, scales: Arc::clone(scales) }, bodies))
    }
}

/// A request to one server, zeroised when dropped: the three of a question add up to it.
pub type Body = Zeroizing<Vec<u8>>;

/// A body of `length` bytes that begins with its counter. It never grows, which would leave a copy behind.
pub(crate) fn body(counter: u64, length: usize) -> Body {
    let mut body = Zeroizing::new(Vec::with_capacity(length));
    body.extend_from_slice(&counter.to_le_bytes());
    body
}

/// The elements of a query.
type Integers = Zeroizing<Vec<i32>>;

/// The part of an answer behind its counter, once length and counter are right.
pub(crate) fn payload(party: Party, body: &[u8], counter: u64, want: usize) -> Result<&[u8], AnswerError> {
    let malformed = |error| AnswerError::Malformed { party, error };
    wire::exactly("answer", body, wire::COUNTER + want).map_err(malformed)?;
    let (got, payload) = wire::counter("answer", body).map_err(malformed)?;
    if got == counter { Ok(payload) } else { Err(AnswerError::Counter { party, got, want: counter }) }
}

/// A fetch that waits for its answers. Zeroised when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Fetch {
    counter: u64,
    index: usize,
    digest: [u8; ROW_DIGEST],
    #[zeroize(skip)]
    sharing: SharingId,
    #[zeroize(skip)]
    element: Element,
    record_bytes: usize,
}

/// A row as it was shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its bytes.
    pub bytes: Vec<u8>,
    pub(crate) element: Element,
}

impl Row {
    /// Its values.
    pub fn values(&self) -> Vec<f32> {
        self.element.decode(&self.bytes)
    }
}

impl Fetch {
    /// Puts the answers of servers 1, 2, 3 together and checks the row.
    ///
    /// # Errors
    /// A malformed answer, or a row that is not the one that was shared.
    pub fn finish(&self, answers: [&[u8]; 3]) -> Result<Row, AnswerError> {
        let mut record = vec![0; self.record_bytes];
        for (party, answer) in Party::ALL.into_iter().zip(answers) {
            for (byte, part) in
                record.iter_mut().zip(payload(party, answer, self.counter, self.record_bytes)?)
            {
                *byte ^= part;
            }
        }
        let (row, salt) = record.split_last_chunk::<SALT>().ok_or(Check::RowDigest)?;
        if check::row_digest(&self.sharing, self.index, salt, row) != self.digest {
            return Err(Check::RowDigest.into());
        }
        record.truncate(self.record_bytes - SALT);
        Ok(Row { bytes: record, element: self.element })
    }
}

/// A search that waits for its answers. Zeroised when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Search {
    counter: u64,
    multipliers: Option<[u32; 2]>,
    query: QuantisedQuery,
    #[zeroize(skip)]
    scales: Arc<Scales>,
}

impl Search {
    /// Puts the answers of servers 1, 2, 3 together and, when the search is checked, checks every score.
    ///
    /// # Errors
    /// A malformed answer, scores that do not agree with their multiples, or one that no row can have.
    pub fn finish(&self, answers: [&[u8]; 3]) -> Result<Scores, AnswerError> {
        let rows = self.scales.shifts().len();
        let count = rows * wire::vectors(self.multipliers.is_some());
        let mut parts: [Vec<u32>; 3] = Default::default();
        for ((party, answer), part) in Party::ALL.into_iter().zip(answers).zip(&mut parts) {
            let payload = payload(party, answer, self.counter, 4 * count)?;
            *part = wire::parse_elements(payload).map_err(|error| AnswerError::Malformed { party, error })?;
        }
        let [mut sums, second, third] = parts;
        for ((sum, second), third) in sums.iter_mut().zip(second).zip(third) {
            *sum = add(add(*sum, second), third);
        }
        if let Some([first, second]) = self.multipliers {
            let (scores, multiples) = sums.split_at(rows);
            let (firsts, seconds) = multiples.split_at(rows);
            check::multiples(scores, (first, firsts), (second, seconds))?;
        }
        sums.truncate(rows);
        let scores: Vec<i32> = sums.into_iter().map(to_signed).collect();
        let ranges: Vec<_> =
            (0..=u8::MAX).map(|shift| self.scales.quantisation().scores(self.query.squared, shift)).collect();
        check::possible(&scores, self.scales.shifts(), &ranges)?;
        Ok(Scores { scores, query: self.query, scales: Arc::clone(&self.scales) })
    }
}

/// The score of every row: its squared distance to the query without the query's squared norm, both as integers; see
/// [`quantise`](crate::arithmetic::quantise).
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    scores: Vec<i32>,
    query: QuantisedQuery,
    scales: Arc<Scales>,
}

/// A row near a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Its index.
    pub index: usize,
    /// Its Euclidean distance, as exact as [`Collection::distance_error`] says.
    pub distance: f64,
}

impl Scores {
    /// The scores, one a row, each in the units of its row.
    pub fn as_slice(&self) -> &[i32] {
        &self.scores
    }

    /// The `k` nearest rows, nearest first, the lower index first on a tie.
    pub fn nearest(&self, k: usize) -> Vec<Neighbour> {
        let keys = self.scores.iter().zip(self.scales.shifts());
        let keys: Vec<i64> =
            keys.map(|(&score, &shift)| ordered(f64::from(score) * power(shift.into()))).collect();
        let step = self.scales.quantisation().step();
        let distance = |score: f64| (score + self.query.squared).sqrt() * step;
        let nearest = oblivious::smallest(&keys, k).into_iter();
        nearest.map(|(key, index)| Neighbour { index, distance: distance(from_ordered(key)) }).collect()
    }
}

/// A number in the order of the integers: the bits of IEEE 754, and what they are below zero taken from there. Where
/// the number is one of at most 30 bits times a power of two, the low [`oblivious::PLACE`] bits are clear.
fn ordered(number: f64) -> i64 {
    let bits = number.to_bits().cast_signed();
    let sign = bits >> 63;
    (bits ^ (sign & i64::MAX)) - sign
}

fn from_ordered(key: i64) -> f64 {
    let sign = key >> 63;
    f64::from_bits(((key + sign) ^ (sign & i64::MAX)).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arithmetic::{dpf, selector},
        client::shared::SharedFetch,
    };

    /// What adds up to a question, or tells what it was about, does not outlive it in memory.
    #[test]
    fn what_a_client_knows_of_a_question_is_zeroised_when_dropped() {
        fn zeroised<T: ZeroizeOnDrop>() {}
        zeroised::<Body>();
        zeroised::<Fetch>();
        zeroised::<Search>();
        zeroised::<SharedFetch>();
        zeroised::<dpf::Key>();
        zeroised::<selector::Key>();
        zeroised::<chacha20::ChaCha20Rng>();
    }

    #[test]
    fn of_what_is_zeroised_the_secrets_are_not_left_out() {
        let mut fetch = Fetch {
            counter: 1,
            index: 2,
            digest: [3; ROW_DIGEST],
            sharing: SharingId([4; 16]),
            element: Element::U8,
            record_bytes: 5,
        };
        fetch.zeroize();
        assert_eq!((fetch.index, fetch.digest), (0, [0; ROW_DIGEST]));
        let manifest = Manifest::new(SharingId([4; 16]), 1, 1, Element::U8, true).unwrap();
        let mut search = Search {
            counter: 1,
            multipliers: Some([2, 3]),
            query: QuantisedQuery { squared: 4.0, moved: 5.0 },
            scales: Arc::new(Scales::parse(vec![0; Scales::file_len(&manifest)], &manifest).unwrap()),
        };
        search.zeroize();
        assert_eq!((search.multipliers, search.query.squared, search.query.moved), (None, 0.0, 0.0));
    }

    #[test]
    fn an_answer_to_another_request_or_of_another_length_is_told_with_both_numbers() {
        let (party, body) = (Party::ALL[1], [&7_u64.to_le_bytes()[..], &[1, 2]].concat());
        assert_eq!(payload(party, &body, 7, 2), Ok(&[1, 2][..]));
        for want in [0, 6, 8] {
            assert_eq!(payload(party, &body, want, 2), Err(AnswerError::Counter { party, got: 7, want }));
        }
        for more in [0, 1, 3] {
            let error = wire::BodyError::Length { what: "answer", got: 10, want: 8 + more };
            assert_eq!(payload(party, &body, 7, more), Err(AnswerError::Malformed { party, error }));
        }
    }

    #[test]
    fn numbers_and_their_integers_have_one_order() {
        let numbers = [f64::MIN, -1e9, -2.0, -1.5, -1.0, 0.0, 1.0, 1.5, 3e9, f64::MAX];
        assert!(numbers.map(ordered).is_sorted());
        assert_eq!(numbers.map(ordered).map(from_ordered), numbers);
    }

    /// A buffer that grew would leave what it held before behind.
    #[test]
    fn the_buffer_of_a_request_is_never_moved() {
        for length in [wire::COUNTER, 9, 300, 100_000] {
            let mut body = body(7, length);
            let place = body.as_ptr();
            body.resize(length, 1);
            assert_eq!((body.as_ptr(), body.len()), (place, length));
        }
    }

    /// What it held before would be left behind, as with a request.
    #[test]
    fn the_integers_of_a_query_never_need_more_room_than_they_have() {
        let manifest = Manifest::new(SharingId([4; 16]), 1, 1_000, Element::U8, true).unwrap();
        let scales = Scales::parse(vec![0; Scales::file_len(&manifest)], &manifest).map(Arc::new);
        let collection = Collection { digest: manifest.digest(), manifest, row_digests: Vec::new(), scales };
        let (_, _, integers) = collection.quantise(&[7.0; 1_000]).unwrap();
        assert_eq!((integers.len(), integers.capacity()), (1_000, 1_000));
    }

    #[test]
    fn rows_are_ordered_and_measured_in_the_units_of_their_own_shifts() {
        let manifest = Manifest::new(SharingId([4; 16]), 4, 1, Element::F32, true).unwrap();
        // Steps of two.
        let file = [&[7; 16][..], &(-1_i32).to_le_bytes(), &[0, 2, 1, 0]].concat();
        let scales = Arc::new(Scales::parse(file, &manifest).unwrap());
        let query = QuantisedQuery { squared: 16.0, moved: 0.0 };
        let scores = Scores { scores: vec![20, 5, -7, -16], query, scales };
        let nearest = [(3, 0.0), (2, 8_f64.sqrt()), (0, 12.0), (1, 12.0)];
        let nearest = nearest.map(|(index, distance)| Neighbour { index, distance });
        for k in 0..6 {
            assert_eq!(scores.nearest(k), nearest[..k.min(4)], "{k}");
        }
    }
}
