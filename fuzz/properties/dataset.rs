//! Any file of vectors is read or refused; one that is read has as many rows of as many elements as it says, and takes
//! no more memory than its bytes justify.
//!
//! The first byte says the format, for raw bytes also the elements of a row; the rest is the file.

use std::{cell::LazyCell, fs, thread_local};

use roadstead_trident::data::{open, read_ivecs};
use tempfile::TempDir;

/// The format, as the first byte says it; anything above is raw.
pub(crate) const FVECS: u8 = 0;
pub(crate) const NPY: u8 = 1;
pub(crate) const IVECS: u8 = 2;

pub(crate) fn check(data: &[u8]) {
    thread_local! {
        static DIR: LazyCell<TempDir> =
            LazyCell::new(|| tempfile::tempdir().expect("there is room for a temporary directory"));
    }
    let Some((&format, bytes)) = data.split_first() else { return };
    let name = match format {
        FVECS => "set.fvecs",
        NPY => "set.npy",
        IVECS => "set.ivecs",
        _ => "set.raw",
    };
    let path = DIR.with(|dir| dir.path().join(name));
    fs::write(&path, bytes).expect("there is room for a temporary file");
    if format == IVECS {
        if let Ok(rows) = read_ivecs(&path) {
            let sizes: usize = rows.iter().map(|row| 4 + 4 * row.len()).sum();
            assert_eq!(sizes, bytes.len(), "every byte is of a row");
        }
        return;
    }
    let raw_dim = (format > IVECS).then(|| usize::from(format - IVECS));
    let Ok(mut rows) = open(&path, raw_dim) else { return };
    assert!(rows.rows() > 0 && rows.dim() > 0);
    assert!(rows.rows() * rows.dim() <= bytes.len(), "more elements than bytes");
    let (count, dim) = (rows.rows(), rows.dim());
    if let Ok(rows) = rows.read_all() {
        assert_eq!(rows.len(), count);
        assert!(rows.iter().all(|row| row.len() == dim));
    }
}
