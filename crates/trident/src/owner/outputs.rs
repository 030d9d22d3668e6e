//! The directories of a sharing: written aside, and put in their place when they are whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::CryptoRng;

use super::error::ShareError;
use super::splitter::Splitter;
use crate::{
    agreed::{
        files::{self, FileError},
        integrity::{self, Contents, Part, Roots},
        layout::{
            CLIENT_DIR, DIGESTS_FILE, SCALES_FILE, SEARCH_FILE, component_file, pair_key_file, server_dir,
        },
        manifest::{self, Manifest},
        scales,
    },
    arithmetic::{lines, mask::PairKey, party::Party, quantise::Quantisation},
};

/// A file that is being written, and the digests of its blocks so far.
struct Output {
    file: BufWriter<File>,
    path: PathBuf,
    contents: Option<Contents>,
    digests: Vec<u8>,
}

impl Output {
    /// A file of a directory; without `contents`, one that tells of the others.
    fn create(dir: &Path, name: &str, contents: Option<Contents>) -> Result<Self, FileError> {
        let path = dir.join(name);
        let file = BufWriter::with_capacity(1 << 16, files::create(&path)?);
        Ok(Self { file, path, contents, digests: Vec::new() })
    }

    /// Appends a block.
    fn put(&mut self, write: impl FnOnce(&mut Hashed<'_>) -> io::Result<()>) -> Result<(), FileError> {
        let mut hashed = Hashed { file: &mut self.file, hasher: blake3::Hasher::new() };
        write(&mut hashed).map_err(FileError::at(&self.path))?;
        let digest = hashed.hasher.finalize();
        self.digests.extend_from_slice(digest.as_bytes());
        Ok(())
    }

    /// All that was written is on the disk, so that no manifest ever stands over less than it says.
    fn store(&mut self) -> Result<(), FileError> {
        let stored = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        stored.map_err(FileError::at(&self.path))
    }

    /// Writes a whole file that tells of the others.
    fn write_all(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let mut output = Self::create(dir, name, None)?;
        output.put(|file| file.write_all(bytes))?;
        output.store()
    }
}

/// Hashes what is written.
struct Hashed<'a> {
    file: &'a mut BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The files of all four directories, until they are whole in a directory of their own.
pub(crate) struct Outputs {
    out: PathBuf,
    aside: Aside,
    /// What the first block of the scales begins with.
    header: Vec<u8>,
    directories: Vec<(Option<Party>, Vec<Output>)>,
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
            holders().iter().try_for_each(|holder| is_free(&directory(out, *holder)))?;
        }
        let aside = Aside(out.join(ASIDE));
        let keys = Party::ALL.map(|_| PairKey::generate(rng));
        let mut directories = Vec::new();
        for holder in holders() {
            let dir = directory(&aside.0, holder);
            files::create_dir(&dir)?;
            clear(&dir)?;
            let mut outputs = Vec::new();
            for part in Part::all(manifest, holder) {
                let mut output = Output::create(&dir, &part.contents.name(), Some(part.contents))?;
                if let Contents::PairKey(party) = part.contents {
                    output.put(|file| file.write_all(keys[party.index()].expose()))?;
                }
                outputs.push(output);
            }
            directories.push((holder, outputs));
        }
        Ok(Self { out: out.into(), aside, header: Vec::new(), directories })
    }

    /// Begins the scales.
    pub(crate) fn put_scale(&mut self, quantisation: Quantisation, rng: &mut impl CryptoRng) {
        self.header = scales::header(quantisation, rng).into();
    }

    /// Appends a run of rows: a block of every file that has rows.
    pub(crate) fn write(&mut self, splitter: &Splitter<'_>) -> Result<(), FileError> {
        for (holder, outputs) in &mut self.directories {
            for output in outputs {
                match output.contents {
                    Some(Contents::Component(number)) => {
                        let component = &splitter.components[usize::from(number - 1)];
                        output.put(|file| lines::write(file, component))?;
                    }
                    Some(Contents::Search) => {
                        let shares = holder.map_or(&[][..], |party| &splitter.shares[party.index()]);
                        output.put(|file| lines::write(file, shares))?;
                    }
                    Some(Contents::RowDigests) => output.put(|file| file.write_all(&splitter.digests))?,
                    Some(Contents::Scales) => {
                        let header = std::mem::take(&mut self.header);
                        output.put(|file| {
                            file.write_all(&header).and_then(|()| file.write_all(&splitter.shifts))
                        })?;
                    }
                    Some(Contents::PairKey(_)) | None => {}
                }
            }
        }
        Ok(())
    }

    /// Makes sure that all is on the disk, then puts it in its place, the manifests last. Answers the manifest, with
    /// the roots of the directories.
    pub(crate) fn finish(
        mut self,
        manifest: &Manifest,
        rng: &mut impl CryptoRng,
    ) -> Result<Manifest, ShareError> {
        let mut roots = Roots::default();
        for (holder, outputs) in &mut self.directories {
            let mut blocks = vec![0; integrity::SALT];
            rng.fill_bytes(&mut blocks);
            for output in outputs {
                output.store()?;
                blocks.extend_from_slice(&output.digests);
            }
            Output::write_all(&directory(&self.aside.0, *holder), integrity::FILE, &blocks)?;
            *roots.of_mut(*holder) = Roots::root(&blocks);
        }
        let manifest = manifest.with_roots(roots);
        for holder in holders() {
            let json = Manifest { party: holder, ..manifest.clone() }.to_json()?;
            Output::write_all(&directory(&self.aside.0, holder), manifest::FILE, &json)?;
        }
        for holder in holders() {
            let (from, to) = (directory(&self.aside.0, holder), directory(&self.out, holder));
            files::create_dir(&to)?;
            clear(&to)?;
            for name in names().iter().rev().filter(|name| from.join(name).exists()) {
                fs::rename(from.join(name), to.join(name)).map_err(FileError::at(&to.join(name)))?;
            }
        }
        Ok(manifest)
    }
}

