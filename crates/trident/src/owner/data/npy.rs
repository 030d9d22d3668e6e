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
        return Err(
            source.malformed(format!("has a header of {length} bytes, wanted are at most {MAX_HEADER}"))
        );
    }
    let mut header = vec![0; length];
    source.read_at((8 + size) as u64, &mut header)?;
    let header = String::from_utf8_lossy(&header).into_owned();

    let array = Array::parse(&header).map_err(|what| source.malformed(what))?;
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
    /// Reads the header, or says what is there instead of what this module supports.
    pub(super) fn parse(header: &str) -> Result<Self, String> {
        let value = |key| value(header, key).ok_or_else(|| format!("has no '{key}' in its header"));
        let floats = match literal(value("descr")?, [',', '}']).as_str() {
            "'<f4'" => true,
            "'|u1'" => false,
            other => {
                return Err(format!(
                    "holds elements of type {}, wanted are '<f4' or '|u1': convert it with numpy, \
                     array.astype('<f4')",
                    other
                ));
            }
        };
        let order = literal(value("fortran_order")?, [',', '}']);
        if order != "False" {
            return Err(format!(
                "has fortran_order {}, wanted is False (a row after the other): convert it with numpy, \
                 numpy.ascontiguousarray(array)",
                order
            ));
        }
        let shape = literal(value("shape")?, [')', '}']);
        let inner = shape.strip_prefix('(').unwrap_or_default();
        let sizes: Vec<Option<usize>> =
            inner.trim_end_matches([',', ' ']).split(',').map(|size| size.trim().parse().ok()).collect();
        match sizes[..] {
            [Some(rows), Some(dim)] if rows > 0 && dim > 0 => Ok(Self { floats, rows, dim }),
            _ => Err(format!(
                "has the shape {}), wanted are two dimensions above zero: rows, and elements of a row",
                shape
            )),
        }
    }
}

/// What follows the key's colon.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// Longest part of a header that an error repeats.
const SHOWN: usize = 40;

/// What stands before the first of `ends`, fit to be shown.
fn literal(text: &str, ends: [char; 2]) -> String {
    let shown = text.chars().take_while(|letter| !ends.contains(letter)).take(SHOWN);
    let plain = |letter: char| if letter.is_ascii_graphic() { letter } else { ' ' };
    shown.map(plain).collect::<String>().trim_end().to_owned()
}
