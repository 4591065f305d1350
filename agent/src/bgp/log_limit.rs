//! Keeps what comes from outside from filling the log.

use std::time::{Duration, Instant};

/// At most one line in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line through per [`LOG_INTERVAL`] and counts the others.
#[derive(Debug, Default)]
pub struct Limit {
    last: Option<Instant>,
    suppressed: u64,
}

impl Limit {
    /// Whether to log now; if so, how many were held back since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_limit_counts_what_it_holds_back() {
        let start = Instant::now();
        let mut limit = Limit::default();
        let steps = [(0, Some(0)), (1, None), (9, None), (10, Some(2)), (11, None), (30, Some(1))];
        for (second, expected) in steps {
            assert_eq!(limit.allow(start + Duration::from_secs(second)), expected, "at {second} s");
        }
    }
}