/// Where a sharing is written until it is whole, below the directory it goes to. Gone when this is dropped.
struct Aside(PathBuf);

/// The name of that directory.
const ASIDE: &str = "unfinished";

impl Drop for Aside {
    fn drop(&mut self) {
        // Whatever is left belongs to a sharing that broke off; if it cannot be deleted the next one will try.
        for dir in holders().map(|holder| directory(&self.0, holder)) {
            let _ = clear(&dir);
            let _ = fs::remove_dir(&dir);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whose the four directories of a sharing are: the servers', and the clients'.
fn holders() -> [Option<Party>; 4] {
    let [first, second, third] = Party::ALL.map(Some);
    [first, second, third, None]
}

/// The directory of `holder` below the directory of a sharing.
fn directory(out: &Path, holder: Option<Party>) -> PathBuf {
    holder.map_or(out.join(CLIENT_DIR), |party| server_dir(out, party))
}

/// All files that a directory may hold. The manifest first: without it what is left cannot be taken for a sharing.
fn names() -> Vec<String> {
    let mut names =
        [manifest::FILE, integrity::FILE, SEARCH_FILE, DIGESTS_FILE, SCALES_FILE].map(str::to_owned).to_vec();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::{
        data::Generated,
        share::{Options, share},
    };

    const REPLACE: Options = Options { search: true, replace: true, pins: None };

    fn shared(out: &Path) -> Result<Manifest, ShareError> {
        share(&mut Generated::new(5, 1), out, REPLACE, |_, _| {})
    }

    #[test]
    fn every_file_of_a_sharing_is_among_those_that_are_put_in_place_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        shared(dir.path()).unwrap();
        for holder in holders() {
            let entries = fs::read_dir(directory(dir.path(), holder)).unwrap();
            let found: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            let wanted = [manifest::FILE, integrity::FILE].len();
            let manifest = manifest::Manifest::parse(
                &fs::read(directory(dir.path(), holder).join(manifest::FILE)).unwrap(),
            );
            assert_eq!(found.len(), wanted + Part::all(&manifest.unwrap(), holder).len());
            clear(&directory(dir.path(), holder)).unwrap();
            assert_eq!(fs::read_dir(directory(dir.path(), holder)).unwrap().count(), 0, "{found:?}");
        }
    }

    #[test]
    fn a_sharing_that_replaces_another_leaves_what_is_not_of_one() {
        let dir = tempfile::tempdir().unwrap();
        shared(dir.path()).unwrap();
        for holder in holders() {
            fs::write(directory(dir.path(), holder).join("notes"), "mine").unwrap();
        }
        shared(dir.path()).unwrap();
        for holder in holders() {
            let notes = directory(dir.path(), holder).join("notes");
            assert_eq!(fs::read_to_string(notes).unwrap(), "mine");
        }
        assert!(!dir.path().join(ASIDE).exists());
    }

    /// Without it what is left cannot be taken for a sharing.
    #[test]
    fn a_sharing_that_cannot_be_replaced_whole_has_lost_its_manifest_first() {
        for name in [integrity::FILE, SEARCH_FILE, &pair_key_file(Party::ALL[0])] {
            let dir = tempfile::tempdir().unwrap();
            shared(dir.path()).unwrap();
            let first = directory(dir.path(), Some(Party::ALL[0]));
            fs::remove_file(first.join(name)).unwrap();
            fs::create_dir(first.join(name)).unwrap();
            let refused = shared(dir.path()).unwrap_err();
            assert!(matches!(refused, ShareError::File(at) if at.path == first.join(name)), "{name}");
            assert!(!first.join(manifest::FILE).exists(), "{name}");
            assert!(!dir.path().join(ASIDE).exists(), "{name}");
        }
    }

    #[test]
    fn a_directory_is_free_if_it_is_empty_or_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_free(dir.path()).is_ok() && is_free(&dir.path().join("none")).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(is_free(dir.path()), Err(ShareError::Exists(path)) if path == dir.path()));
        let refused = is_free(&dir.path().join("file"));
        assert!(matches!(refused, Err(ShareError::File(at)) if at.path == dir.path().join("file")));
    }
}
