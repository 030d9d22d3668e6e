//! The owner's tool: one set of vectors into three server directories and a client directory.
//!
//! | directory | holds |
//! |---|---|
//! | `server-b` | manifest, the two components other than w_b, search shares on the line at b, two pair keys |
//! | `client` | manifest, row digests |
//!
//! Rows pass through in runs, so memory does not grow with the set. The manifest is written last in each directory: a
//! sharing that was broken off cannot be opened.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::CryptoRng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::check::row_digest;
use crate::data::{DataError, Rows};
use crate::field::from_signed;
use crate::files::{self, FileError};
use crate::lines::{self, BLOCK, COLUMN, GROUP, Line};
use crate::manifest::{self, Element, Manifest, ManifestError, SALT, SharingId};
use crate::mask::PairKey;
use crate::party::Party;
use crate::quantise::{Quantisation, QuantiseError};
use crate::shamir;

/// Name of the search shares in a server's directory.
pub const SEARCH_FILE: &str = "search.bin";
/// Name of the row digests in the client's directory.
pub const DIGESTS_FILE: &str = "digests.bin";
/// Name of the client's directory.
pub const CLIENT_DIR: &str = "client";

/// Name of component 1, 2 or 3 in a server's directory.
pub fn component_file(component: u8) -> String {
    format!("component-{component}.bin")
}

/// Name of the key that `party` and the next one share.
pub fn pair_key_file(party: Party) -> String {
    format!("pair-{}{}.key", party.number(), party.next().number())
}

/// The directory of a server below the directory of a sharing.
pub fn server_dir(out: &Path, party: Party) -> PathBuf {
    out.join(format!("server-{}", party.number()))
}

/// What the owner chooses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Make search shares too. Without them rows can only be fetched, and may hold any values.
    pub search: bool,
    /// Delete a sharing that is already there.
    pub replace: bool,
}

/// Why data was not shared.
#[derive(Debug, Error)]
pub enum ShareError {
    /// There is a sharing already.
    #[error("{} exists already; choose another directory, or ask for it to be replaced", .0.display())]
    Exists(PathBuf),
    /// The input cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An output cannot be written.
    #[error("cannot write {0}")]
    File(#[from] FileError),
    /// The shape of the input is beyond the limits.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A row whose scores would not be right.
    #[error("row {row} cannot be searched: {error}; share it for fetching only")]
    Row {
        /// Which row.
        row: usize,
        /// What is wrong with it.
        error: QuantiseError,
    },
    /// The system gave no randomness.
    #[error("the system gave no random seed: {0}")]
    Random(String),
}

/// Shares `rows` below `out` with randomness from the system.
///
/// `progress` is called with the rows done and the rows in all.
///
/// # Errors
/// When there is a sharing already, the input cannot be read, a row cannot be searched, or a file cannot be written.
pub fn share(
    rows: &mut dyn Rows,
    out: &Path,
    options: Options,
    progress: impl FnMut(usize, usize),
) -> Result<Manifest, ShareError> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut *seed)
        .map_err(|error| ShareError::Random(error.to_string()))?;
    share_with(rows, out, options, &mut ChaCha20Rng::from_seed(*seed), progress)
}

/// [`share`] with randomness from `rng`; whoever knows its seed knows everything.
///
/// # Errors
/// As [`share`].
pub fn share_with(
    rows: &mut dyn Rows,
    out: &Path,
    options: Options,
    rng: &mut impl CryptoRng,
    mut progress: impl FnMut(usize, usize),
) -> Result<Manifest, ShareError> {
    let mut sharing = SharingId([0; 16]);
    rng.fill_bytes(&mut sharing.0);
    // The shape is checked before memory is taken for its rows; what they are is not known yet.
    Manifest::new(sharing, rows.rows(), rows.dim(), Element::U8, None)?;
    let survey = Survey::of(rows)?;
    let search = options.search.then(|| Quantisation::choose(survey.element, survey.longest));
    let manifest = Manifest::new(sharing, rows.rows(), rows.dim(), survey.element, search)?;

    let mut outputs = Outputs::create(out, &manifest, options.replace, rng)?;
    let mut run = vec![0.0; RUN * manifest.dim];
    let mut splitter = Splitter::new(&manifest);
    for first in (0..manifest.rows).step_by(RUN) {
        let run = &mut run[..RUN.min(manifest.rows - first) * manifest.dim];
        rows.read(first, run)?;
        splitter.split(first, run, rng)?;
        outputs.write(&splitter)?;
        progress(first + run.len() / manifest.dim, manifest.rows);
    }
    outputs.finish(&manifest)?;
    Ok(manifest)
}

