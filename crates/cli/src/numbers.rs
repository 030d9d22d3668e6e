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

/// Reads a number of bytes within `bounds`, such as `500`, `64KiB` or `10MiB`.
pub(crate) fn bytes<T>(
    bounds: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<u64> + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
        let found = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
        let (number, shift) = found.unwrap_or((text, 0));
        let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        let size = size.and_then(|size| T::try_from(size).ok()).filter(|size| bounds.contains(size));
        size.ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            format!("`{text}` is not a size such as 500, 64KiB or 10MiB, from {least} to {most} bytes")
        })
    }
}

/// Reads two numbers within `bounds`, such as `4..64`, or one for both.
pub(crate) fn range(
    bounds: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<RangeInclusive<usize>, String> + Clone + Send + Sync + 'static {
    move |text| {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.parse().ok().filter(|it| bounds.contains(it));
        let both = number(least).zip(number(most)).filter(|(least, most)| least <= most);
        both.map(|(least, most)| least..=most).ok_or_else(|| {
            let (first, last) = (bounds.start(), bounds.end());
            format!("`{text}` is not a range MIN..MAX such as 4..64, with numbers from {first} to {last}, the smaller first")
        })
    }
}

/// Reads a number of seconds such as `10` or `0.5`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().filter(|seconds| (0.0..=SECONDS).contains(seconds));
    time.map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not a number of seconds such as 10 or 0.5, at most {SECONDS}"))
}

/// Reads how long to measure, in seconds.
pub(crate) fn length(bounds: RangeInclusive<f64>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let time = seconds(text)?;
        bounds.contains(&time.as_secs_f64()).then_some(time).ok_or_else(|| {
            format!("`{text}` is not a time from {} to {} seconds", bounds.start(), bounds.end())
        })
    }
}

/// Reads a time such as `5ms` or `0.5ms`.
pub(crate) fn milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("ms").unwrap_or(text).parse::<f64>();
    let time = number.ok().and_then(|number| Duration::try_from_secs_f64(number / 1e3).ok());
    time.filter(|time| *time <= Duration::from_secs(10))
        .ok_or_else(|| format!("`{text}` is not a time such as 5ms, of at most ten seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_its_ends_within_bounds_and_in_order() {
        let read = range(2..=9);
        for (text, both) in [("2..9", 2..=9), ("4..4", 4..=4), ("5", 5..=5), ("2", 2..=2), ("9", 9..=9)] {
            assert_eq!(read(text), Ok(both), "{text}");
        }
        for text in ["1..9", "2..10", "5..4", "..", "2..", "..9", "2...9", "2..=9", "", "x", "10", "1", "2-9"]
        {
            assert!(
                read(text).unwrap_err().starts_with(&format!("`{text}` is not a range MIN..MAX")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_may_be_either_end_of_its_bounds_and_nothing_beyond() {
        let read = within(2..=5);
        assert_eq!(
            ["1", "2", "5", "6", "-3", "2.5", ""].map(|text| read(text).ok()),
            [None, Some(2), Some(5), None, None, None, None]
        );
        assert_eq!(read("6").unwrap_err(), "`6` is not a number from 2 to 5");
        assert_eq!(["0", "0.5", "1e9"].map(|text| seconds(text).unwrap().as_secs_f64()), [0.0, 0.5, 1e9]);
        assert!(
            ["-0.1", "1000000000.1", "1e300", "inf", "nan", ""].iter().all(|text| seconds(text).is_err())
        );
    }

    #[test]
    fn a_length_may_be_either_end_of_its_bounds_and_nothing_beyond() {
        let read = length(0.5..=2.0);
        for (text, time) in
            [("0.5", Some(0.5)), ("2", Some(2.0)), ("0.49", None), ("2.01", None), ("nan", None)]
        {
            assert_eq!(read(text).ok().map(|time| time.as_secs_f64()), time, "{text}");
        }
        assert_eq!(read("3").unwrap_err(), "`3` is not a time from 0.5 to 2 seconds");
    }

    #[test]
    fn milliseconds_have_a_unit_or_none_and_are_ten_seconds_at_most() {
        let micros = |text| milliseconds(text).ok().map(|time| time.as_micros());
        assert_eq!(
            ["0", "5ms", "5", "0.5ms", "10000ms"].map(micros),
            [0, 5_000, 5_000, 500, 10_000_000].map(Some)
        );
        for odd in ["10000.001ms", "-1ms", "5s", "5 s", "ms", "nan", ""] {
            let said = milliseconds(odd).unwrap_err();
            assert_eq!(said, format!("`{odd}` is not a time such as 5ms, of at most ten seconds"));
        }
    }
}
