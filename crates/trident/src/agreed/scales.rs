//! The scales of a collection, which its clients hold and no server: one for queries, and a shift for every row.
//!
//! In the client's directory: 16 random bytes, without which nobody can tell from a digest of the file what is in it;
//! the exponent of the collection as a little-endian 32-bit integer; and the shift of every row, one byte each.

use std::fmt;
use std::path::Path;

use rand::CryptoRng;

use super::integrity::{Contents, Directory};
use super::layout::SCALES_HEADER;
use super::manifest::{Element, Manifest};
use super::reading::StoreError;
use crate::arithmetic::oblivious;
use crate::arithmetic::quantise::{Quantisation, QuantisedQuery, Significant, WorstError, power};

pub use super::layout::SCALES_FILE;

/// The scales of a collection that can be searched.
#[derive(Debug, PartialEq)]
pub struct Scales {
    quantisation: Quantisation,
    shifts: Vec<u8>,
}

/// What the file begins with.
pub(crate) fn header(quantisation: Quantisation, rng: &mut impl CryptoRng) -> [u8; SCALES_HEADER] {
    let mut header = [0; SCALES_HEADER];
    rng.fill_bytes(&mut header[..16]);
    header[16..].copy_from_slice(&quantisation.exponent().to_le_bytes());
    header
}

impl Scales {
    /// Bytes of the file of a collection.
    pub fn file_len(manifest: &Manifest) -> usize {
        SCALES_HEADER + manifest.rows
    }

    /// Reads the scales among the files of the client's directory `dir`.
    pub(crate) fn load(
        files: &mut Directory<'_>,
        dir: &Path,
        manifest: &Manifest,
    ) -> Result<Self, StoreError> {
        let mut bytes: Vec<u8> = files.room(Contents::Scales, Self::file_len(manifest))?;
        files.read(Contents::Scales, |read| bytes.extend_from_slice(read))?;
        Self::parse(bytes, manifest).ok_or(StoreError::Scales { path: dir.join(SCALES_FILE) })
    }

    /// Reads the bytes of the file; `None` when they are not those of any collection with this manifest.
    pub fn parse(mut bytes: Vec<u8>, manifest: &Manifest) -> Option<Self> {
        if bytes.len() != Self::file_len(manifest) {
            return None;
        }
        let exponent = i32::from_le_bytes(*bytes[16..].first_chunk()?);
        bytes.drain(..SCALES_HEADER);
        let greatest = if manifest.element == Element::U8 { 0 } else { Quantisation::MAX_EXPONENT };
        let whole = manifest.element == Element::F32 || bytes.iter().all(|&shift| shift == 0);
        let quantisation = Quantisation::new(manifest.element, manifest.dim, exponent);
        (whole && (-greatest..=greatest).contains(&exponent)).then_some(Self { quantisation, shifts: bytes })
    }

    /// How queries become integers.
    pub fn quantisation(&self) -> Quantisation {
        self.quantisation
    }

    /// The shift of every row.
    pub fn shifts(&self) -> &[u8] {
        &self.shifts
    }

    /// The unit that the elements of row `index` are rounded to.
    pub fn unit(&self, index: usize) -> f64 {
        self.quantisation.step() * power(self.shift(index).into())
    }

    /// How far the distance of row `index` to a query can be from the true one, at most.
    pub fn error(&self, query: QuantisedQuery, index: usize) -> f64 {
        self.quantisation.error(query, self.shift(index))
    }

    fn shift(&self, index: usize) -> u8 {
        oblivious::pick(self.shifts.as_chunks::<1>().0, index)[0]
    }

    /// How exact the distances of this collection are, for people.
    pub fn precision(&self) -> Precision {
        let mut rows = [0; 256];
        self.shifts.iter().for_each(|&shift| rows[usize::from(shift)] += 1);
        let errors = rows.iter().zip(0..=u8::MAX).filter(|(count, _)| **count > 0);
        let mut precision = Precision { quantisation: self.quantisation, longer: (0, 0.0), far: (0, 0.0) };
        for (&count, shift) in errors.skip_while(|(_, shift)| *shift == 0) {
            let (kind, error) = match self.quantisation.worst_error(shift) {
                WorstError::Absolute(error) => (&mut precision.longer, error),
                WorstError::Relative(error) => (&mut precision.far, error),
            };
            *kind = (kind.0 + count, kind.1.max(error));
        }
        precision
    }
}

/// How exact the distances of a collection are: a few lines of text.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    quantisation: Quantisation,
    /// Rows that are coarser than the rest, and the greatest error of their distances.
    longer: (usize, f64),
    /// Rows that are longer than any query, and the greatest error as a part of their distances.
    far: (usize, f64),
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = Significant(self.quantisation.longest_query());
        match self.quantisation.worst_error(0) {
            WorstError::Absolute(error) if error > 0.0 => {
                write!(f, "a distance is within {} of the true one", Significant(error))?;
            }
            _ => write!(f, "distances are exact (elements of a query are rounded to whole numbers)")?,
        }
        write!(f, "; a query may have a length of up to {longest}")?;
        let (rows, error) = self.longer;
        if rows > 0 {
            write!(f, "\nthe {rows} longest of the other rows are coarser: within {}", Significant(error))?;
        }
        let (rows, error) = self.far;
        if rows > 0 {
            let percent = Significant(100.0 * error);
            write!(f, "\n{rows} rows are longer than any query: their distances are within {percent} %")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreed::manifest::SharingId;

    #[test]
    fn an_exponent_that_no_collection_has_is_refused() {
        let most = Quantisation::MAX_EXPONENT;
        for (element, exponent, taken) in [
            (Element::F32, most, true),
            (Element::F32, most + 1, false),
            (Element::F32, i32::MAX, false),
            (Element::F32, -most, true),
            (Element::F32, -most - 1, false),
            (Element::F32, i32::MIN, false),
            (Element::U8, 0, true),
            (Element::U8, 1, false),
            (Element::U8, -1, false),
        ] {
            let manifest = Manifest::new(SharingId([0; 16]), 2, 3, element, true).unwrap();
            let file = [&[7; 16][..], &exponent.to_le_bytes(), &[0; 2]].concat();
            assert_eq!(Scales::parse(file, &manifest).is_some(), taken, "{element:?}, {exponent}");
        }
    }
}
