//! Latencies of many operations in little memory, and the figures that are read from them.

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
    fn overlap_is_work_over_wall() {
        let mut recorder = Recorder::new();
        for _ in 0..16 {
            recorder.record(Duration::from_secs(1));
        }
        assert_eq!(recorder.overlap(Duration::from_secs(2)), 8.0);
    }
}
