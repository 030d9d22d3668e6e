//! A server's directory, loaded, and the two passes over it: many requests in one go over the rows.

use std::path::Path;
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::questions::{FetchQuery, SearchQuery, SharedQuery};
use super::search_shares::Shares;
use crate::{
    agreed::{
        integrity::{self, Contents, Directory, Progress},
        manifest::{Digest, Manifest},
        reading::read_manifest,
        wire::{self, COUNTER},
    },
    arithmetic::{
        dpf::{Evaluator, Role},
        field::mul,
        kernels::{self, Kernel},
        lines::{BLOCK, COLUMN, LINE, Line},
        mask::{PairKey, PairKeys},
        party::Party,
        selector::{Expansion, PAYLOAD, ROWS_PER_RUN, Walks},
    },
};

pub use crate::agreed::reading::{StoreError, holder_name};

/// One server's part of a sharing. All methods take `&self` and may be called from several threads at once.
pub struct Store {
    manifest: Manifest,
    digest: Digest,
    party: Party,
    keys: PairKeys,
    /// With the role that this server has in the selection of each.
    components: [(Vec<Line>, Role); 2],
    shares: Option<Shares>,
    kernel: Kernel,
    scratch: Mutex<Vec<Scratch>>,
}

/// Buffers of one pass.
#[derive(Default)]
struct Scratch {
    evaluator: Evaluator,
    walks: Vec<Walks>,
    weights: Vec<Vec<Line>>,
    bits: Vec<u8>,
    masks: Vec<Vec<u8>>,
    sums: Vec<Vec<[u8; COLUMN]>>,
    lines: Vec<Line>,
    bytes: Vec<u8>,
    products: Vec<Vec<u32>>,
}

impl Scratch {
    /// What the buffers hold that grow with the collection.
    fn bytes(&self) -> usize {
        let masks: usize = self.masks.iter().map(Vec::capacity).sum();
        masks + self.bits.capacity() + self.bytes.capacity() + LINE * self.lines.capacity()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("manifest", &self.manifest)
            .field("kernel", &self.kernel)
            .finish_non_exhaustive()
    }
}

/// Blocks of search shares that a pass takes at a time: what one digest covers, and few enough for their products to
/// stay in the second-level cache until they are masked and written.
const BLOCKS: usize = integrity::ROWS / BLOCK;
/// Blocks of search shares in a run of a selector.
const BLOCKS_PER_RUN: usize = ROWS_PER_RUN / BLOCK;
const _: () = assert!(BLOCKS_PER_RUN.is_multiple_of(BLOCKS));

/// Bytes that buffers may keep from one pass to the next.
const KEPT: usize = 32 << 20;

impl Store {
    /// Loads the directory of `party`, and compares every byte with what the owner wrote. Search shares of up to
    /// `search_memory_limit` bytes are kept in memory, larger ones are read from their file during each pass, and
    /// compared again.
    ///
    /// # Errors
    /// When a file is missing or damaged, has another length than the manifest asks for, or belongs to another server.
    pub fn open(dir: &Path, party: Party, search_memory_limit: u64) -> Result<Self, StoreError> {
        Self::open_with(dir, party, search_memory_limit, &mut |_, _| {})
    }

