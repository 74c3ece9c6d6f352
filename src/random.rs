//! Numbers that only have to differ: jitter of backoffs and of recycling. Never a secret.

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number, from all of them.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(count) => self.number() % count,
            None => self.number(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bound_and_differ() {
        let mut random = Random::new(7);
        let numbers: Vec<u64> = (0..100).map(|_| random.up_to(9)).collect();
        assert!((0..=9).all(|number| numbers.contains(&number)) && numbers.iter().all(|number| *number <= 9));
        assert_eq!(random.up_to(0), 0);
        assert_ne!(random.up_to(u64::MAX), random.up_to(u64::MAX));
    }
}
