//! `Chance`: pseudo-random numbers that a seed repeats. The generator is SplitMix64 by Steele, Lea and Flood.

/// A stream of numbers; the same seed gives the same stream.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A stream of its own for one part of the work, so that the parts do not depend on each other's order.
    pub(super) fn of(seed: u64, part: u64) -> Chance {
        let mut both = Chance(seed ^ part.wrapping_mul(0xa076_1d64_78bd_642f));
        Chance(both.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `limit`, which is at least 1. The bias is below 2⁻³², which no test can tell.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// True once in `times` on average.
    pub(super) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_part_others() {
        let numbers = |mut chance: Chance| (0..8).map(|_| chance.next()).collect::<Vec<_>>();

        assert_eq!(numbers(Chance::of(7, 1)), numbers(Chance::of(7, 1)));
        assert_ne!(numbers(Chance::of(7, 1)), numbers(Chance::of(7, 2)));
    }

    #[test]
    fn a_number_stays_below_its_limit() {
        let mut chance = Chance::new(1);

        assert!((0..1_000).all(|_| chance.below(3) < 3));
    }
}
