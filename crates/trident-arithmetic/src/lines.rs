//! Cache lines: the unit in which components and search shares are kept, on disk and in memory.
//!
//! A [`Line`] holds sixteen 32-bit words, aligned so that one AVX-512 load takes it whole.
//! - Records: a group of four rows is one line per 16-byte column of the record; line `c` holds column `c` of the
//!   four rows side by side.
//! - Search shares: a block of sixteen rows is one line per element; line `j` holds element `j` of the sixteen rows.
//! - Weights of a selector: a block of sixteen rows is one line per element of the payload, likewise.
//!
//! In all, rows are lanes: the kernels need no sums across lanes until the very end.

use std::io::{self, Write};

/// Rows side by side in one group of records.
pub const GROUP: usize = 4;
/// Rows side by side in one block of search shares.
pub const BLOCK: usize = 16;
/// Bytes of one column of a record.
pub const COLUMN: usize = 16;
/// Elements of a selector's payload: one, and two secret multipliers.
pub const PAYLOAD: usize = 3;
/// Rows that one leaf of a selector stands for.
pub const ROWS_PER_LEAF: usize = 4;
/// Elements of a leaf of a selector: word `4 c + i` is element c of row i.
pub const WORDS: usize = PAYLOAD * ROWS_PER_LEAF;
/// Bytes of a line.
pub const LINE: usize = 64;

/// Sixteen 32-bit words, aligned to their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

impl Line {
    /// Reads a line from its little-endian bytes.
    fn from_bytes(bytes: &[u8; LINE]) -> Self {
        let mut line = Self::default();
        for (word, bytes) in line.0.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        line
    }

    /// The little-endian bytes of a line.
    fn to_bytes(self) -> [u8; LINE] {
        let mut bytes = [0; LINE];
        for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }
}

/// Lines in one transfer: 64 KiB at a time keeps memory small and system calls few.
const TRANSFER: usize = 1024;

/// Decodes whole lines from `bytes`.
pub fn decode(bytes: &[u8], lines: &mut [Line]) {
    for (line, bytes) in lines.iter_mut().zip(bytes.as_chunks::<LINE>().0) {
        *line = Line::from_bytes(bytes);
    }
}

/// Writes `lines` to `sink`.
///
/// # Errors
/// What writing reports.
pub fn write(sink: &mut impl Write, lines: &[Line]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(TRANSFER.min(lines.len()) * LINE);
    for lines in lines.chunks(TRANSFER) {
        bytes.clear();
        for line in lines {
            bytes.extend_from_slice(&line.to_bytes());
        }
        sink.write_all(&bytes)?;
    }
    Ok(())
}

/// Puts `record` (whole columns, up to the width of the group) into row `row` of a group of lines.
pub fn put_record(group: &mut [Line], row: usize, record: &[u8]) {
    for (line, column) in group.iter_mut().zip(record.as_chunks::<COLUMN>().0) {
        for (word, bytes) in line.0[4 * row..].iter_mut().zip(column.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_file() {
        for count in [0, 1, TRANSFER - 1, TRANSFER, TRANSFER + 1] {
            let lines: Vec<Line> =
                (0..count as u32).map(|i| Line(std::array::from_fn(|j| i * 16 + j as u32))).collect();
            let mut file = Vec::new();
            write(&mut file, &lines).unwrap();
            assert_eq!(file.len(), count * LINE);
            let mut back = vec![Line::default(); count];
            decode(&file, &mut back);
            assert_eq!(back, lines);
        }
    }
}