/// Rows in a run: whole groups and whole blocks.
const RUN: usize = 1024;
const _: () = assert!(RUN.is_multiple_of(GROUP) && RUN.is_multiple_of(BLOCK));

/// What must be known of all rows before the first is shared.
struct Survey {
    element: Element,
    longest: f64,
}

impl Survey {
    fn of(rows: &mut dyn Rows) -> Result<Self, DataError> {
        let (count, dim) = (rows.rows(), rows.dim());
        let mut survey = Self { element: Element::U8, longest: 0.0 };
        let mut run = vec![0.0; RUN * dim];
        for first in (0..count).step_by(RUN) {
            let run = &mut run[..RUN.min(count - first) * dim];
            rows.read(first, run)?;
            // Bit by bit, so that a negative zero stays what it is.
            if !run.iter().all(|&value| f32::from(value as u8).to_bits() == value.to_bits()) {
                survey.element = Element::F32;
            }
            for row in run.chunks_exact(dim) {
                survey.longest = survey.longest.max(row.iter().map(|&value| f64::from(value).powi(2)).sum());
            }
        }
        Ok(survey)
    }
}

/// Splits runs of rows into components and search shares.
struct Splitter<'a> {
    manifest: &'a Manifest,
    components: [Vec<Line>; 3],
    shares: [Vec<Line>; 3],
    digests: Vec<u8>,
    quantised: Vec<i32>,
}

impl<'a> Splitter<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        Self {
            manifest,
            components: Default::default(),
            shares: Default::default(),
            digests: Vec::new(),
            quantised: Vec::new(),
        }
    }

    /// Splits the rows from `first` on.
    fn split(&mut self, first: usize, run: &[f32], rng: &mut impl CryptoRng) -> Result<(), ShareError> {
        let count = run.len() / self.manifest.dim;
        self.digests.clear();
        for component in &mut self.components {
            component.clear();
            component.resize(count.div_ceil(GROUP) * self.manifest.record_width(), Line::default());
        }
        for (at, row) in run.chunks_exact(self.manifest.dim).enumerate() {
            self.split_record(first, at, row, rng);
        }
        if let Some(quantisation) = self.manifest.search {
            for shares in &mut self.shares {
                shares.clear();
                shares.resize(count.div_ceil(BLOCK) * self.manifest.search_width(), Line::default());
            }
            for (at, row) in run.chunks_exact(self.manifest.dim).enumerate() {
                self.split_row(at, row, quantisation, rng)
                    .map_err(|error| ShareError::Row { row: first + at, error })?;
            }
        }
        Ok(())
    }

    /// Row and salt as the XOR of three components, two of them random.
    fn split_record(&mut self, first: usize, at: usize, row: &[f32], rng: &mut impl CryptoRng) {
        let width = self.manifest.record_width();
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        let mut record = Zeroizing::new(Vec::with_capacity(width * COLUMN));
        self.manifest.element.encode(row, &mut record);
        self.digests.extend_from_slice(&row_digest(&self.manifest.sharing, first + at, &salt, &record));
        record.extend_from_slice(&salt);
        record.resize(width * COLUMN, 0);

        let mut random = Zeroizing::new(vec![0; 2 * record.len()]);
        rng.fill_bytes(&mut random);
        let (one, two) = random.split_at(record.len());
        for ((byte, a), b) in record.iter_mut().zip(one).zip(two) {
            *byte ^= a ^ b;
        }
        for (component, bytes) in self.components.iter_mut().zip([one, two, &record]) {
            lines::put_record(&mut component[at / GROUP * width..][..width], at % GROUP, bytes);
        }
    }

    /// The quantised row and its squared norm as points on lines.
    fn split_row(
        &mut self,
        at: usize,
        row: &[f32],
        quantisation: Quantisation,
        rng: &mut impl CryptoRng,
    ) -> Result<(), QuantiseError> {
        let norm = quantisation.row(self.manifest.element, row, &mut self.quantised)?;
        let width = self.manifest.search_width();
        let elements = self.quantised.iter().map(|&value| from_signed(value.into())).chain([norm]);
        for (column, element) in elements.enumerate() {
            for (shares, share) in self.shares.iter_mut().zip(shamir::share(element, rng)) {
                shares[at / BLOCK * width + column].0[at % BLOCK] = share;
            }
        }
        Ok(())
    }
}

