//! Rows and queries as small integers, so that scores modulo p are scores.
//!
//! # Scales
//! Lengths are counted in *steps* of 2^-f, one f for the collection. A query q becomes the integers `Q = round(2^f q)`.
//! A row x has a *shift* s of its own and becomes `X = round(2^(f-s) x)`, with the extra column `N = 2^s |X|²`, so that
//!
//! ```text
//! score = N - 2<Q, X>        2^s score + |Q|² = |2^s X - Q|²
//! ```
//!
//! is exactly the squared distance, in steps, between the rounded row and the rounded query. Scores are right modulo p
//! while `N + 2 L |X| < p/2`, where L is the length of the longest query; s is the least shift for which that holds. It
//! grows with the square of the row's length, so one long row costs no other row a bit.
//!
//! f is chosen by the middle row of the collection, which has at most `MIDDLE_ROW` steps; L is `HEADROOM` times that.
//! For bytes f and all shifts are 0, L is the longest query of bytes, and longer rows are refused.
//!
//! Above `OWN_NORM` a row is more than three times as long as the longest query, and X may have too few bits to tell
//! its length (all of them may round to zero). Its extra column is then that of the row itself, `round(2^-s |2^f x|²)`.
//!
//! f and the shifts are the client's alone.
//!
//! # How far a distance can be from the true one
//! Rounding moves an element by half of its unit, so with d elements a query moves by at most `√d/2` steps and a row by
//! at most `2^s √d/2`. By the triangle inequality that is what their distance changes by:
//!
//! ```text
//! |found - true| <= (1 + 2^s) √d/2 steps                                   s <= 5
//! ```
//!
//! Above, `found² = |2^f x|² + |Q|² - 2<Q, 2^s X> ± 2^s/2` differs from `|2^f x - Q|²` by at most `|Q| 2^s √d + 2^s/2`.
//! The row has at least `y` steps, or it had fitted with a smaller shift; their distance is at least `y - |Q|`, and a
//! difference of squares is divided by the sum of their roots:
//!
//! ```text
//! |found - true| <= √d/2 + (|Q| 2^s √d + 2^s/2) / (y - |Q|) steps          s > 5
//! y = √(L² + 15/16 2^(s-1) p/2) - L
//! ```
//!
//! (15/16 covers the rounding within that test: `L√d + y√d + 8d` for any d up to 2^14.) As y is at least 3L, and
//! 2^s about y² / 2^29, that is below a twentieth of the distance. Such a distance cannot come out imaginary either, so
//! whatever the row, `2^s score + |Q|² >= 0`.

use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;
use zeroize::Zeroize;

use super::element::Element;
use super::field::P;

/// Steps that the middle float row has at most: with queries of `HEADROOM` times that, just below p/2.
const MIDDLE_ROW: f64 = 10_900.0;
/// A float query may be this many times as long as the middle row.
const HEADROOM: f64 = 4.0;
/// Greatest shift with which the extra column is the squared norm of the rounded row.
const OWN_NORM: u8 = 5;
/// What scores stay below.
const HALF: f64 = (P / 2) as f64;

/// How rows and queries become integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantisation {
    element: Element,
    dim: usize,
    exponent: i32,
}

/// What a row has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantisedRow {
    /// The extra column.
    pub norm: u32,
    /// By how many bits it is coarser than a query.
    pub shift: u8,
}

/// What a query has become.
#[derive(Clone, Copy, Debug, PartialEq, Zeroize)]
pub struct QuantisedQuery {
    /// Squared length in steps, an integer.
    pub squared: f64,
    /// How far rounding has moved it, in steps.
    pub moved: f64,
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
    #[error(
        "its length (the root of the sum of its squares) is {}, searches of this collection take up to {}",
        Significant(*length), Significant(*limit)
    )]
    TooLong {
        /// Its length.
        length: f64,
        /// The greatest length.
        limit: f64,
    },
}

impl Quantisation {
    /// Greatest magnitude of the exponent f: all rows of the least floats.
    pub const MAX_EXPONENT: i32 = 170;

    /// With the exponent `exponent`, which is 0 for bytes.
    pub fn new(element: Element, dim: usize, exponent: i32) -> Self {
        Self { element, dim, exponent }
    }

    /// The greatest exponent with which a float row of squared norm `squared` has no more steps than the middle one
    /// may.
    pub fn exponent_for(squared: f64) -> i32 {
        let exponent = (MIDDLE_ROW / squared.sqrt()).log2().floor() as i32;
        exponent.clamp(-Self::MAX_EXPONENT, Self::MAX_EXPONENT)
    }

    /// The exponent f of the scale.
    pub fn exponent(&self) -> i32 {
        self.exponent
    }

    /// The length of a step.
    pub fn step(&self) -> f64 {
        power(-self.exponent)
    }

    /// Quantises a row into `out`.
    ///
    /// # Errors
    /// When a value is not finite or no shift keeps scores of the row below p/2.
    pub fn row(&self, row: &[f32], out: &mut Vec<i32>) -> Result<QuantisedRow, QuantiseError> {
        let squared = squared(row)? * power(2 * self.exponent);
        let longest = self.longest_squared_query();
        let greatest = if self.element == Element::U8 { 0 } else { u8::MAX };
        let least = ((squared + 2.0 * (squared * longest).sqrt()) / HALF).log2().ceil().max(0.0);
        for shift in least as u64..=greatest.into() {
            let shift = shift as u8;
            let rounded = self.round(row, shift, out);
            let norm = if shift <= OWN_NORM {
                rounded * power(shift.into())
            } else {
                (squared / power(shift.into())).round()
            };
            if norm + 2.0 * (rounded * longest).sqrt() < HALF {
                return Ok(QuantisedRow { norm: norm as u32, shift });
            }
        }
        let limit = (longest + HALF * power(greatest.into())).sqrt() - longest.sqrt();
        Err(QuantiseError::TooLong { length: squared.sqrt() * self.step(), limit: limit * self.step() })
    }

