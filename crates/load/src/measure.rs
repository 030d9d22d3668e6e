//! Latencies of many operations in little memory, the figures that are read from them, and how figures are compared.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart: one hour. Longer ones count as one hour in percentiles.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Decimal digits kept of every latency, so percentiles are right to one part in a thousand.
const DIGITS: u8 = 3;

/// Collects latencies. Its memory does not depend on how many are recorded.
///
/// ```
/// use std::time::Duration;
/// use roadstead_load::measure::Recorder;
///
/// let mut recorder = Recorder::new();
/// for ms in 1..=100 {
///     recorder.record(Duration::from_millis(ms));
/// }
/// assert_eq!(recorder.latency().mean_ms, 50.5);
/// // One operation after the other: 5.05 s of work in 5.05 s.
/// assert_eq!(recorder.overlap(Duration::from_millis(5_050)), 1.0);
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
    total_ns: u128,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recorder.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
            .expect("constant bounds that the histogram accepts");
        Self { histogram, total_ns: 0 }
    }

    /// Records one operation.
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records one operation that took `latency_ns` nanoseconds.
    pub fn record_ns(&mut self, latency_ns: u64) {
        self.histogram.saturating_record(latency_ns);
        self.total_ns += u128::from(latency_ns);
    }

    /// Adds everything that another recorder has seen.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("recorders share their bounds");
        self.total_ns += other.total_ns;
    }

    /// How many operations were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Mean, percentiles and maximum; all NaN if nothing was recorded.
    pub fn latency(&self) -> Latency {
        if self.count() == 0 {
            return Latency::UNKNOWN;
        }
        let quantile = |q: f64| self.histogram.value_at_quantile(q) as f64 / 1e6;
        Latency {
            mean_ms: self.total_ns as f64 / self.count() as f64 / 1e6,
            p50_ms: quantile(0.50),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: self.histogram.max() as f64 / 1e6,
        }
    }

    /// How many operations were in flight on average over `wall`: the sum of the latencies divided by it.
    /// NaN if `wall` is zero.
    pub fn overlap(&self, wall: Duration) -> f64 {
        if wall.is_zero() {
            return f64::NAN;
        }
        self.total_ns as f64 / wall.as_nanos() as f64
    }
}

/// The figures of a [`Recorder`], in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Arithmetic mean, exact.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// The slowest operation.
    pub max_ms: f64,
}

impl Latency {
    /// The percentiles as points of a chart: thousandths of the operations that are faster, and milliseconds.
    pub fn percentiles(&self) -> Vec<(u64, f64)> {
        vec![(500, self.p50_ms), (950, self.p95_ms), (990, self.p99_ms), (999, self.p999_ms)]
    }

    /// The figures of nothing.
    pub const UNKNOWN: Self = Self {
        mean_ms: f64::NAN,
        p50_ms: f64::NAN,
        p95_ms: f64::NAN,
        p99_ms: f64::NAN,
        p999_ms: f64::NAN,
        max_ms: f64::NAN,
    };
}

/// The middle of some figures, or the mean of the two in the middle; those that are not finite are left out.
/// NaN if none is left.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count => (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0,
    }
}

/// How much one thing costs compared with another, from pairs of measurements made side by side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median of the pairs' ratios.
    pub median: f64,
    /// The least of them.
    pub min: f64,
    /// The greatest of them.
    pub max: f64,
}

impl Ratio {
    /// Takes the ratios of the pairs; those that are not finite, because something was not measured, are left out.
    /// `None` if none is left.
    pub fn of(ratios: impl IntoIterator<Item = f64>) -> Option<Self> {
        let finite: Vec<f64> = ratios.into_iter().filter(|ratio| ratio.is_finite()).collect();
        let min = finite.iter().copied().reduce(f64::min)?;
        let max = finite.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(finite), min, max })
    }
}

