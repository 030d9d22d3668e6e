//! The committed inputs of a target: made by the real encoders, compared with what these make today, and played on.
//!
//! Files called `seed-…` are made, `fault-…` once showed a fault and keep it away, others are what a fuzzer left here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub(crate) struct Corpus {
    /// The target's name.
    pub(crate) target: &'static str,
    /// Name and content of every seed.
    pub(crate) seeds: Vec<(String, Vec<u8>)>,
    /// What must hold for every input.
    pub(crate) check: fn(&[u8]),
}

impl Corpus {
    fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(self.target)
    }

    /// Writes the seeds.
    pub(crate) fn write(&self) {
        fs::create_dir_all(self.dir()).expect("the corpus can be written");
        for (name, bytes) in &self.seeds {
            fs::write(self.dir().join(format!("seed-{name}")), bytes).expect("the corpus can be written");
        }
    }

    /// Plays every file, of which there must be at least `floor`, and every seed as it is made today among them.
    pub(crate) fn replay(&self, floor: usize) {
        let entries = fs::read_dir(self.dir()).expect("the corpus is part of the repository");
        let files: BTreeMap<String, Vec<u8>> = entries
            .map(|entry| entry.expect("the corpus can be listed"))
            .map(|entry| (entry.file_name(), fs::read(entry.path()).expect("the corpus can be read")))
            .map(|(name, bytes)| (name.to_string_lossy().into_owned(), bytes))
            .collect();
        assert!(files.len() >= floor, "{} has {} inputs instead of {floor}", self.target, files.len());
        for (name, bytes) in &self.seeds {
            assert!(
                files.get(&format!("seed-{name}")) == Some(bytes),
                "{}/seed-{name} is not what the encoders make: run this test with `-- --ignored` to write it",
                self.target
            );
        }
        for (name, bytes) in &files {
            println!("playing {}/{name}", self.target);
            (self.check)(bytes);
        }
    }
}