    /// Quantises a query into `out`.
    ///
    /// # Errors
    /// When a value is not finite or the query is so long that scores could reach p/2.
    pub fn query(&self, query: &[f32], out: &mut Vec<i32>) -> Result<QuantisedQuery, QuantiseError> {
        let length = squared(query)?.sqrt();
        let squared = self.round(query, 0, out);
        if squared > self.longest_squared_query() {
            return Err(QuantiseError::TooLong { length, limit: self.longest_query() });
        }
        let scale = power(self.exponent);
        let moved =
            |(&value, &rounded): (&f32, &i32)| (f64::from(value) * scale - f64::from(rounded)).powi(2);
        let moved = query.iter().zip(out.iter()).map(moved).sum::<f64>().sqrt();
        Ok(QuantisedQuery { squared, moved })
    }

    /// The length of the longest query.
    pub fn longest_query(&self) -> f64 {
        self.longest_squared_query().sqrt() * self.step()
    }

    /// What the score of a row with that shift can be for a query of that squared length in steps.
    pub fn scores(&self, squared: f64, shift: u8) -> RangeInclusive<i32> {
        let least = -whole(squared / power(shift.into()));
        let greatest = if shift <= OWN_NORM {
            // The longest row with this shift, opposite to the query.
            let longest = self.longest_squared_query();
            let scale = power(shift.into());
            let row = ((longest + scale * HALF).sqrt() - longest.sqrt()) / scale;
            scale * row * row + 2.0 * squared.sqrt() * row
        } else {
            HALF
        };
        let below = whole(greatest);
        least..=below + i32::from(f64::from(below) < greatest)
    }

    /// How far the distance between a row with that shift and a query can be from the true one, at most.
    pub fn error(&self, query: QuantisedQuery, shift: u8) -> f64 {
        let moved = self.row_moves(shift);
        let row = if shift <= OWN_NORM {
            moved
        } else {
            let length = query.squared.sqrt();
            (2.0 * length * moved + power(shift.into()) / 2.0) / (self.shortest_row(shift) - length)
        };
        (row + query.moved) * self.step()
    }

    /// How far the distances of a row with that shift can be from the true ones, at most, whatever the query.
    pub fn worst_error(&self, shift: u8) -> WorstError {
        let squared = self.longest_squared_query();
        let query = QuantisedQuery { squared, moved: self.row_moves(0) };
        let error = self.error(query, shift);
        if shift <= OWN_NORM {
            WorstError::Absolute(error)
        } else {
            WorstError::Relative(error / self.step() / (self.shortest_row(shift) - squared.sqrt()))
        }
    }

    /// How far rounding moves a row with that shift, at most, in steps.
    fn row_moves(&self, shift: u8) -> f64 {
        match self.element {
            Element::U8 => 0.0,
            Element::F32 => (self.dim as f64).sqrt() / 2.0 * power(shift.into()),
        }
    }

    /// Steps that a row with that shift above `OWN_NORM` has at least.
    fn shortest_row(&self, shift: u8) -> f64 {
        let longest = self.longest_squared_query();
        (longest + 15.0 / 16.0 * power(i32::from(shift) - 1) * HALF).sqrt() - longest.sqrt()
    }

    /// Greatest squared norm of a query, in steps.
    fn longest_squared_query(&self) -> f64 {
        match self.element {
            Element::U8 => 255.0 * 255.0 * self.dim as f64,
            Element::F32 => (HEADROOM * MIDDLE_ROW).powi(2),
        }
    }

    /// Rounds a vector to units of `2^shift` steps, and returns the squared norm of the integers.
    fn round(&self, vector: &[f32], shift: u8, out: &mut Vec<i32>) -> f64 {
        let scale = power(self.exponent - i32::from(shift));
        out.clear();
        let mut norm = 0.0;
        for &value in vector {
            let scaled = f64::from(value) * scale;
            // The greatest number below a half: a half itself would carry its own neighbour to one.
            let rounded = whole(scaled + 0.5_f64.next_down().copysign(scaled));
            norm += f64::from(rounded) * f64::from(rounded);
            out.push(rounded);
        }
        norm
    }
}

/// How far distances can be from the true ones.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum WorstError {
    /// By this length.
    Absolute(f64),
    /// By this part of the distance.
    Relative(f64),
}

/// The integer part of a number. It saturates, at what is refused wherever this is used. There is no branch in it, as
/// there is in `f64::trunc` on machines that have no instruction for that.
fn whole(number: f64) -> i32 {
    number as i32
}

/// 2^exponent, of a number that needs no more than the exponent of its bits; so no table is looked into.
pub fn power(exponent: i32) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent));
    f64::from_bits(u64::from((1023 + exponent) as u32) << 52)
}

/// The squared norm of a vector.
fn squared(vector: &[f32]) -> Result<f64, QuantiseError> {
    match vector.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(QuantiseError::NotFinite { at }),
        None => Ok(vector.iter().map(|&value| f64::from(value).powi(2)).sum()),
    }
}

/// A number with four significant digits, and with an exponent where it would be long without.
#[derive(Clone, Copy, Debug)]
pub struct Significant(pub f64);

impl fmt::Display for Significant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.3e}", self.0);
        // Read again without the zeros at its end.
        let rounded: f64 = text.parse().unwrap_or(self.0);
        if rounded == 0.0 || (1.0e-4..1.0e9).contains(&rounded.abs()) {
            write!(f, "{rounded}")
        } else {
            write!(f, "{rounded:e}")
        }
    }
}

#[cfg(test)]
mod tests;