    /// [`open`](Self::open) that tells how far it is.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        dir: &Path,
        party: Party,
        search_memory_limit: u64,
        progress: Progress<'_>,
    ) -> Result<Self, StoreError> {
        let manifest = read_manifest(dir)?;
        if manifest.party != Some(party) {
            return Err(StoreError::Party { path: dir.into(), holder: manifest.party, wanted: Some(party) });
        }
        let mut files = Directory::open(dir, &manifest, progress)?;
        let mut component = |(number, role)| {
            files.lines(Contents::Component(number), manifest.component_lines()).map(|lines| (lines, role))
        };
        let [first, second] = party.components();
        let components = [component(first)?, component(second)?];
        let keys = PairKeys {
            next: read_key(&mut files, party)?,
            previous: read_key(&mut files, party.previous())?,
        };
        let shares = match manifest.search {
            true => Some(Shares::open(files, dir, &manifest, search_memory_limit)?),
            false => None,
        };
        let digest = manifest.digest();
        Ok(Self {
            manifest,
            digest,
            party,
            keys,
            components,
            shares,
            kernel: Kernel::best(),
            scratch: Mutex::default(),
        })
    }

    /// Forces a kernel.
    ///
    /// # Panics
    /// On the first request when the machine cannot run it; see [`Kernel::available`].
    #[must_use]
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { kernel, ..self }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Which server this is.
    pub fn party(&self) -> Party {
        self.party
    }

    /// The keys that it shares with the others.
    pub fn keys(&self) -> &PairKeys {
        &self.keys
    }

    /// The version of the inner loops that answers are computed with.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Whether search shares are in memory; `None` when there are none.
    pub fn search_in_memory(&self) -> Option<bool> {
        self.shares.as_ref().map(|shares| matches!(shares, Shares::Memory(_)))
    }

    /// Answers fetches in one pass over the components: for each the body of a [`wire::Kind::Fetched`].
    pub fn fetch(&self, queries: &[FetchQuery]) -> Vec<Vec<u8>> {
        let mut scratch = self.scratch();
        let Scratch { evaluator, bits, masks, sums, .. } = &mut scratch;
        let width = self.manifest.record_width();
        masks.resize_with(masks.len().max(queries.len()), Vec::new);
        sums.clear();
        sums.resize(queries.len(), vec![[0; COLUMN]; width]);
        for (at, (component, role)) in self.components.iter().enumerate() {
            for (query, masks) in queries.iter().zip(masks.iter_mut()) {
                evaluator.expand(&query.expander, self.manifest.domain(), *role, &query.keys[at], bits);
                kernels::spread(bits, component.len() / width, masks);
            }
            let masks: Vec<&[u8]> = masks[..queries.len()].iter().map(Vec::as_slice).collect();
            let mut sums: Vec<&mut [[u8; COLUMN]]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
            kernels::select(self.kernel, component, width, &masks, &mut sums);
        }
        let answer = |(query, sum): (&FetchQuery, &Vec<[u8; COLUMN]>)| {
            let mut body = Vec::with_capacity(wire::fetched_len(&self.manifest));
            body.extend_from_slice(&query.counter.to_le_bytes());
            body.extend_from_slice(&sum.as_flattened()[..self.manifest.record_bytes()]);
            query.masks.xor(query.counter, &mut body[COUNTER..]);
            body
        };
        let answers = queries.iter().zip(sums.iter()).map(answer).collect();
        self.give_back(scratch);
        answers
    }

    /// Answers searches in one pass over the search shares: for each the body of a [`wire::Kind::Searched`], which has
    /// 4 bytes a row and vector.
    ///
    /// # Errors
    /// When the shares are in a file that can no longer be read. A store without search shares admits no search.
    pub fn search(&self, queries: &[SearchQuery]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut bodies: Vec<Vec<u8>> = queries.iter().map(|query| self.empty_answer(query)).collect();
        let Some(shares) = &self.shares else { return Ok(bodies) };
        // The server's coefficient goes into the vectors once instead of into every product.
        let coefficient = self.party.coefficient();
        let scaled = |vector: &Vec<u32>| vector.iter().map(|&element| mul(coefficient, element)).collect();
        let vectors: Vec<Vec<u32>> = queries.iter().flat_map(|query| &query.vectors).map(scaled).collect();
        let vectors: Vec<&[u32]> = vectors.iter().map(Vec::as_slice).collect();

        let mut scratch = self.scratch();
        let Scratch { lines, bytes, products, .. } = &mut scratch;
        products.resize_with(products.len().max(vectors.len()), Vec::new);
        let width = self.manifest.search_width();
        let step = BLOCKS * width;
        for start in (0..self.manifest.search_lines()).step_by(step) {
            let length = step.min(self.manifest.search_lines() - start);
            let lines = shares.run(start, length, lines, bytes)?;
            products.iter_mut().for_each(|products| products.resize(length / width * BLOCK, 0));
            let mut places: Vec<&mut [u32]> =
                products[..vectors.len()].iter_mut().map(Vec::as_mut_slice).collect();
            kernels::scan(self.kernel, lines, width, &vectors, &mut places);
            self.write_products(start / width * BLOCK, queries, &mut places, &mut bodies);
        }
        self.give_back(scratch);
        Ok(bodies)
    }

    /// The sums of fetches whose results stay shared, in one pass over the search shares: for each the sums of the rows
    /// with the first, second and third element of this server's share of the selector, `dim` elements each. They are
    /// for [`reshare`](crate::agreed::reshare::reshare) and must not leave the server otherwise.
    ///
    /// # Errors
    /// As [`Store::search`].
    pub fn combine<'a>(
        &self,
        queries: impl IntoIterator<Item = &'a SharedQuery>,
    ) -> Result<Vec<Vec<u32>>, StoreError> {
        let (dim, domain) = (self.manifest.dim, self.manifest.selector_domain());
        let queries: Vec<&SharedQuery> = queries.into_iter().collect();
        let mut sums = vec![vec![0; PAYLOAD * dim]; queries.len()];
        let Some(shares) = &self.shares else { return Ok(sums) };
        let mut scratch = self.scratch();
        let Scratch { walks, weights, lines, bytes, .. } = &mut scratch;
        walks.resize_with(walks.len().max(queries.len()), Walks::default);
        weights.resize_with(weights.len().max(queries.len()), Vec::new);
        let selector = |(query, walks): (&'a SharedQuery, _)| {
            Expansion::new(&query.expander, domain, self.party, &query.keys, walks)
        };
        let mut selectors: Vec<Expansion<'_>> = queries.into_iter().zip(walks).map(selector).collect();
        let mut places: Vec<&mut [u32]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
        let width = self.manifest.search_width();
        let blocks = self.manifest.search_lines() / width;
        for first in (0..blocks).step_by(BLOCKS) {
            let in_run = first % BLOCKS_PER_RUN;
            if in_run == 0 {
                let weights = weights.iter_mut();
                selectors.iter_mut().zip(weights).for_each(|(selector, weights)| selector.next_run(weights));
            }
            let count = BLOCKS.min(blocks - first);
            let lines = shares.run(first * width, count * width, lines, bytes)?;
            let weights: Vec<&[Line]> = weights[..selectors.len()]
                .iter()
                .map(|weights| &weights[PAYLOAD * in_run..PAYLOAD * (in_run + count)])
                .collect();
            kernels::combine(self.kernel, lines, width, dim, &weights, &mut places);
        }
        self.give_back(scratch);
        Ok(sums)
    }

    fn empty_answer(&self, query: &SearchQuery) -> Vec<u8> {
        let mut body = vec![0; COUNTER + 4 * query.vectors.len() * self.manifest.rows];
        body[..COUNTER].copy_from_slice(&query.counter.to_le_bytes());
        body
    }

    /// Masks the products of rows `first..` and puts them where they belong in the answers.
    fn write_products(
        &self,
        first: usize,
        queries: &[SearchQuery],
        products: &mut [&mut [u32]],
        bodies: &mut [Vec<u8>],
    ) {
        let rows = self.manifest.rows;
        let mut products = products.iter_mut();
        for (query, body) in queries.iter().zip(bodies) {
            for (vector, products) in (0..query.vectors.len()).zip(&mut products) {
                // The last block is filled up with rows that do not exist.
                let count = products.len().min(rows - first);
                let products = &mut products[..count];
                let place = vector * rows + first;
                query.masks.add(query.counter, place as u64, products);
                let bytes = body[COUNTER + 4 * place..][..4 * count].as_chunks_mut().0;
                for (bytes, product) in bytes.iter_mut().zip(products.iter()) {
                    *bytes = product.to_le_bytes();
                }
            }
        }
    }

    fn scratch(&self) -> Scratch {
        // Buffers hold nothing that a panic elsewhere could have left half done.
        self.scratch.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop().unwrap_or_default()
    }

    fn give_back(&self, scratch: Scratch) {
        let mut pool = self.scratch.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if pool.iter().map(Scratch::bytes).sum::<usize>() + scratch.bytes() <= KEPT {
            pool.push(scratch);
        }
    }
}

