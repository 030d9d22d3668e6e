//! What shows that the files of a directory are those that the owner wrote: a digest of every block, and one root of a
//! directory's digests in the manifest of all four.
//!
//! A block is what belongs to 1,024 rows, or a whole key. [`FILE`] of a directory holds 32 secret random bytes and then
//! the BLAKE3 digests of all blocks of all its files; the manifest holds the digest of each directory's [`FILE`], so
//! that servers and clients that agree on the manifest's digest agree on every byte of all directories.
//!
//! A root must tell nothing to those who hold other directories, and a plain digest would tell much. The search shares
//! of two servers are points of one line for every element: a server that guesses a row can compute another's share of
//! it, and would see in a digest of that whether the guess is right. So the random bytes are there: without them a root
//! is a random number, and only who has the directory has them. Within it the digests say nothing that its holder could
//! not compute. Keys have as much randomness as a digest, and are hidden by the same bytes.
//!
//! Whoever loads a file compares all its blocks on the way. Search shares that stay on disk are compared when they are
//! loaded and in every pass again, as nobody knows what a disk does in between.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files::FileError;
use super::layout::{DIGESTS_FILE, SCALES_FILE, SCALES_HEADER, SEARCH_FILE, component_file, pair_key_file};
use super::manifest::Manifest;
use super::reading::{StoreError, open_exact, read_manifest};
use crate::arithmetic::{
    check::ROW_DIGEST,
    lines::{self, BLOCK, GROUP, LINE, Line},
    mask::PairKey,
    party::Party,
};

pub use super::manifest::Roots;

/// Name of the block digests in every directory.
pub const FILE: &str = "blocks.bin";
/// Rows of a block: whole groups and whole blocks of lines.
pub(crate) const ROWS: usize = 1024;
const _: () = assert!(ROWS.is_multiple_of(GROUP) && ROWS.is_multiple_of(BLOCK));

/// Random bytes before the digests.
pub(crate) const SALT: usize = 32;
/// Bytes of a block's digest.
const DIGEST: usize = blake3::OUT_LEN;
/// Bytes that are read at a time: whole lines, and enough for BLAKE3 to work on many chunks at once.
const TRANSFER: usize = 1 << 16;
const _: () = assert!(TRANSFER.is_multiple_of(LINE));

/// What a file of a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Component 1, 2 or 3 of the records.
    Component(u8),
    /// The holder's search shares.
    Search,
    /// The key of this party and the next.
    PairKey(Party),
    /// The digests of the rows.
    RowDigests,
    /// The scales of the rows.
    Scales,
}

impl Contents {
    /// The name of their file in the directory.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Component(number) => component_file(number),
            Self::Search => SEARCH_FILE.into(),
            Self::PairKey(party) => pair_key_file(party),
            Self::RowDigests => DIGESTS_FILE.into(),
            Self::Scales => SCALES_FILE.into(),
        }
    }
}

/// A file of a directory, as long as the manifest says.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) contents: Contents,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// Bytes before what belongs to the rows, which are of the first block.
    header: u64,
    /// Bytes of each block, but for the header; the last may have fewer.
    block: u64,
}

impl Part {
    /// The files of `holder`'s directory, or of the client's, in the order of their digests.
    pub(crate) fn all(manifest: &Manifest, holder: Option<Party>) -> Vec<Self> {
        let Some(party) = holder else {
            let bytes = |contents, row: usize, header: usize| Self {
                contents,
                length: (header + row * manifest.rows) as u64,
                header: header as u64,
                block: (row * ROWS) as u64,
            };
            let mut parts = vec![bytes(Contents::RowDigests, ROW_DIGEST, 0)];
            parts.extend(manifest.search.then(|| bytes(Contents::Scales, 1, SCALES_HEADER)));
            return parts;
        };
        let lines = |contents, lines: usize, block: usize| Self {
            contents,
            length: (lines * LINE) as u64,
            header: 0,
            block: (block * LINE) as u64,
        };
        let component = |(number, _)| {
            let block = ROWS / GROUP * manifest.record_width();
            lines(Contents::Component(number), manifest.component_lines(), block)
        };
        let mut parts = party.components().map(component).to_vec();
        if manifest.search {
            let block = ROWS / BLOCK * manifest.search_width();
            parts.push(lines(Contents::Search, manifest.search_lines(), block));
        }
        let key = PairKey::BYTES as u64;
        let keys = [party, party.previous()].map(Contents::PairKey);
        parts.extend(keys.map(|contents| Self { contents, length: key, header: 0, block: key }));
        parts
    }

