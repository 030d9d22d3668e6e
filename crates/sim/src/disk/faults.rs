//! How unkind a simulated disk is.

use crate::dice::Dice;

/// How often what goes wrong, from 0 to 1 for each call, and how much there is room for.
///
/// What is short or interrupted costs nothing but another call; the rest are errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskFaults {
    /// Less is read or written than was asked for.
    pub short: f64,
    /// A read or a write is interrupted (`EINTR`).
    pub interrupted: f64,
    /// A read fails (`EIO`).
    pub read: f64,
    /// A write or a change of the length fails (`EIO`), some of it done.
    pub write: f64,
    /// A sync of a file fails (`EIO`), some of it done.
    pub sync: f64,
    /// Opening, renaming, removing, or the sync of a directory fails (`EIO`), done or not.
    pub names: f64,
    /// Bytes of files that there is room for: what goes beyond is refused (`ENOSPC`), or written in part.
    pub room: u64,
}

impl DiskFaults {
    /// A disk that does all it is asked, at once.
    pub fn none() -> Self {
        Self { short: 0.0, interrupted: 0.0, read: 0.0, write: 0.0, sync: 0.0, names: 0.0, room: u64::MAX }
    }

    /// One that does all it is asked, sometimes in parts.
    pub fn gentle() -> Self {
        Self { short: 0.3, interrupted: 0.1, ..Self::none() }
    }

    /// One that is at its end.
    pub fn harsh() -> Self {
        Self { read: 0.002, write: 0.02, sync: 0.01, names: 0.02, ..Self::gentle() }
    }

    /// One of the three, as a seed decides.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        [Self::none(), Self::gentle(), Self::harsh()][dice.below(3)]
    }
}
