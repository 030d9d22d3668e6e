//! What a measurement leaves to chance, drawn from a seed, so that it can be had again.

use blake3::OutputReader;

pub(super) struct Dice(OutputReader);

impl Dice {
    /// The dice of one of the parts of a measurement, of which none follows from another.
    pub(super) fn new(what: &str, seed: u64, part: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(what.as_bytes()).update(&seed.to_le_bytes()).update(&part.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// From 0, and below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0, and below `end`, which is far below what a number can be, so that none is likelier than another.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_are_of_their_measurement_seed_and_part() {
        let thrown = |what: &str, seed, part| {
            let mut dice = Dice::new(what, seed, part);
            [(); 4].map(|()| dice.below(1_000_000))
        };
        let all =
            [thrown("a", 1, 2), thrown("b", 1, 2), thrown("a", 2, 2), thrown("a", 1, 3), thrown("a", 2, 1)];
        assert_eq!(thrown("a", 1, 2), all[0]);
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one) && one.iter().any(|it| *it != one[0]), "{all:?}");
        }
    }

    #[test]
    fn every_side_comes_up_as_often_as_the_others_and_none_beyond() {
        let mut dice = Dice::new("a", 1, 1);
        let mut sides = [0_u32; 6];
        (0..6_000).for_each(|_| sides[dice.below(6) as usize] += 1);
        assert!(sides.iter().all(|side| (850..1_150).contains(side)), "{sides:?}");
        let fractions = [(); 4_000].map(|()| dice.fraction());
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let below = |end: f64| fractions.iter().filter(|fraction| **fraction < end).count();
        assert!(
            (850..1_150).contains(&below(0.25)) && (1_850..2_150).contains(&below(0.5)),
            "{}",
            below(0.5)
        );
    }
}
