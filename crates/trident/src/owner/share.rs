//! The owner's tool: one set of vectors into three server directories and a client directory.
//!
//! | directory | holds |
//! |---|---|
//! | `server-b` | manifest, the two components other than w_b, search shares on the line at b, two pair keys, block digests |
//! | `client` | manifest, row digests, scales, block digests |
//!
//! The manifest names the servers' public keys, if there are any: nothing of theirs is secret in it.
//!
//! Rows pass through in runs, so memory does not grow with the set. All is written aside and put in its place when it
//! is whole: a sharing that breaks off leaves what was there before.

use std::collections::BTreeMap;
use std::path::Path;

use rand::CryptoRng;

use super::data::{DataError, Rows};
use super::outputs::Outputs;
use super::splitter::Splitter;
use crate::{
    agreed::{
        integrity,
        manifest::{Element, Manifest, SharingId},
        trust::Pins,
    },
    arithmetic::quantise::Quantisation,
    entropy::{self, Entropy},
};

pub use super::error::ShareError;
pub use crate::agreed::layout::{
    CLIENT_DIR, DIGESTS_FILE, SEARCH_FILE, component_file, pair_key_file, server_dir,
};

/// What the owner chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Make search shares too. Without them rows can only be fetched, and may hold any values.
    pub search: bool,
    /// Delete a sharing that is already there.
    pub replace: bool,
    /// The public keys of the servers. Without them the sharing is for servers and clients on one machine.
    pub pins: Option<Pins>,
}

/// Shares `rows` below `out` with randomness from the system.
///
/// `progress` is called with the rows done and the rows in all.
///
/// # Errors
/// When there is a sharing already, the input cannot be read, a row cannot be searched, or a file cannot be written.
pub fn share(
    rows: &mut dyn Rows,
    out: &Path,
    options: Options,
    progress: impl FnMut(usize, usize),
) -> Result<Manifest, ShareError> {
    share_from(entropy::system, rows, out, options, progress)
}

fn share_from(
    entropy: Entropy,
    rows: &mut dyn Rows,
    out: &Path,
    options: Options,
    progress: impl FnMut(usize, usize),
) -> Result<Manifest, ShareError> {
    let mut rng = entropy::generator(entropy).map_err(|error| ShareError::Random(error.to_string()))?;
    share_with(rows, out, options, &mut rng, progress)
}

/// [`share`] with randomness from `rng`; whoever knows its seed knows everything.
///
/// # Errors
/// As [`share`].
pub fn share_with(
    rows: &mut dyn Rows,
    out: &Path,
    options: Options,
    rng: &mut impl CryptoRng,
    mut progress: impl FnMut(usize, usize),
) -> Result<Manifest, ShareError> {
    let mut sharing = SharingId([0; 16]);
    rng.fill_bytes(&mut sharing.0);
    // The shape is checked before memory is taken for its rows; what they are is not known yet.
    Manifest::new(sharing, rows.rows(), rows.dim(), Element::U8, false)?;
    let survey = Survey::of(rows)?;
    let manifest = Manifest::new(sharing, rows.rows(), rows.dim(), survey.element, options.search)?
        .with_pins(options.pins);
    let quantisation = Quantisation::new(survey.element, manifest.dim, survey.exponent());

    let mut outputs = Outputs::create(out, &manifest, options.replace, rng)?;
    outputs.put_scale(quantisation, rng);
    let mut run = vec![0.0; RUN * manifest.dim];
    let mut splitter = Splitter::new(&manifest, quantisation);
    for first in (0..manifest.rows).step_by(RUN) {
        let run = &mut run[..RUN.min(manifest.rows - first) * manifest.dim];
        rows.read(first, run)?;
        splitter.split(first, run, rng)?;
        outputs.write(&splitter)?;
        progress(first + run.len() / manifest.dim, manifest.rows);
    }
    outputs.finish(&manifest, rng)
}

/// Rows in a run: what one digest covers.
const RUN: usize = integrity::ROWS;

/// What must be known of all rows before the first is shared.
struct Survey {
    element: Element,
    /// How many rows would have which exponent, if they could choose; rows of zeros have no wish.
    exponents: BTreeMap<i32, usize>,
}

