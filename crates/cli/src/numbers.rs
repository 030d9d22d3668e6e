//! Numbers on the command line: what is none, or too large, is refused with what was found and what is wanted.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

/// More of anything than a machine has.
pub(crate) const MANY: usize = 1_000_000_000;
/// More bytes than a machine has.
pub(crate) const BYTES: usize = 1 << 50;
/// Longer than anybody waits, and a time that clocks can still tell.
const SECONDS: f64 = 1e9;

/// Reads a number within `bounds`.
pub(crate) fn within<T>(
    bounds: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("`{text}` is not a number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Reads a number of seconds such as `10` or `0.5`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().filter(|seconds| (0.0..=SECONDS).contains(seconds));
    time.map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not a number of seconds such as 10 or 0.5, at most {SECONDS}"))
}
