//! When to try again what failed.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Back-off of one prefix: the pause doubles from 250 ms up to a minute. Without jitter: the other
/// side is the local kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
    at: Option<Instant>,
}

impl Retry {
    /// Nothing failed yet.
    pub const fn new() -> Self {
        Self { failures: 0, at: None }
    }

    /// Notes a failure; the pause before the next try.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.at = Some(now + pause);
        pause
    }

    /// Forgets the failures: it worked, or something changed that may help.
    pub const fn reset(&mut self) {
        self.failures = 0;
        self.at = None;
    }

    /// When to try again; `None` if nothing failed.
    pub const fn at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over() {
        let now = Instant::now();
        let mut retry = Retry::new();
        let pauses: Vec<u128> = (0..10).map(|_| retry.failed(now).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(retry.at(), Some(now + LONGEST_PAUSE));
        retry.reset();
        assert_eq!((retry.at(), retry.failed(now)), (None, FIRST_PAUSE));
        let mut many = Retry { failures: u32::MAX, at: None };
        assert_eq!(many.failed(now), LONGEST_PAUSE);
    }
}
