//! The vectors that a measurement runs on: a real set where there is one, else a made one.

use std::path::{Path, PathBuf};

use roadstead_trident::{
    data::{self, DataError, Generated, Rows, true_neighbours},
    query::Collection,
};

use super::until_signal::UntilSignal;
use crate::outcome::Result;

/// How many neighbours a search asks for, and recall counts.
pub(crate) const K: usize = 10;
/// The set that is made where there is no real one.
pub(crate) const MADE_ROWS: usize = 10_000;
const SEED: u64 = 1;
const MADE_QUERIES: usize = 100;

/// A set of rows, queries, and the truth about them.
pub(crate) struct Dataset {
    pub(crate) name: String,
    base: Base,
    pub(crate) rows: usize,
    pub(crate) dim: usize,
    pub(crate) queries: Vec<Vec<f32>>,
}

enum Base {
    File(PathBuf),
    Made,
}

/// What the neighbours that a search finds for a query are compared with.
pub(crate) struct Horizon {
    /// The squared distance of the K-th nearest row: whatever is no further away is a true neighbour.
    pub(crate) squared: f64,
    /// A search takes K rows for no further away than this, with the errors that rounding can cause.
    pub(crate) rounded: f64,
    /// The greatest error that rounding can cause in the distance of a true neighbour.
    pub(crate) error: f64,
}

impl Dataset {
    /// The set in `dir`, else siftsmall where this machine has it, else one that is made.
    pub(crate) fn find(dir: Option<&Path>) -> Result<Self> {
        match dir.map(Path::to_path_buf).or_else(data::siftsmall) {
            Some(dir) => Self::read(&dir),
            None => Ok(Self::made(MADE_ROWS)),
        }
    }

    /// `NAME_base.fvecs` and `NAME_query.fvecs` in `dir`.
    fn read(dir: &Path) -> Result<Self> {
        let base = only_file(dir, "_base.fvecs")?;
        let rows = data::open(&base, None)?;
        let queries = data::open(&only_file(dir, "_query.fvecs")?, None)?.read_all()?;
        let file = base.file_name().unwrap_or_default().to_string_lossy();
        let name = file.trim_end_matches("_base.fvecs").to_string();
        Ok(Self { name, rows: rows.rows(), dim: rows.dim(), base: Base::File(base), queries })
    }

    /// A SIFT-like set of `rows` rows.
    pub(crate) fn made(rows: usize) -> Self {
        let made = Generated::new(rows, SEED);
        let name = format!("made-{rows}");
        Self { name, rows, dim: made.dim(), queries: made.queries(MADE_QUERIES), base: Base::Made }
    }

    /// The rows.
    pub(crate) fn source(&self) -> Result<Box<dyn Rows>, DataError> {
        match &self.base {
            Base::File(path) => data::open(path, None),
            Base::Made => Ok(Box::new(Generated::new(self.rows, SEED))),
        }
    }

    /// Row `index`.
    pub(crate) fn row(&self, source: &mut dyn Rows, index: usize) -> Result<Vec<f32>, DataError> {
        let mut row = vec![0.0; self.dim];
        source.read(index, &mut row)?;
        Ok(row)
    }

    /// For each of the first `queries` queries how far away the nearest rows are.
    pub(crate) fn horizons(&self, queries: usize, collection: &Collection) -> Result<Vec<Horizon>> {
        let queries = &self.queries[..queries.min(self.queries.len())];
        let nearest = true_neighbours(&mut UntilSignal(self.source()?), queries, K)?;
        let horizon = |(number, nearest): (usize, Vec<(u32, f64)>)| {
            let mut horizon = Horizon { squared: 0.0, rounded: 0.0, error: 0.0 };
            for (row, squared) in nearest {
                let error = collection
                    .distance_error(&queries[number], row as usize)
                    .map_err(|error| format!("query {number} of {}: {error}", self.name))?;
                horizon.squared = squared;
                horizon.rounded = horizon.rounded.max(squared.sqrt() + error);
                horizon.error = horizon.error.max(error);
            }
            Ok(horizon)
        };
        nearest.into_iter().enumerate().map(horizon).collect()
    }
}

fn only_file(dir: &Path, ending: &str) -> Result<PathBuf> {
    let read = std::fs::read_dir(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let mut found = Vec::new();
    for entry in read {
        let path = entry.map_err(|error| format!("cannot read {}: {error}", dir.display()))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(found) => {
            let count = found.len();
            Err(format!("{} holds {count} files named *{ending}, it must be one", dir.display()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_called_what_its_files_are_and_there_is_one_of_each() {
        let dir = tempfile::tempdir().unwrap();
        let row = [&1_u32.to_le_bytes()[..], &7_f32.to_le_bytes()].concat();
        let put = |name: &str, rows: usize| std::fs::write(dir.path().join(name), row.repeat(rows)).unwrap();
        let refused = |said: &str| {
            let error = Dataset::find(Some(dir.path())).map(drop).unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
        };
        refused("holds 0 files named *_base.fvecs, it must be one");
        put("tiny_base.fvecs", 3);
        refused("holds 0 files named *_query.fvecs, it must be one");
        put("tiny_query.fvecs", 2);
        let set = Dataset::find(Some(dir.path())).unwrap();
        assert_eq!((&set.name[..], set.rows, set.dim, set.queries.len()), ("tiny", 3, 1, 2));
        put("other_base.fvecs", 3);
        refused("holds 2 files named *_base.fvecs, it must be one");
    }
}
