//! An axis with round figures: from zero, by powers of ten, or by place.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use super::scale::{LEAST, Scale};
use crate::report;

/// About this many figures stand at a linear axis.
const STEPS: f64 = 6.0;

/// Free room on both sides of the levels, in distances between two of them.
const MARGIN: f64 = 0.35;

/// Maps figures to pixels and knows where figures are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    ticks: Vec<f64>,
}

impl Axis {
    /// Places 0 to `count - 1` at equal distances.
    pub(super) fn levels(count: usize) -> Self {
        Self {
            low: -MARGIN,
            high: count as f64 - 1.0 + MARGIN,
            scale: Scale::Linear,
            ticks: (0..count).map(|place| place as f64).collect(),
        }
    }

    /// An axis that holds all of `figures`, which `scale` can show.
    pub(super) fn figures(figures: impl Iterator<Item = f64>, scale: Scale) -> Self {
        let (low, high) =
            figures.fold((f64::MAX, 0.0), |(low, high), figure| (figure.min(low), figure.max(high)));
        match scale {
            Scale::Linear => Self::linear(high),
            Scale::Logarithmic => Self::logarithmic(low, high),
        }
    }

    fn linear(high: f64) -> Self {
        // The smallest step of 1, 2 or 5 times a power of ten that needs few enough steps.
        let high = if high >= LEAST { high } else { 1.0 };
        let raw = high / STEPS;
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= raw * 0.999)
            .unwrap_or(10.0 * power);
        // A little above the highest point, so that its marker is not cut.
        let count = (high * 1.02 / step).ceil();
        Self {
            low: 0.0,
            high: count * step,
            scale: Scale::Linear,
            ticks: (0..=count as u32).map(|i| f64::from(i) * step).collect(),
        }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        // One power wide at least, and no point so near an end that its marker is cut.
        let first = (low * 0.9).log10().floor();
        let last = (high * 1.1).log10().ceil().max(first + 1.0);
        let powers = first as i32..=last as i32;
        // Between few powers there is room for 2 and 5; of very many, not each can be written.
        let decades = last - first;
        let factors: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / 8.0).ceil().max(1.0) as usize;
        Self {
            low: 10_f64.powf(first),
            high: 10_f64.powf(last),
            scale: Scale::Logarithmic,
            ticks: powers
                .step_by(every)
                .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
                .filter(|tick| *tick <= 10_f64.powf(last) * 1.001)
                .collect(),
        }
    }

    /// Where `figure` lies between the ends, 0 to 1.
    fn part(&self, figure: f64) -> f64 {
        match self.scale {
            Scale::Linear => (figure - self.low) / (self.high - self.low),
            Scale::Logarithmic => (figure / self.low).log10() / (self.high / self.low).log10(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let length = f64::from(limit.1 - limit.0);
        limit.0 + (self.part(*value) * length).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// A round figure, as short as it can be: `0`, `0.05`, `2.5`, `50,000`.
pub(super) fn tick_label(figure: f64) -> String {
    if figure != 0.0 && figure.abs() < 1e-4 {
        return format!("{figure:e}");
    }
    let text = report::number(figure, 4);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_at_the_axis_are_round() {
        let labels = |axis: Axis| axis.ticks.iter().map(|t| tick_label(*t)).collect::<Vec<_>>();
        let linear = |high| labels(Axis::linear(high));
        assert_eq!(linear(8_123.0), ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
        assert_eq!(linear(0.0), ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2"]);
        assert_eq!(labels(Axis::logarithmic(0.2, 6.0)), ["0.1", "0.2", "0.5", "1", "2", "5", "10"]);
        assert_eq!(labels(Axis::logarithmic(0.02, 90.0)), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(labels(Axis::logarithmic(1.0, 10.0)), ["0.1", "1", "10", "100"], "no marker is cut");
        assert_eq!([1e-6, 9e-5, 1e-4, 5e-4, 0.0].map(tick_label), ["1e-6", "9e-5", "0.0001", "0.0005", "0"]);
    }

    #[test]
    fn places_are_at_equal_distances_and_a_third_of_one_from_the_ends() {
        let at = |count: usize, places: &[f64], length: i32| -> Vec<i32> {
            let axis = Axis::levels(count);
            assert_eq!(axis.ticks.len(), count);
            places.iter().map(|place| axis.map(place, (0, length))).collect()
        };
        assert_eq!(at(1, &[0.0], 700), [350]);
        assert_eq!(at(3, &[0.0, 1.0, 2.0], 270), [35, 135, 235]);
        assert_eq!(Axis::levels(3).range(), -0.35..2.35);
    }

    #[test]
    fn figures_stand_as_high_as_they_are_great_or_by_their_powers_of_ten() {
        let linear = Axis::figures([8_123.0, 10.0].into_iter(), Scale::Linear);
        let at = |axis: &Axis, figures: &[f64]| -> Vec<i32> {
            figures.iter().map(|figure| axis.map(figure, (0, 1_000))).collect()
        };
        assert_eq!(at(&linear, &[0.0, 2_500.0, 8_000.0, 10_000.0]), [0, 250, 800, 1_000]);
        let powers = Axis::figures([6.0, 0.2, 1.0].into_iter(), Scale::Logarithmic);
        assert_eq!(at(&powers, &[0.1, 0.2, 1.0, 5.0, 10.0]), [0, 151, 500, 849, 1_000]);
        // Heights of a picture are counted from its top.
        assert_eq!([0.1, 1.0, 10.0].map(|figure| powers.map(&figure, (300, 100))), [300, 200, 100]);
        // A figure at the very end has room for its marker.
        assert_eq!((Axis::linear(5.0).high, Axis::linear(6.0).high), (6.0, 7.0));
        assert_eq!(Axis::linear(1.0).ticks.len(), 7);
    }

    proptest! {
        #[test]
        fn every_figure_lies_inside_and_in_order(
            powers in prop::collection::vec(-12.0..15.0_f64, 1..20), log in any::<bool>(),
        ) {
            let scale = if log { Scale::Logarithmic } else { Scale::Linear };
            let mut figures: Vec<_> = powers.iter().map(|power| 10_f64.powf(*power)).collect();
            let axis = Axis::figures(figures.iter().copied(), scale);
            prop_assert!((2..=20).contains(&axis.ticks.len()), "{:?}", axis);
            figures.sort_by(f64::total_cmp);
            let mut before = 0;
            for figure in figures {
                let pixel = axis.map(&figure, (0, 1_000));
                prop_assert!((before..=1_000).contains(&pixel), "{} at {}: {:?}", figure, pixel, axis);
                before = pixel;
            }
        }
    }
}
