//! Vectors to share: files in the usual formats, or made up, read in runs of rows so that no set has to fit memory.

mod generated;
mod npy;
mod source;
mod truth;
mod vecs;

use std::path::{Path, PathBuf};

use source::{RowFile, Source};

pub use generated::Generated;
pub use source::{DataError, Rows};
pub use truth::true_neighbours;
pub use vecs::read_ivecs;

/// Opens a set of vectors by the ending of its name: `.fvecs`, `.npy`, or anything else as raw bytes with `raw_dim`
/// elements a row.
///
/// # Errors
/// When the file cannot be read, is malformed, or is raw and no dimension is given.
pub fn open(path: &Path, raw_dim: Option<usize>) -> Result<Box<dyn Rows>, DataError> {
    let file = Source::open(path)?;
    match (path.extension().and_then(|ending| ending.to_str()), raw_dim) {
        (Some("fvecs"), _) => Ok(Box::new(vecs::fvecs(file)?)),
        (Some("npy"), _) => Ok(Box::new(npy::npy(file)?)),
        (_, Some(dim)) => Ok(Box::new(raw(file, dim)?)),
        (_, None) => {
            Err(file
                .malformed("is neither .fvecs nor .npy; raw bytes need the number of elements a row (--dim)"))
        }
    }
}

/// The directory of the siftsmall set where this machine has it: `$ROADSTEAD_DATA`, or else `../shared/data/siftsmall`
/// beside the working copy that the program runs in.
pub fn siftsmall() -> Option<PathBuf> {
    let has_base = |dir: &PathBuf| dir.join("siftsmall_base.fvecs").is_file();
    if let Some(dir) = std::env::var_os("ROADSTEAD_DATA") {
        return Some(PathBuf::from(dir)).filter(has_base);
    }
    // Tests run two levels below the working copy's root, programs usually in it.
    let here = std::env::current_dir().ok()?;
    here.ancestors().skip(1).take(3).map(|above| above.join("shared/data/siftsmall")).find(has_base)
}

fn raw(source: Source, dim: usize) -> Result<RowFile, DataError> {
    RowFile::new(source, 0, 0, false, dim)
}

#[cfg(test)]
mod tests;
