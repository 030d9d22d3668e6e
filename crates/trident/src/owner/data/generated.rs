//! A made-up set that behaves like SIFT descriptors: 128 integers of 0 to 218, mostly small, in clusters.
//!
//! Every row comes from the seed and its own number, so that rows are made where they are needed and never stored.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DataError, Rows};

/// Elements of a row.
const DIM: usize = 128;
/// The greatest value in the SIFT sets.
const GREATEST: i32 = 218;
/// Rows near each centre, about.
const CLUSTER: usize = 100;
/// More centres than this make no difference and cost memory.
const MAX_CENTRES: usize = 4096;
/// Numbers of queries start here: no row has them.
const QUERIES: u64 = 1 << 63;

/// A seeded SIFT-like set.
pub struct Generated {
    base: ChaCha8Rng,
    centres: Vec<[u8; DIM]>,
    rows: usize,
}

impl Generated {
    /// `rows` rows from `seed`.
    pub fn new(rows: usize, seed: u64) -> Self {
        let mut base = ChaCha8Rng::seed_from_u64(seed);
        let centres = (0..rows.div_ceil(CLUSTER).clamp(1, MAX_CENTRES)).map(|_| centre(&mut base)).collect();
        Self { base, centres, rows }
    }

    /// `count` queries near the same centres, none of them a row.
    pub fn queries(&self, count: usize) -> Vec<Vec<f32>> {
        (0..count)
            .map(|number| {
                let mut out = vec![0.0; DIM];
                self.make(QUERIES + number as u64, &mut out);
                out
            })
            .collect()
    }

    fn make(&self, number: u64, out: &mut [f32]) {
        let mut rng = self.base.clone();
        // Stream 0 made the centres.
        rng.set_stream(number + 1);
        rng.set_word_pos(0);
        let centre = &self.centres[rng.next_u32() as usize % self.centres.len()];
        let mut noise = [0u8; 2 * DIM];
        rng.fill_bytes(&mut noise);
        for ((value, &middle), noise) in out.iter_mut().zip(centre).zip(noise.as_chunks::<2>().0) {
            // Four dice of sixteen sides: nearly a bell curve, of deviation 9.2.
            let dice: i32 = noise.iter().map(|byte| i32::from(byte & 15) + i32::from(byte >> 4)).sum();
            *value = (i32::from(middle) + dice - 30).clamp(0, GREATEST) as f32;
        }
    }
}

/// Cubes of uniform numbers: many small values and a few large ones.
fn centre(rng: &mut ChaCha8Rng) -> [u8; DIM] {
    std::array::from_fn(|_| {
        let uniform = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        (f64::from(GREATEST) * uniform.powi(3)) as u8
    })
}

impl Rows for Generated {
    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        for (at, out) in out.chunks_exact_mut(DIM).enumerate() {
            self.make((first + at) as u64, out);
        }
        Ok(())
    }
}