fn read_key(files: &mut Directory<'_>, lower: Party) -> Result<PairKey, StoreError> {
    let mut key = Zeroizing::new(Vec::with_capacity(PairKey::BYTES));
    files.read(Contents::PairKey(lower), |bytes| key.extend_from_slice(bytes))?;
    let mut bytes = Zeroizing::new([0; PairKey::BYTES]);
    bytes.copy_from_slice(&key);
    Ok(PairKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::{
        data::Generated,
        share::{self, server_dir},
    };

    #[test]
    fn buffers_are_kept_for_the_next_pass_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        share::share(&mut Generated::new(5, 1), dir.path(), share::Options::default(), |_, _| {}).unwrap();
        let store = Store::open(&server_dir(dir.path(), Party::ALL[0]), Party::ALL[0], 0).unwrap();
        let kept = || store.scratch.lock().unwrap().iter().map(Scratch::bytes).collect::<Vec<_>>();
        let (half, rest) = (KEPT / 2 + 1, KEPT / 2 - 1);
        let of = |bytes| Scratch { bytes: Vec::with_capacity(bytes), ..Scratch::default() };
        store.give_back(of(KEPT + 1));
        assert!(kept().is_empty(), "one pass alone took more");
        store.give_back(of(half));
        store.give_back(of(half));
        assert_eq!(kept(), [half], "two together are more");
        store.give_back(of(rest));
        assert_eq!(kept(), [half, rest], "together they are as much as may be");
        assert_eq!(store.scratch().bytes(), rest, "they are used again");
    }

    #[test]
    fn every_pass_gives_its_buffers_back() {
        let dir = tempfile::tempdir().unwrap();
        let options = share::Options { search: true, ..share::Options::default() };
        share::share(&mut Generated::new(5, 1), dir.path(), options, |_, _| {}).unwrap();
        let store = Store::open(&server_dir(dir.path(), Party::ALL[0]), Party::ALL[0], 0).unwrap();
        let kept = || store.scratch.lock().unwrap().len();
        assert!(store.fetch(&[]).is_empty() && kept() == 1);
        assert!(store.search(&[]).unwrap().is_empty() && kept() == 1);
        assert!(store.combine([]).unwrap().is_empty() && kept() == 1);
        drop(store.scratch());
        assert!(store.search(&[]).unwrap().is_empty() && kept() == 1, "the first had none to use");
        drop(store.scratch());
        assert!(store.combine([]).unwrap().is_empty() && kept() == 1, "the first had none to use");
    }

    #[test]
    fn what_grows_with_the_collection_is_counted() {
        let scratch = Scratch {
            bits: Vec::with_capacity(3),
            masks: vec![Vec::with_capacity(5), Vec::with_capacity(7)],
            lines: Vec::with_capacity(11),
            bytes: Vec::with_capacity(13),
            ..Scratch::default()
        };
        assert_eq!(scratch.bytes(), 3 + 5 + 7 + 11 * LINE + 13);
    }
}