    fn blocks(&self) -> usize {
        (self.length - self.header).div_ceil(self.block) as usize
    }

    /// Where block `number` begins, and the one before ends.
    fn start(&self, number: usize) -> u64 {
        if number == 0 { 0 } else { (self.header + self.block * number as u64).min(self.length) }
    }

    /// That its blocks `first..=last` are not what they were.
    fn damaged(&self, path: &Path, first: usize, last: usize) -> StoreError {
        let (bytes, blocks) = (self.start(first)..self.start(last + 1), self.blocks());
        StoreError::Damaged { path: path.into(), first: first + 1, last: last + 1, blocks, bytes }
    }
}

/// The digests of one file's blocks.
pub(crate) struct Blocks {
    part: Part,
    digests: Vec<[u8; DIGEST]>,
}

impl Blocks {
    /// Compares the block that begins at byte `at` with `bytes`, all that it holds.
    pub(crate) fn compare(&self, at: u64, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
        let number = (at / self.part.block) as usize;
        let right = self.digests.get(number).is_some_and(|digest| blake3::hash(bytes) == *digest);
        if right { Ok(()) } else { Err(self.part.damaged(path, number, number)) }
    }
}

/// Is told of the bytes read so far, and of all that are to be read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A directory whose files are compared with its digests while they are read.
pub(crate) struct Directory<'a> {
    path: PathBuf,
    files: Vec<Blocks>,
    done: u64,
    progress: Progress<'a>,
}

