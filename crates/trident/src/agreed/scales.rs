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
use crate::arithmetic::{
    oblivious,
    quantise::{Quantisation, QuantisedQuery, Significant, WorstError, power},
};

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
    use rand::SeedableRng;

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

    /// Whoever knows the exponent and guesses the shifts must not see in a digest whether the guess is right.
    #[test]
    fn scales_begin_with_what_was_drawn_and_end_with_the_exponent() {
        let quantisation = Quantisation::new(Element::F32, 2, -3);
        let of = |byte| {
            let mut rng = rand_chacha::ChaCha8Rng::from_seed([byte; 32]);
            let header = header(quantisation, &mut rng);
            assert_eq!(header[16..], (-3_i32).to_le_bytes());
            <[u8; 16]>::try_from(&header[..16]).unwrap()
        };
        let alike = of(1).iter().zip(of(2)).filter(|(one, two)| **one == *two).count();
        assert!(alike < 4, "{alike} of 16 bytes are the same in two sharings");
    }

    /// The scales of four rows of two floats, the last of which are coarser than the first.
    fn scales(shifts: [u8; 4]) -> Scales {
        let manifest = Manifest::new(SharingId([0; 16]), 4, 2, Element::F32, true).unwrap();
        let file = [&[7; 16][..], &(-3_i32).to_le_bytes(), &shifts].concat();
        Scales::parse(file, &manifest).unwrap()
    }

    #[test]
    fn a_row_has_the_unit_and_the_error_of_its_own_shift() {
        let scales = scales([0, 1, 3, 20]);
        let query = scales.quantisation().query(&[0.5, 0.25], &mut Vec::new()).unwrap();
        for (index, &shift) in scales.shifts().iter().enumerate() {
            assert_eq!(scales.unit(index), scales.unit(0) * power(shift.into()));
            assert_eq!(scales.error(query, index), scales.quantisation().error(query, shift));
        }
        assert_ne!(scales.error(query, 3), scales.error(query, 0));
    }

    #[test]
    fn people_are_told_how_many_rows_are_coarser_than_the_rest_and_by_how_much_at_most() {
        let worst = |shift| scales([shift; 4]).quantisation().worst_error(shift);
        let absolute = (1..=u8::MAX).take_while(|&shift| matches!(worst(shift), WorstError::Absolute(_)));
        let longest = absolute.last().expect("a row may be longer than the one in the middle");
        let (WorstError::Absolute(longer), WorstError::Relative(far)) = (worst(longest), worst(longest + 1))
        else {
            panic!("there are two kinds");
        };
        let said = |shifts| scales(shifts).precision().to_string();
        assert_eq!(said([0; 4]).lines().count(), 1);
        let told = said([0, 1, longest, longest + 1]);
        let lines: Vec<&str> = told.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                format!("the 2 longest of the other rows are coarser: within {}", Significant(longer)),
                format!(
                    "1 rows are longer than any query: their distances are within {} %",
                    Significant(100.0 * far)
                ),
            ]
        );
        assert!(said([1, 0, 0, 0]).contains("the 1 longest"), "the least shift that is one counts");
    }

    #[test]
    fn scales_of_bytes_have_no_shift_and_a_file_has_one_for_each_row() {
        for (element, shift, length, taken) in [
            (Element::U8, 0, 2, true),
            (Element::U8, 1, 2, false),
            (Element::F32, 1, 2, true),
            (Element::F32, 0, 1, false),
            (Element::F32, 0, 3, false),
        ] {
            let manifest = Manifest::new(SharingId([0; 16]), 2, 3, element, true).unwrap();
            let file = [&[7; 16][..], &[0; 4], &vec![shift; length]].concat();
            assert_eq!(Scales::parse(file, &manifest).is_some(), taken, "{element:?}, {shift}, {length}");
        }
        let manifest = Manifest::new(SharingId([0; 16]), 2, 3, Element::U8, true).unwrap();
        let whole = Scales::parse([&[7; 16][..], &[0; 6]].concat(), &manifest).unwrap();
        assert!(whole.precision().to_string().starts_with("distances are exact"));
    }
}
