//! What a client checks before it believes an answer.
//!
//! A verdict names the check that failed, never a culprit: three answers are added before they are checked, and the sum
//! does not tell whose part was wrong.

use std::ops::RangeInclusive;

use thiserror::Error;

use super::digest::SharingId;
use super::field::mul;

/// Bytes of the secret salt in a record.
pub const SALT: usize = 16;
/// Bytes of a row digest.
pub const ROW_DIGEST: usize = 16;

/// A check that refused an answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Check {
    /// The bytes are not those that the owner shared under this index.
    #[error("row digest")]
    RowDigest,
    /// A score or an element and its first secret multiple disagree.
    #[error("first multiple (D1)")]
    FirstMultiple,
    /// A score or an element and its second secret multiple disagree.
    #[error("second multiple (D2)")]
    SecondMultiple,
    /// An element of a row of bytes is none.
    #[error("elements are bytes")]
    Byte,
    /// A score that no row can have: its squared distance would be below zero, or beyond that of the longest row.
    #[error("scores are those of possible distances")]
    Distance,
}

/// BLAKE3-128 of (sharing, index, salt, row). The secret salt keeps digests from confirming guesses of rows.
pub fn row_digest(sharing: &SharingId, index: usize, salt: &[u8; SALT], row: &[u8]) -> [u8; ROW_DIGEST] {
    let mut hasher = blake3::Hasher::new_derive_key("roadstead trident row digest v1");
    hasher.update(&sharing.0);
    hasher.update(&(index as u64).to_le_bytes());
    hasher.update(salt);
    hasher.update(row);
    let mut digest = [0; ROW_DIGEST];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

/// Checks that every score carries both of its multiples. A change of the three that was made without knowing the
/// multipliers passes with a probability below 2^-61.
///
/// # Errors
/// The check that failed.
pub fn multiples(scores: &[u32], first: (u32, &[u32]), second: (u32, &[u32])) -> Result<(), Check> {
    let holds = |(multiplier, multiples): (u32, &[u32])| {
        scores.len() == multiples.len()
            && scores
                .iter()
                .zip(multiples)
                .fold(true, |holds, (&score, &multiple)| holds & (mul(multiplier, score) == multiple))
    };
    if !holds(first) {
        Err(Check::FirstMultiple)
    } else if !holds(second) {
        Err(Check::SecondMultiple)
    } else {
        Ok(())
    }
}

/// Checks that every score is within the range of its row's shift.
///
/// # Errors
/// [`Check::Distance`].
pub fn possible(scores: &[i32], shifts: &[u8], ranges: &[RangeInclusive<i32>]) -> Result<(), Check> {
    let possible = |(score, &shift): (&i32, &u8)| ranges[usize::from(shift)].contains(score);
    let all = scores.iter().zip(shifts).fold(true, |all, row| all & possible(row));
    if all { Ok(()) } else { Err(Check::Distance) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::P;

    #[test]
    fn every_score_has_both_of_its_multiples_and_no_more_and_no_fewer() {
        let scores = [0, 1, P - 1];
        let of = |multiplier| scores.map(|score| mul(multiplier, score));
        let (first, second) = (of(5), of(7));
        let check = |first: &[u32], second: &[u32]| multiples(&scores, (5, first), (7, second));
        assert_eq!(check(&first, &second), Ok(()));
        for at in 0..3 {
            let wrong = |mut multiples: [u32; 3]| {
                multiples[at] = (multiples[at] + 1) % P;
                multiples
            };
            assert_eq!(check(&wrong(first), &second), Err(Check::FirstMultiple));
            assert_eq!(check(&first, &wrong(second)), Err(Check::SecondMultiple));
            assert_eq!(check(&wrong(first), &wrong(second)), Err(Check::FirstMultiple));
        }
        for (length, longer) in [(2, [&first[..], &[0]].concat()), (0, [&first[..], &first].concat())] {
            assert_eq!(check(&first[..length], &second), Err(Check::FirstMultiple));
            assert_eq!(check(&longer, &second), Err(Check::FirstMultiple));
            assert_eq!(check(&first, &second[..length]), Err(Check::SecondMultiple));
        }
        assert_eq!(multiples(&[], (5, &[]), (7, &[])), Ok(()));
    }

    #[test]
    fn every_score_is_within_the_range_of_its_own_shift_ends_included() {
        let ranges = [-3..=5, -1..=2];
        for (score, shift, is) in [
            (-4, 0, false),
            (-3, 0, true),
            (5, 0, true),
            (6, 0, false),
            (-2, 1, false),
            (-1, 1, true),
            (2, 1, true),
            (3, 1, false),
        ] {
            for at in 0..3 {
                let (mut scores, mut shifts) = ([0; 3], [0, 1, 0]);
                (scores[at], shifts[at]) = (score, shift);
                assert_eq!(possible(&scores, &shifts, &ranges).is_ok(), is, "{score} of shift {shift}");
            }
        }
    }
}