impl<'a> Directory<'a> {
    /// Reads the digests of the directory that has `manifest`.
    ///
    /// # Errors
    /// When they cannot be read, or are not those that the manifest's root is of.
    pub(crate) fn open(path: &Path, manifest: &Manifest, progress: Progress<'a>) -> Result<Self, StoreError> {
        let parts = Part::all(manifest, manifest.party);
        let list = path.join(FILE);
        let length = SALT + DIGEST * parts.iter().map(Part::blocks).sum::<usize>();
        let mut file = open_exact(&list, length as u64)?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).map_err(FileError::at(&list))?;
        if Roots::root(&bytes) != manifest.roots.of(manifest.party) {
            let bytes = 0..length as u64;
            return Err(StoreError::Damaged { path: list, first: 1, last: 1, blocks: 1, bytes });
        }
        let mut digests = bytes[SALT..].as_chunks().0.iter().copied();
        let files = parts.into_iter().map(|part| {
            let digests = digests.by_ref().take(part.blocks()).collect();
            Blocks { part, digests }
        });
        Ok(Self { path: path.into(), files: files.collect(), done: 0, progress })
    }

    /// Reads a whole file into `sink`, some whole lines of a block at a time. What was read may be used if this is
    /// `Ok`.
    ///
    /// # Errors
    /// When the file cannot be read, has another length than the manifest asks for, or is damaged.
    pub(crate) fn read(&mut self, contents: Contents, sink: impl FnMut(&[u8])) -> Result<(), StoreError> {
        let at = self.files.iter().position(|file| file.part.contents == contents);
        at.map_or(Ok(()), |at| self.read_nth(at, sink, Err))
    }

    /// An empty list that has room for all `count` items of a file.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn room<T>(&self, contents: Contents, count: usize) -> Result<Vec<T>, StoreError> {
        let mut room = Vec::new();
        let bytes = (count * size_of::<T>()) as u64;
        let no_memory = |_| StoreError::Memory { path: self.path.join(contents.name()), bytes };
        room.try_reserve_exact(count).map_err(no_memory)?;
        Ok(room)
    }

    /// Reads a whole file of `count` lines.
    ///
    /// # Errors
    /// As [`read`](Self::read), or when there is no memory for it.
    pub(crate) fn lines(&mut self, contents: Contents, count: usize) -> Result<Vec<Line>, StoreError> {
        let mut all = self.room(contents, count)?;
        self.read(contents, |bytes| {
            let at = all.len();
            all.resize(at + bytes.len() / LINE, Line::default());
            lines::decode(bytes, &mut all[at..]);
        })?;
        Ok(all)
    }

    /// The digests to compare what is read of a file later.
    pub(crate) fn into_blocks(self, contents: Contents) -> Option<Blocks> {
        self.files.into_iter().find(|file| file.part.contents == contents)
    }

    /// Reads file `at`; `damaged` decides whether blocks that are not what they were end that.
    fn read_nth(
        &mut self,
        at: usize,
        mut sink: impl FnMut(&[u8]),
        mut damaged: impl FnMut(StoreError) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let all = self.files.iter().map(|file| file.part.length).sum();
        let Blocks { part, digests } = &self.files[at];
        let path = self.path.join(part.contents.name());
        let mut file = open_exact(&path, part.length)?;
        // Keys pass through it.
        let mut bytes = Zeroizing::new(vec![0; TRANSFER.min(part.length as usize)]);
        let mut run: Option<(usize, usize)> = None;
        for (number, digest) in digests.iter().enumerate() {
            let length = part.start(number + 1) - part.start(number);
            let read = hash(&mut file, length, &mut bytes, &mut sink).map_err(FileError::at(&path))?;
            match (read == *digest, &mut run) {
                (true, None) => {}
                (true, Some((first, last))) => {
                    damaged(part.damaged(&path, *first, *last))?;
                    run = None;
                }
                (false, Some((_, last))) => *last = number,
                (false, run) => *run = Some((number, number)),
            }
            self.done += length;
            (self.progress)(self.done, all);
        }
        run.map_or(Ok(()), |(first, last)| damaged(part.damaged(&path, first, last)))
    }
}

/// Reads `length` bytes into `sink`, by way of `bytes`; answers their digest.
fn hash(
    file: &mut File,
    length: u64,
    bytes: &mut [u8],
    sink: &mut impl FnMut(&[u8]),
) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut left = length as usize;
    while left > 0 {
        let bytes = &mut bytes[..left.min(TRANSFER)];
        file.read_exact(bytes)?;
        hasher.update(bytes);
        sink(bytes);
        left -= bytes.len();
    }
    Ok(hasher.finalize())
}

/// What [`verify`] has found in a directory.
#[derive(Debug)]
pub struct Verified {
    /// Its manifest, if that can be used.
    pub manifest: Option<Manifest>,
    /// Bytes of the files that were compared.
    pub bytes: u64,
    /// Everything that is wrong.
    pub faults: Vec<StoreError>,
}

/// Compares every file of a server's or the client's directory with what the owner wrote.
pub fn verify(dir: &Path, progress: Progress<'_>) -> Verified {
    let mut verified = Verified { manifest: None, bytes: 0, faults: Vec::new() };
    let opened = read_manifest(dir).and_then(|manifest| {
        let manifest = verified.manifest.insert(manifest);
        Directory::open(dir, manifest, progress)
    });
    match opened {
        Err(fault) => verified.faults.push(fault),
        Ok(mut directory) => {
            for at in 0..directory.files.len() {
                let note = |fault| {
                    verified.faults.push(fault);
                    Ok(())
                };
                if let Err(fault) = directory.read_nth(at, |_| {}, note) {
                    verified.faults.push(fault);
                }
            }
            verified.bytes = directory.done;
        }
    }
    verified
}
