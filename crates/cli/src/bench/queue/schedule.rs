//! When which job comes: Poisson arrivals drawn from a seed, the same for every discipline.

use std::time::Duration;

use crate::bench::dice::Dice;

/// One job in so many is long.
const LONG_EVERY: u64 = 10;

/// What a job needs of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Short,
    Long,
}

impl Size {
    pub(super) fn time(self) -> Duration {
        match self {
            Self::Short => Duration::from_micros(100),
            Self::Long => Duration::from_millis(10),
        }
    }
}

/// A job that will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// After the start of the round.
    pub(super) at: Duration,
    pub(super) size: Size,
}

/// How many jobs per second keep `workers` processors busy for the part `load` of the time.
pub(super) fn rate(load: f64, workers: u16) -> f64 {
    let [short, long] = [Size::Short, Size::Long].map(|size| size.time().as_secs_f64());
    let mean = short + (long - short) / LONG_EVERY as f64;
    load * f64::from(workers) / mean
}

/// The jobs of one round, `per_second` on average, dealt to so many connections.
pub(super) fn draw(
    seed: u64,
    round: u64,
    per_second: f64,
    length: Duration,
    connections: usize,
) -> Vec<Vec<Arrival>> {
    let mut dice = Dice::new("roadstead bench queue", seed, round);
    let mut lines = vec![Vec::new(); connections];
    let mut at = 0.0;
    loop {
        // The times between arrivals of a Poisson process are exponentially distributed.
        at -= (1.0 - dice.fraction()).ln() / per_second;
        if at >= length.as_secs_f64() {
            return lines;
        }
        let size = if dice.below(LONG_EVERY) == 0 { Size::Long } else { Size::Short };
        let line = dice.below(connections as u64) as usize;
        lines[line].push(Arrival { at: Duration::from_secs_f64(at), size });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_was_asked_for() {
        let per_second = rate(0.7, 2);
        let length = Duration::from_secs(400);
        let lines = draw(7, 0, per_second, length, 8);
        let all: Vec<&Arrival> = lines.iter().flatten().collect();
        let work: Duration = all.iter().map(|arrival| arrival.size.time()).sum();
        let load = work.as_secs_f64() / 2.0 / length.as_secs_f64();
        assert!((load - 0.7).abs() < 0.02, "{load}");
        let long = all.iter().filter(|arrival| arrival.size == Size::Long).count() as f64 / all.len() as f64;
        assert!((long - 0.1).abs() < 0.005, "{long}");
        for line in &lines {
            assert!((line.len() as f64 / all.len() as f64 - 0.125).abs() < 0.005);
            assert!(line.is_sorted_by_key(|arrival| arrival.at));
            assert!(line.iter().all(|arrival| arrival.at < length));
        }
    }

    #[test]
    fn as_many_jobs_come_as_keep_the_workers_busy() {
        // 90 % of 0.1 ms and 10 % of 10 ms are 1.09 ms.
        assert!((rate(0.5, 1) * 1.09e-3 - 0.5).abs() < 1e-9);
        assert!((rate(0.5, 4) / rate(0.25, 1) - 8.0).abs() < 1e-9);
        assert_eq!([Size::Short, Size::Long].map(|size| size.time().as_micros()), [100, 10_000]);
    }

    #[test]
    fn a_seed_and_a_round_are_one_schedule() {
        let draw = |seed, round| draw(seed, round, 1000.0, Duration::from_secs(1), 3);
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }
}