impl Survey {
    fn of(rows: &mut dyn Rows) -> Result<Self, DataError> {
        let (count, dim) = (rows.rows(), rows.dim());
        let mut survey = Self { element: Element::U8, exponents: BTreeMap::new() };
        let mut run = vec![0.0; RUN * dim];
        for first in (0..count).step_by(RUN) {
            let run = &mut run[..RUN.min(count - first) * dim];
            rows.read(first, run)?;
            // Bit by bit, so that a negative zero stays what it is.
            if !run.iter().all(|&value| f32::from(value as u8).to_bits() == value.to_bits()) {
                survey.element = Element::F32;
            }
            for row in run.chunks_exact(dim) {
                let squared = row.iter().map(|&value| f64::from(value).powi(2)).sum();
                if squared > 0.0 {
                    *survey.exponents.entry(Quantisation::exponent_for(squared)).or_default() += 1;
                }
            }
        }
        Ok(survey)
    }

    /// The exponent of the row in the middle, by length: however long the longest are, it stays what it is.
    fn exponent(&self) -> i32 {
        if self.element == Element::U8 {
            return 0;
        }
        let mut left = self.exponents.values().sum::<usize>() / 2;
        let middle = self.exponents.iter().find(|(_, rows)| match left.checked_sub(**rows) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        middle.map_or(0, |(exponent, _)| *exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::data::Generated;

    #[test]
    fn without_randomness_nothing_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("shares");
        let shared =
            share_from(entropy::tests::none, &mut Generated::new(4, 1), &out, Options::default(), |_, _| {});
        assert!(matches!(&shared, Err(ShareError::Random(why)) if why == "the pool is empty"), "{shared:?}");
        assert!(!out.exists());
    }

    /// Rows in memory.
    struct Table(Vec<Vec<f32>>);

    impl Rows for Table {
        fn rows(&self) -> usize {
            self.0.len()
        }

        fn dim(&self) -> usize {
            self.0[0].len()
        }

        fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
            let rows = self.0[first..].iter().flatten();
            out.iter_mut().zip(rows).for_each(|(out, value)| *out = *value);
            Ok(())
        }
    }

    fn survey(rows: impl IntoIterator<Item = Vec<f32>>) -> Survey {
        Survey::of(&mut Table(rows.into_iter().collect())).unwrap()
    }

    #[test]
    fn what_a_byte_cannot_say_bit_by_bit_makes_a_collection_one_of_floats() {
        let bytes: Vec<f32> = (0..=u8::MAX).map(f32::from).collect();
        assert_eq!(survey([bytes.clone()]).element, Element::U8);
        for float in [
            -0.0,
            -1.0,
            0.5,
            255_f32.next_up(),
            256.0,
            f32::from_bits(1),
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ] {
            for at in [0, 255] {
                let mut row = bytes.clone();
                row[at] = float;
                assert_eq!(survey([row]).element, Element::F32, "{float}");
            }
        }
    }

    #[test]
    fn one_float_in_any_run_of_rows_is_enough() {
        for at in [0, RUN - 1, RUN, 2 * RUN] {
            let row = |row| vec![7.0, if row == at { -0.0 } else { 0.0 }];
            assert_eq!(survey((0..=2 * RUN).map(row)).element, Element::F32, "{at}");
        }
    }

    #[test]
    fn the_scale_is_that_of_the_row_in_the_middle_by_length_and_rows_of_zeros_have_no_say() {
        let scale = |lengths: &[f32]| survey(lengths.iter().map(|&length| vec![length])).exponent();
        let of = |length: f64| Quantisation::exponent_for(length * length);
        assert_eq!(scale(&[-0.0, 0.0]), 0);
        assert_eq!(scale(&[0.5, 16.0, 0.0, 4096.0, -0.0]), of(16.0));
        assert_eq!(scale(&[0.5, 0.5, 0.5, 4096.0, 4096.0]), of(0.5));
        assert_eq!(scale(&[0.5, 0.5, 4096.0, 4096.0, 4096.0]), of(4096.0));
        assert_eq!(scale(&[0.5, 4096.0]), of(0.5), "of two in the middle it is the shorter one's");
        assert_eq!(scale(&[1.0, 200.0]), 0, "bytes are what they are");
    }
}
