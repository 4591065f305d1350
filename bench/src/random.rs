//! A small seeded generator, so that a run's order and destinations can be repeated from its seed.

/// `SplitMix64` (Steele, Lea, Flood 2014): one word of state, full period.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that yields the same sequence for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number in `0..bound`, by multiply and shift (the bias is below 2^-32).
    ///
    /// `bound` must not be 0.
    pub const fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "an empty range has no random number");
        let high = self.next_u64() >> 32;
        // The product of two 32-bit numbers, shifted by 32 bits, is below `bound`.
        let [a, b, c, d, ..] = ((high * bound as u64) >> 32).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// A number from 0 up to but not including 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a float's mantissa")]
    pub const fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts `items` in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u32::try_from(last + 1).expect("fewer than 2^32 items");
            items.swap(last, self.below(bound) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMix64;

    #[test]
    fn same_seed_same_sequence() {
        let mut one = SplitMix64::new(7);
        let mut two = SplitMix64::new(7);
        let mut other = SplitMix64::new(8);
        let sequence: Vec<u64> = (0..8).map(|_| one.next_u64()).collect();
        assert_eq!(sequence, (0..8).map(|_| two.next_u64()).collect::<Vec<_>>());
        assert_ne!(sequence, (0..8).map(|_| other.next_u64()).collect::<Vec<_>>());
    }

    /// First outputs for seed 1234567, as published with the algorithm's reference implementation.
    #[test]
    fn reference_values() {
        let mut random = SplitMix64::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        for value in expected {
            assert_eq!(random.next_u64(), value);
        }
    }

    #[test]
    fn below_stays_in_range_and_reaches_every_value() {
        for bound in [1, 2, 3, 16, 1000] {
            let mut random = SplitMix64::new(1);
            let mut seen = vec![false; bound as usize];
            for _ in 0..bound * 40 {
                seen[random.below(bound) as usize] = true;
            }
            assert!(seen.iter().all(|&hit| hit), "bound {bound}: a value never came up");
        }
    }

    #[test]
    fn shuffle_keeps_every_item_and_every_order_comes_up() {
        let mut random = SplitMix64::new(3);
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut items = [1, 2, 3];
            random.shuffle(&mut items);
            orders.insert(items);
            items.sort_unstable();
            assert_eq!(items, [1, 2, 3]);
        }
        assert_eq!(orders.len(), 6);
    }
}
