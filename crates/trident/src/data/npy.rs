//! NumPy's array format, as far as vectors need it: two dimensions in C order, `<f4` or `|u1`.
//!
//! Magic, version, length of the header, and the header: a Python dictionary literal (NumPy Enhancement Proposal 1).

use super::{DataError, RowFile, Source};

/// Longest header that is read; NumPy itself writes far less.
const MAX_HEADER: usize = 4096;

/// Rows of an array file.
pub(super) fn npy(mut source: Source) -> Result<RowFile, DataError> {
    let mut magic = [0; 8];
    source.read_at(0, &mut magic)?;
    if !magic.starts_with(b"\x93NUMPY") {
        return Err(source.malformed("does not start as an npy file does"));
    }
    let mut length = [0; 4];
    let size = if magic[6] == 1 { 2 } else { 4 };
    source.read_at(8, &mut length[..size])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(source.malformed(format!("has a header of {length} bytes, more than {MAX_HEADER}")));
    }
    let mut header = vec![0; length];
    source.read_at((8 + size) as u64, &mut header)?;
    let header = String::from_utf8_lossy(&header).into_owned();

    let Some(array) = Array::parse(&header) else {
        return Err(
            source.malformed("needs two dimensions in C order of '<f4' or '|u1'; convert it with numpy")
        );
    };
    let file = RowFile::new(source, (8 + size + length) as u64, 0, array.floats, array.dim)?;
    if file.rows != array.rows {
        return Err(file
            .source
            .malformed(format!("holds {} rows, its header says {}", file.rows, array.rows)));
    }
    Ok(file)
}

#[derive(Debug, PartialEq)]
pub(super) struct Array {
    pub(super) floats: bool,
    pub(super) rows: usize,
    pub(super) dim: usize,
}

impl Array {
    /// Reads the header; `None` for anything but what this module supports.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let floats = match value(header, "descr")?.trim_start().get(..5)? {
            "'<f4'" => true,
            "'|u1'" => false,
            _ => return None,
        };
        if !value(header, "fortran_order")?.trim_start().starts_with("False") {
            return None;
        }
        let (shape, _) = value(header, "shape")?.trim_start().strip_prefix('(')?.split_once(')')?;
        let mut sizes = shape.trim_end_matches([',', ' ']).split(',').map(|size| size.trim().parse().ok());
        match (sizes.next(), sizes.next(), sizes.next()) {
            (Some(Some(rows)), Some(Some(dim)), None) => Some(Self { floats, rows, dim }),
            _ => None,
        }
    }
}

/// What follows the key's colon.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    rest.trim_start().strip_prefix(':')
}
