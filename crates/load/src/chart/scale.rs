//! How figures become heights, and which can.

use std::ops::RangeInclusive;

/// The figures that can be shown: more than anyone measures, and few enough for round steps to stay exact.
pub(super) const LEAST: f64 = 1e-12;
const MOST: f64 = 1e15;

/// How figures become heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero; negative figures are left out.
    Linear,
    /// By powers of ten; only figures above zero can be shown.
    Logarithmic,
}

impl Scale {
    /// The figures that it can show.
    pub(super) fn range(self) -> RangeInclusive<f64> {
        match self {
            Self::Linear => 0.0..=MOST,
            Self::Logarithmic => LEAST..=MOST,
        }
    }
}
