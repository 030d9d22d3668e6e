//! The TEXMEX formats: every row is its dimension as a little-endian 32-bit integer, then its elements, 32 bits each.

use std::path::Path;

use super::{DataError, RowFile, Source};
use crate::agreed::manifest::MAX_DIM;

/// Rows of floats.
pub(super) fn fvecs(mut source: Source) -> Result<RowFile, DataError> {
    let dim = dimension(&mut source)?;
    RowFile::new(source, 0, 4, true, dim)
}

/// Reads a file of integer rows, such as true neighbours.
///
/// # Errors
/// When the file cannot be read or is malformed.
pub fn read_ivecs(path: &Path) -> Result<Vec<Vec<u32>>, DataError> {
    let mut source = Source::open(path)?;
    let dim = dimension(&mut source)?;
    // Its shape is that of a file of floats; only the elements are read otherwise.
    let rows = RowFile::new(source, 0, 4, true, dim)?.rows;
    let mut source = Source::open(path)?;
    let mut bytes = vec![0; 4 + 4 * dim];
    (0..rows)
        .map(|row| {
            source.read_at((row * bytes.len()) as u64, &mut bytes)?;
            let (words, _) = bytes.as_chunks();
            if words[0] != (dim as u32).to_le_bytes() {
                return Err(source.malformed(format!("row {row} is not of dimension {dim}")));
            }
            Ok(words[1..].iter().map(|word| u32::from_le_bytes(*word)).collect())
        })
        .collect()
}

fn dimension(source: &mut Source) -> Result<usize, DataError> {
    let mut bytes = [0; 4];
    source.read_at(0, &mut bytes)?;
    let dim = u32::from_le_bytes(bytes) as usize;
    if dim == 0 || dim > MAX_DIM {
        return Err(source.malformed(format!("starts with dimension {dim}, wanted are 1 to {MAX_DIM}")));
    }
    Ok(dim)
}