/// A file that is being written, with its name for errors.
struct Output {
    file: BufWriter<File>,
    path: PathBuf,
}

/// All that was written is on the disk, so that no manifest ever stands over less than it says.
fn store(file: &mut BufWriter<File>) -> io::Result<()> {
    file.flush()?;
    file.get_ref().sync_data()
}

impl Output {
    fn create(dir: &Path, name: &str) -> Result<Self, FileError> {
        let path = dir.join(name);
        Ok(Self { file: BufWriter::with_capacity(1 << 16, files::create(&path)?), path })
    }

    fn put(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), FileError> {
        write(&mut self.file).map_err(FileError::at(&self.path))
    }
}

/// The files of all four directories.
struct Outputs {
    out: PathBuf,
    /// (component, file): each component goes to two servers.
    components: Vec<(usize, Output)>,
    /// In order of the servers; none when only fetching is wanted.
    shares: Vec<Output>,
    digests: Output,
}

impl Outputs {
    fn create(
        out: &Path,
        manifest: &Manifest,
        replace: bool,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, ShareError> {
        let client = out.join(CLIENT_DIR);
        for dir in Party::ALL.map(|party| server_dir(out, party)).iter().chain([&client]) {
            make_room(dir, replace)?;
        }
        let mut outputs = Self {
            out: out.into(),
            components: Vec::new(),
            shares: Vec::new(),
            digests: Output::create(&client, DIGESTS_FILE)?,
        };
        for party in Party::ALL {
            let dir = server_dir(out, party);
            for (component, _) in party.components() {
                outputs
                    .components
                    .push((usize::from(component - 1), Output::create(&dir, &component_file(component))?));
            }
            if manifest.search.is_some() {
                outputs.shares.push(Output::create(&dir, SEARCH_FILE)?);
            }
            let key = PairKey::generate(rng);
            for holder in [party, party.next()] {
                let mut file = Output::create(&server_dir(out, holder), &pair_key_file(party))?;
                file.put(|file| file.write_all(key.expose()).and_then(|()| store(file)))?;
            }
        }
        Ok(outputs)
    }

    fn write(&mut self, splitter: &Splitter<'_>) -> Result<(), FileError> {
        for (component, output) in &mut self.components {
            output.put(|file| lines::write(file, &splitter.components[*component]))?;
        }
        for (output, shares) in self.shares.iter_mut().zip(&splitter.shares) {
            output.put(|file| lines::write(file, shares))?;
        }
        self.digests.put(|file| file.write_all(&splitter.digests))
    }

    /// Makes sure that all data is in the files, then says so by the manifests.
    fn finish(mut self, manifest: &Manifest) -> Result<(), ShareError> {
        let components = self.components.iter_mut().map(|(_, output)| output);
        for output in components.chain(&mut self.shares).chain([&mut self.digests]) {
            output.put(store)?;
        }
        let put = |dir: &Path, manifest: &Manifest| -> Result<(), ShareError> {
            let json = manifest.to_json()?;
            Ok(Output::create(dir, manifest::FILE)?
                .put(|file| file.write_all(&json).and_then(|()| store(file)))?)
        };
        for party in Party::ALL {
            put(&server_dir(&self.out, party), &manifest.for_party(party))?;
        }
        put(&self.out.join(CLIENT_DIR), manifest)
    }
}

/// Makes an empty directory, deleting the files of an earlier sharing when that was asked for.
fn make_room(dir: &Path, replace: bool) -> Result<(), ShareError> {
    let present = dir.exists();
    if present && !replace && fs::read_dir(dir).map_err(FileError::at(dir))?.next().is_some() {
        return Err(ShareError::Exists(dir.into()));
    }
    files::create_dir(dir)?;
    // The manifest first: without it what is left cannot be taken for a sharing.
    let mut names = vec![manifest::FILE.to_owned(), SEARCH_FILE.to_owned(), DIGESTS_FILE.to_owned()];
    names.extend((1..=3).map(component_file));
    names.extend(Party::ALL.map(pair_key_file));
    for path in names.iter().map(|name| dir.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::at(&path)(error).into());
            }
            _ => {}
        }
    }
    Ok(())
}