/// `0.250 (0.090-0.440)`: the median and, in parentheses, the least and the greatest.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3}-{:.3})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(measured: f64, expected: f64) -> bool {
        (measured - expected).abs() <= expected * 1e-3
    }

    #[test]
    fn percentiles_of_a_ramp_are_right_to_a_thousandth() {
        let mut recorder = Recorder::new();
        for us in 1..=100_000_u64 {
            recorder.record(Duration::from_micros(us));
        }
        let latency = recorder.latency();
        assert_eq!(latency.mean_ms, 50.0005);
        assert!(close(latency.p50_ms, 50.0), "{latency:?}");
        assert!(close(latency.p95_ms, 95.0), "{latency:?}");
        assert!(close(latency.p99_ms, 99.0), "{latency:?}");
        assert!(close(latency.p999_ms, 99.9), "{latency:?}");
        assert!(close(latency.max_ms, 100.0), "{latency:?}");
    }

    #[test]
    fn nothing_recorded_is_null_in_json() {
        let latency = Recorder::new().latency();
        assert!(latency.mean_ms.is_nan());
        let json = serde_json::to_value(latency).unwrap();
        assert!(json["p99_ms"].is_null());
        assert!(Recorder::new().overlap(Duration::ZERO).is_nan());
    }

    #[test]
    fn the_extremes_are_kept_apart_from_percentiles() {
        let mut recorder = Recorder::new();
        recorder.record(Duration::ZERO);
        recorder.record(Duration::MAX);
        assert_eq!(recorder.count(), 2);
        assert!(close(recorder.latency().max_ms, LONGEST_NS as f64 / 1e6));
    }

    #[test]
    fn merged_recorders_are_one() {
        let (mut all, mut left, mut right) = (Recorder::new(), Recorder::new(), Recorder::new());
        for us in 1..1_000 {
            let latency = Duration::from_micros(us * us);
            all.record(latency);
            if us % 3 == 0 { &mut left } else { &mut right }.record(latency);
        }
        left.merge(&right);
        assert_eq!(left.latency(), all.latency());
        assert_eq!(left.count(), 999);
    }

    #[test]
    fn every_figure_is_its_own_and_in_milliseconds() {
        let mut recorder = Recorder::new();
        for (count, ms) in [(600, 1), (300, 2), (80, 30), (15, 400), (5, 5_000)] {
            (0..count).for_each(|_| recorder.record(Duration::from_millis(ms)));
        }
        let Latency { mean_ms, p50_ms, p95_ms, p99_ms, p999_ms, max_ms } = recorder.latency();
        // 600 + 600 + 2,400 + 6,000 + 25,000 over 1,000.
        assert_eq!(mean_ms, 34.6);
        for (found, wanted) in
            [(p50_ms, 1.0), (p95_ms, 30.0), (p99_ms, 400.0), (p999_ms, 5_000.0), (max_ms, 5_000.0)]
        {
            assert!(close(found, wanted), "{found} is not {wanted}");
        }
        assert_eq!(recorder.count(), 1_000);
        assert!((recorder.overlap(Duration::from_secs(2)) - 17.3).abs() < 1e-9, "34.6 s of work in 2 s");
        assert!(recorder.overlap(Duration::ZERO).is_nan());
    }

    #[test]
    fn medians_and_ratios_do_not_depend_on_the_order_and_leave_out_what_is_not_finite() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([f64::INFINITY, 5.0, f64::NEG_INFINITY, f64::NAN]), 5.0);
        assert!(median([]).is_nan());
        let ratio = Ratio::of([2.0, 0.5, f64::NEG_INFINITY, 1.25, -1.0]).unwrap();
        assert_eq!(ratio, Ratio { median: 0.875, min: -1.0, max: 2.0 });
        assert_eq!(ratio.to_string(), "0.875 (-1.000-2.000)");
    }

    #[test]
    fn each_percentile_is_drawn_at_its_own_thousandth() {
        let latency = Latency { p50_ms: 1.0, p95_ms: 2.0, p99_ms: 3.0, p999_ms: 4.0, ..Latency::UNKNOWN };
        assert_eq!(latency.percentiles(), [(500, 1.0), (950, 2.0), (990, 3.0), (999, 4.0)]);
    }

    #[test]
    fn overlap_is_work_over_wall() {
        let mut recorder = Recorder::new();
        for _ in 0..16 {
            recorder.record(Duration::from_secs(1));
        }
        assert_eq!(recorder.overlap(Duration::from_secs(2)), 8.0);
    }

    #[test]
    fn a_ratio_leaves_out_what_was_not_measured() {
        let ratio = Ratio::of([0.5, f64::NAN, 0.1, f64::INFINITY, 0.2]).unwrap();
        assert_eq!(ratio, Ratio { median: 0.2, min: 0.1, max: 0.5 });
        assert_eq!(ratio.to_string(), "0.200 (0.100-0.500)");
        assert_eq!(median([0.75, 0.25]), 0.5);
        assert_eq!(Ratio::of([f64::NAN]), None);
        assert!(median([f64::NAN]).is_nan());
    }
}
