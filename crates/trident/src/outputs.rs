//! The directories of a sharing: written aside, and put in their place when they are whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::CryptoRng;

use crate::files::{self, FileError};
use crate::lines;
use crate::manifest::{self, Manifest};
use crate::mask::PairKey;
use crate::party::Party;
use crate::quantise::Quantisation;
use crate::scales::{self, SCALES_FILE};
use crate::share::{
    CLIENT_DIR, DIGESTS_FILE, SEARCH_FILE, ShareError, Splitter, component_file, pair_key_file, server_dir,
};

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

/// The files of all four directories, until they are whole in a directory of their own.
pub(crate) struct Outputs {
    out: PathBuf,
    aside: Aside,
    /// (component, file): each component goes to two servers.
    components: Vec<(usize, Output)>,
    /// In order of the servers; none when only fetching is wanted.
    shares: Vec<Output>,
    digests: Output,
    /// None when only fetching is wanted.
    scales: Option<Output>,
}

impl Outputs {
    /// Opens all files, and writes the keys.
    ///
    /// # Errors
    /// When there is a sharing already and it is not to be replaced, or a file cannot be made.
    pub(crate) fn create(
        out: &Path,
        manifest: &Manifest,
        replace: bool,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, ShareError> {
        if !replace {
            directories(out).iter().try_for_each(|dir| is_free(dir))?;
        }
        let aside = Aside(out.join(ASIDE));
        for dir in directories(&aside.0) {
            files::create_dir(&dir)?;
            clear(&dir)?;
        }
        let client = aside.0.join(CLIENT_DIR);
        let digests = Output::create(&client, DIGESTS_FILE)?;
        let scales = manifest.search.then(|| Output::create(&client, SCALES_FILE)).transpose()?;
        let mut outputs =
            Self { out: out.into(), aside, components: Vec::new(), shares: Vec::new(), digests, scales };
        for party in Party::ALL {
            let dir = server_dir(&outputs.aside.0, party);
            for (component, _) in party.components() {
                outputs
                    .components
                    .push((usize::from(component - 1), Output::create(&dir, &component_file(component))?));
            }
            if manifest.search {
                outputs.shares.push(Output::create(&dir, SEARCH_FILE)?);
            }
            let key = PairKey::generate(rng);
            for holder in [party, party.next()] {
                let mut file = Output::create(&server_dir(&outputs.aside.0, holder), &pair_key_file(party))?;
                file.put(|file| file.write_all(key.expose()).and_then(|()| store(file)))?;
            }
        }
        Ok(outputs)
    }

    /// Begins the scales.
    pub(crate) fn put_scale(
        &mut self,
        quantisation: Quantisation,
        rng: &mut impl CryptoRng,
    ) -> Result<(), FileError> {
        let Some(scales) = &mut self.scales else { return Ok(()) };
        scales.put(|file| file.write_all(&scales::header(quantisation, rng)))
    }

    /// Appends a run of rows.
    pub(crate) fn write(&mut self, splitter: &Splitter<'_>) -> Result<(), FileError> {
        for (component, output) in &mut self.components {
            output.put(|file| lines::write(file, &splitter.components[*component]))?;
        }
        for (output, shares) in self.shares.iter_mut().zip(&splitter.shares) {
            output.put(|file| lines::write(file, shares))?;
        }
        if let Some(scales) = &mut self.scales {
            scales.put(|file| file.write_all(&splitter.shifts))?;
        }
        self.digests.put(|file| file.write_all(&splitter.digests))
    }

    /// Makes sure that all is on the disk, then puts it in its place, the manifests last.
    pub(crate) fn finish(mut self, manifest: &Manifest) -> Result<(), ShareError> {
        let components = self.components.iter_mut().map(|(_, output)| output);
        for output in components.chain(&mut self.shares).chain(&mut self.scales).chain([&mut self.digests]) {
            output.put(store)?;
        }
        let put = |dir: &Path, manifest: &Manifest| -> Result<(), ShareError> {
            let json = manifest.to_json()?;
            Ok(Output::create(dir, manifest::FILE)?
                .put(|file| file.write_all(&json).and_then(|()| store(file)))?)
        };
        for party in Party::ALL {
            put(&server_dir(&self.aside.0, party), &manifest.for_party(party))?;
        }
        put(&self.aside.0.join(CLIENT_DIR), manifest)?;
        for (from, to) in directories(&self.aside.0).iter().zip(&directories(&self.out)) {
            files::create_dir(to)?;
            clear(to)?;
            for name in names().iter().rev().filter(|name| from.join(name).exists()) {
                fs::rename(from.join(name), to.join(name)).map_err(FileError::at(&to.join(name)))?;
            }
        }
        Ok(())
    }
}

/// Where a sharing is written until it is whole, below the directory it goes to. Gone when this is dropped.
struct Aside(PathBuf);

/// The name of that directory.
const ASIDE: &str = "unfinished";

impl Drop for Aside {
    fn drop(&mut self) {
        // Whatever is left belongs to a sharing that broke off; if it cannot be deleted the next one will try.
        for dir in directories(&self.0) {
            let _ = clear(&dir);
            let _ = fs::remove_dir(&dir);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// The four directories of a sharing.
fn directories(out: &Path) -> Vec<PathBuf> {
    Party::ALL.map(|party| server_dir(out, party)).into_iter().chain([out.join(CLIENT_DIR)]).collect()
}

/// All files that a directory may hold. The manifest first: without it what is left cannot be taken for a sharing.
fn names() -> Vec<String> {
    let mut names = vec![
        manifest::FILE.to_owned(),
        SEARCH_FILE.to_owned(),
        DIGESTS_FILE.to_owned(),
        SCALES_FILE.to_owned(),
    ];
    names.extend((1..=3).map(component_file));
    names.extend(Party::ALL.map(pair_key_file));
    names
}

fn is_free(dir: &Path) -> Result<(), ShareError> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(ShareError::Exists(dir.into())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::at(dir)(error).into()),
        _ => Ok(()),
    }
}

/// Deletes the files of a sharing, and no others.
fn clear(dir: &Path) -> Result<(), FileError> {
    for path in names().iter().map(|name| dir.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FileError::at(&path)(error)),
            _ => {}
        }
    }
    Ok(())
}
