//! Rows into shares, in memory.

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::error::ShareError;
use crate::{
    agreed::manifest::Manifest,
    arithmetic::{
        check::{SALT, row_digest},
        field::from_signed,
        lines::{self, BLOCK, COLUMN, GROUP, Line},
        quantise::{Quantisation, QuantiseError, QuantisedRow},
        shamir,
    },
};

/// Splits runs of rows into components and search shares.
pub(crate) struct Splitter<'a> {
    manifest: &'a Manifest,
    quantisation: Quantisation,
    pub(crate) components: [Vec<Line>; 3],
    pub(crate) shares: [Vec<Line>; 3],
    pub(crate) digests: Vec<u8>,
    pub(crate) shifts: Vec<u8>,
    quantised: Vec<i32>,
}

impl<'a> Splitter<'a> {
    pub(crate) fn new(manifest: &'a Manifest, quantisation: Quantisation) -> Self {
        Self {
            manifest,
            quantisation,
            components: Default::default(),
            shares: Default::default(),
            digests: Vec::new(),
            shifts: Vec::new(),
            quantised: Vec::new(),
        }
    }

    /// Splits the rows from `first` on.
    pub(crate) fn split(
        &mut self,
        first: usize,
        run: &[f32],
        rng: &mut impl CryptoRng,
    ) -> Result<(), ShareError> {
        let count = run.len() / self.manifest.dim;
        self.digests.clear();
        for component in &mut self.components {
            component.clear();
            component.resize(count.div_ceil(GROUP) * self.manifest.record_width(), Line::default());
        }
        for (at, row) in run.chunks_exact(self.manifest.dim).enumerate() {
            self.split_record(first, at, row, rng);
        }
        self.shifts.clear();
        if self.manifest.search {
            for shares in &mut self.shares {
                shares.clear();
                shares.resize(count.div_ceil(BLOCK) * self.manifest.search_width(), Line::default());
            }
            for (at, row) in run.chunks_exact(self.manifest.dim).enumerate() {
                self.split_row(at, row, rng).map_err(|error| ShareError::Row { row: first + at, error })?;
            }
        }
        Ok(())
    }

    /// Row and salt as the XOR of three components, two of them random.
    fn split_record(&mut self, first: usize, at: usize, row: &[f32], rng: &mut impl CryptoRng) {
        let width = self.manifest.record_width();
        let mut salt = [0; SALT];
        rng.fill_bytes(&mut salt);
        let mut record = Zeroizing::new(Vec::with_capacity(width * COLUMN));
        self.manifest.element.encode(row, &mut record);
        self.digests.extend_from_slice(&row_digest(&self.manifest.sharing, first + at, &salt, &record));
        record.extend_from_slice(&salt);
        record.resize(width * COLUMN, 0);

        let mut random = Zeroizing::new(vec![0; 2 * record.len()]);
        rng.fill_bytes(&mut random);
        let (one, two) = random.split_at(record.len());
        for ((byte, a), b) in record.iter_mut().zip(one).zip(two) {
            *byte ^= a ^ b;
        }
        for (component, bytes) in self.components.iter_mut().zip([one, two, &record]) {
            lines::put_record(&mut component[at / GROUP * width..][..width], at % GROUP, bytes);
        }
    }

    /// The quantised row and its extra column as points on lines.
    fn split_row(&mut self, at: usize, row: &[f32], rng: &mut impl CryptoRng) -> Result<(), QuantiseError> {
        let QuantisedRow { norm, shift } = self.quantisation.row(row, &mut self.quantised)?;
        self.shifts.push(shift);
        let width = self.manifest.search_width();
        let elements = self.quantised.iter().map(|&value| from_signed(value.into())).chain([norm]);
        for (column, element) in elements.enumerate() {
            for (shares, share) in self.shares.iter_mut().zip(shamir::share(element, rng)) {
                shares[at / BLOCK * width + column].0[at % BLOCK] = share;
            }
        }
        Ok(())
    }
}
