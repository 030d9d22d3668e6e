//! Rows and queries as small integers, so that scores modulo p are scores.
//!
//! The score of a row x for a query q is `|x|² - 2<q, x>`: the squared distance without `|q|²`. It lies between `-|q|²`
//! and `|x|² + 2|q||x|`; both must stay within ±p/2. Bytes are taken as they are. Floats are multiplied by a power of
//! two, so that rounding is the only loss and the manifest tells the servers no more than the order of magnitude of the
//! longest row.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::field::P;
use crate::manifest::Element;

/// Length that the longest float row may have after scaling.
const LONGEST_ROW: f64 = 14_000.0;
/// A float query may be this many times as long as the longest row.
const QUERY_HEADROOM: f64 = 2.0;

/// How rows became integers: multiplied by 2^exponent and rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantisation {
    /// The exponent of the scale; 0 for bytes.
    pub exponent: i32,
}

/// Why a vector cannot be quantised.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum QuantiseError {
    /// A value is infinite or not a number.
    #[error("element {at} is not a finite number")]
    NotFinite {
        /// Position in the vector.
        at: usize,
    },
    /// The vector is too long for scores to stay within the field.
    #[error("its squared norm is {norm}, scores stay within the field up to {limit}")]
    TooLong {
        /// Squared norm after scaling.
        norm: f64,
        /// Greatest squared norm after scaling.
        limit: f64,
    },
}

impl Quantisation {
    /// Greatest magnitude of the exponent.
    pub const MAX_EXPONENT: i32 = 140;

    /// The quantisation of a collection whose longest row has squared norm `longest`.
    pub fn choose(element: Element, longest: f64) -> Self {
        match element {
            Element::U8 => Self { exponent: 0 },
            // Rows of zeros have no scale of their own.
            Element::F32 if longest == 0.0 => Self { exponent: 0 },
            Element::F32 => {
                let exponent = (LONGEST_ROW / longest.sqrt()).log2().floor() as i32;
                Self { exponent: exponent.clamp(-Self::MAX_EXPONENT, Self::MAX_EXPONENT) }
            }
        }
    }

    /// The factor between a vector and its quantised form.
    pub fn scale(self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// Quantises a row into `out` and returns its squared norm.
    ///
    /// # Errors
    /// When a value is not finite or scores of the row could reach p/2.
    pub fn row(self, element: Element, row: &[f32], out: &mut Vec<i32>) -> Result<u32, QuantiseError> {
        let norm = self.round(row, out)?;
        let query = query_limit(element, row.len());
        let half = f64::from(P / 2);
        // The greatest n with n + 2 sqrt(n q) < half, by completing the square; none when queries alone reach p/2.
        let limit = if query < half { ((half + query).sqrt() - query.sqrt()).powi(2) } else { 0.0 };
        if norm >= limit { Err(QuantiseError::TooLong { norm, limit }) } else { Ok(norm as u32) }
    }

    /// Quantises a query into `out` and returns its squared norm.
    ///
    /// # Errors
    /// When a value is not finite or the query is so long that scores could reach p/2.
    pub fn query(self, element: Element, query: &[f32], out: &mut Vec<i32>) -> Result<u32, QuantiseError> {
        let norm = self.round(query, out)?;
        let limit = query_limit(element, query.len());
        if norm > limit { Err(QuantiseError::TooLong { norm, limit }) } else { Ok(norm as u32) }
    }

    fn round(self, vector: &[f32], out: &mut Vec<i32>) -> Result<f64, QuantiseError> {
        let scale = self.scale();
        out.clear();
        let mut norm = 0.0;
        for (at, &value) in vector.iter().enumerate() {
            if !value.is_finite() {
                return Err(QuantiseError::NotFinite { at });
            }
            let scaled = (f64::from(value) * scale).round();
            norm += scaled * scaled;
            // Saturates where the norm is refused anyway.
            out.push(scaled as i32);
        }
        Ok(norm)
    }
}

/// Greatest squared norm of a quantised query: any bytes, or [`QUERY_HEADROOM`] times the longest float row.
fn query_limit(element: Element, dim: usize) -> f64 {
    match element {
        Element::U8 => 255.0 * 255.0 * dim as f64,
        Element::F32 => (LONGEST_ROW * QUERY_HEADROOM).powi(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: Quantisation = Quantisation { exponent: 0 };

    fn worst_score(norm: u32, query: f64) -> f64 {
        f64::from(norm) + 2.0 * (f64::from(norm) * query).sqrt()
    }

    #[test]
    fn bytes_are_taken_as_they_are_until_scores_could_reach_half_the_field() {
        let mut out = Vec::new();
        assert_eq!(BYTES.row(Element::U8, &[0.0, 3.0, 255.0], &mut out), Ok(65_034));
        assert_eq!(out, [0, 3, 255]);
        // All 255: 3 * 255² * dim reaches p/2 between these.
        let longest = (f64::from(P / 2) / (3.0 * 255.0 * 255.0)) as usize;
        assert!(BYTES.row(Element::U8, &vec![255.0; longest], &mut out).is_ok());
        assert!(BYTES.row(Element::U8, &vec![255.0; longest + 1], &mut out).is_err());
        // So many dimensions that a query alone could reach it.
        assert!(BYTES.row(Element::U8, &vec![0.0; 16_384], &mut out).is_ok());
        assert!(BYTES.row(Element::U8, &vec![0.0; 16_600], &mut out).is_err());
        assert_eq!(BYTES.query(Element::U8, &[f32::NAN], &mut out), Err(QuantiseError::NotFinite { at: 0 }));
        assert!(BYTES.query(Element::U8, &[256.0], &mut out).is_err());
    }

    proptest! {
        #[test]
        fn the_longest_float_row_fits_and_uses_the_range(
            row in prop::collection::vec(-1.0f32..1.0, 1..300),
            magnitude in -30i32..30,
        ) {
            let row: Vec<f32> = row.iter().map(|value| value * 2f32.powi(magnitude)).collect();
            let longest: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
            prop_assume!(longest > 0.0);
            let quantisation = Quantisation::choose(Element::F32, longest);
            let mut out = Vec::new();
            let norm = quantisation.row(Element::F32, &row, &mut out).unwrap();
            prop_assert!(norm > 40_000_000);
            prop_assert!(worst_score(norm, query_limit(Element::F32, row.len())) < f64::from(P / 2));
            prop_assert!(quantisation.query(Element::F32, &row, &mut out).is_ok());
        }
    }
}
