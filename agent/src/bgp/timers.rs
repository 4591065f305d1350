//! Jitter and back-off (RFC 4271 §10). Pure: the seed is a parameter.

use std::time::Duration;

/// Random factors for timers. Not for secrets: a splitmix64 sequence.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A sequence that the seed determines.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `base` times a factor from 0.75 up to 1.
    pub fn apply(&mut self, base: Duration) -> Duration {
        // 1024 steps in the upper quarter.
        let step = u32::try_from(self.next() % 1025).unwrap_or(0);
        base / 4096 * (3072 + step)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A pause that doubles with each failure.
#[derive(Clone, Debug)]
pub struct BackOff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl BackOff {
    /// First pause and longest pause, before jitter.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// The pause after one more failure: base · 2^failures, at most `max`, then jittered.
    pub fn next(&mut self, jitter: &mut Jitter) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        jitter.apply(self.base.saturating_mul(factor).min(self.max.max(self.base)))
    }

    /// Back to the first pause.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_three_quarters_and_one() {
        let mut jitter = Jitter::new(7);
        let base = Duration::from_secs(100);
        let factors: Vec<Duration> = (0..10_000).map(|_| jitter.apply(base)).collect();
        let (min, max) = (factors.iter().min().unwrap(), factors.iter().max().unwrap());
        assert!(*min >= Duration::from_millis(74_990) && *min < Duration::from_millis(75_200), "{min:?}");
        assert!(*max <= base && *max > Duration::from_millis(99_800), "{max:?}");
    }

    #[test]
    fn same_seed_same_sequence_other_seed_another() {
        let sequence = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..8).map(|_| jitter.apply(Duration::from_secs(10))).collect::<Vec<_>>()
        };
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }

    #[test]
    fn back_off_doubles_up_to_the_longest_pause() {
        struct Case {
            name: &'static str,
            base: u64,
            max: u64,
            expected: &'static [u64],
        }
        let cases = [
            Case { name: "doubles", base: 1, max: 60, expected: &[1, 2, 4, 8, 16, 32, 60, 60] },
            Case { name: "base above the longest", base: 30, max: 10, expected: &[30, 30, 30] },
            Case { name: "constant", base: 5, max: 5, expected: &[5, 5, 5] },
        ];
        for case in cases {
            let mut jitter = Jitter::new(3);
            let mut back_off = BackOff::new(Duration::from_secs(case.base), Duration::from_secs(case.max));
            for expected in case.expected {
                let pause = back_off.next(&mut jitter);
                let longest = Duration::from_secs(*expected);
                assert!(pause <= longest && pause >= longest.mul_f64(0.749), "{}: {pause:?}", case.name);
            }
        }
    }

    #[test]
    fn back_off_survives_many_failures_and_starts_again() {
        let mut jitter = Jitter::new(0);
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_mins(2));
        for _ in 0..200 {
            assert!(back_off.next(&mut jitter) <= Duration::from_mins(2));
        }
        back_off.reset();
        assert!(back_off.next(&mut jitter) <= Duration::from_secs(1));
    }
}
