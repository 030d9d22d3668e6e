//! A server's directory, loaded, and the buffers of the passes over it.

use std::path::Path;
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::cut::{Cut, LEAST};
use super::search_shares::Shares;
use crate::{
    agreed::{
        integrity::{Contents, Directory, Progress},
        manifest::{Digest, Manifest},
        reading::read_manifest,
    },
    arithmetic::{
        dpf::{Evaluator, Role},
        kernels::Kernel,
        lines::{LINE, Line},
        mask::{PairKey, PairKeys},
        party::Party,
        selector::Walks,
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
    pub(super) components: [(Vec<Line>, Role); 2],
    pub(super) shares: Option<Shares>,
    kernel: Kernel,
    /// Bytes of a range at least.
    least: usize,
    scratch: Mutex<Vec<Scratch>>,
}

/// Buffers of one range of a pass.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) evaluator: Evaluator,
    pub(super) walks: Vec<Walks>,
    pub(super) weights: Vec<Vec<Line>>,
    pub(super) bits: Vec<u8>,
    pub(super) masks: Vec<Vec<u8>>,
    pub(super) lines: Vec<Line>,
    pub(super) bytes: Vec<u8>,
    pub(super) products: Vec<Vec<u32>>,
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
            least: LEAST,
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

    /// Has ranges of passes be of so many bytes, to compare.
    #[must_use]
    pub fn with_ranges(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// Into which ranges so many workers cut a pass over the components.
    pub(crate) fn cut_components(&self, workers: usize) -> Cut {
        let lines = self.components.iter().map(|(lines, _)| lines.len()).sum();
        self.cut(lines, workers)
    }

    /// The same for the search shares.
    pub(crate) fn cut_shares(&self, workers: usize) -> Cut {
        self.cut(self.manifest.search_lines(), workers)
    }

    fn cut(&self, lines: usize, workers: usize) -> Cut {
        Cut::new(self.manifest.rows, lines * LINE, self.least, workers)
    }

    pub(super) fn scratch(&self) -> Scratch {
        // Buffers hold nothing that a panic elsewhere could have left half done.
        self.scratch.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, scratch: Scratch) {
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
