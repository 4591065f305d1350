//! The dead-man lease: how long the program goes on without a sign of life from the agent.
//!
//! The program compares [`Control::lease_until`](underpass_common::abi::Control) with
//! `bpf_jiffies64`. User space sees neither that counter nor its rate (`HZ`): the counter comes from
//! the probe program, the rate is measured against `CLOCK_MONOTONIC`.

use std::time::Duration;

/// Rates that kernels are built with (`kernel/Kconfig.hz`, and 1024 and 128 of single ports).
const KNOWN_HZ: [u64; 6] = [100, 128, 250, 300, 1000, 1024];
/// A measured rate within this part (in 1/100) of a known one is that rate.
const TOLERANCE_PERCENT: u64 = 8;

/// A reading of the kernel's tick counter and the monotonic time of the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `bpf_jiffies64`.
    pub jiffies: u64,
    /// Since an arbitrary start.
    pub time: Duration,
}

/// Ticks per second from two readings taken as the counter changed, or `None` when they are too
/// close, or no rate that kernels have fits.
pub fn hz(first: Reading, second: Reading) -> Option<u64> {
    let ticks = second.jiffies.checked_sub(first.jiffies)?;
    let nanoseconds = second.time.checked_sub(first.time)?.as_nanos();
    if ticks == 0 || nanoseconds == 0 {
        return None;
    }
    let measured = u64::try_from(u128::from(ticks) * 1_000_000_000 / nanoseconds).ok()?;
    KNOWN_HZ
        .into_iter()
        .min_by_key(|known| known.abs_diff(measured))
        .filter(|known| known.abs_diff(measured) * 100 <= known * TOLERANCE_PERCENT)
}

/// The `lease_until` of a lease of `length` that starts at `now`: rounded up to a whole tick, and at
/// least one.
pub fn until(now: u64, hz: u64, length: Duration) -> u64 {
    let ticks = (length.as_nanos() * u128::from(hz)).div_ceil(1_000_000_000);
    now.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX).max(1))
}

/// Whole seconds that are left at `now`, rounded down; 0 when the lease has run out.
pub const fn seconds_left(until: u64, now: u64, hz: u64) -> u64 {
    match until.saturating_sub(now).checked_div(hz) {
        Some(seconds) => seconds,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn reading(jiffies: u64, milliseconds: u64) -> Reading {
        Reading { jiffies, time: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn rate_snaps_to_what_kernels_have() {
        let cases: &[(&str, Reading, Reading, Option<u64>)] = &[
            ("100", reading(5, 1000), reading(10, 1050), Some(100)),
            ("250", reading(0, 0), reading(15, 60), Some(250)),
            ("250, a little late", reading(0, 0), reading(15, 62), Some(250)),
            ("300", reading(0, 0), reading(18, 60), Some(300)),
            ("1000", reading(7, 10), reading(67, 70), Some(1000)),
            ("between the rates", reading(0, 0), reading(60, 100), None),
            ("no tick", reading(5, 0), reading(5, 60), None),
            ("no time", reading(5, 10), reading(9, 10), None),
            ("backwards", reading(9, 10), reading(5, 60), None),
        ];
        for (name, first, second, expected) in cases {
            assert_eq!(hz(*first, *second), *expected, "{name}");
        }
    }

    #[test]
    fn lease_is_never_shorter_than_asked() {
        let cases = [
            (1000, 250, Duration::from_secs(59), 15_750),
            (1000, 250, Duration::from_millis(1), 1001),
            (1000, 100, Duration::from_millis(15), 1002),
            (1000, 100, Duration::ZERO, 1001),
            (u64::MAX - 1, 1000, Duration::from_secs(59), u64::MAX),
        ];
        for (now, hz, length, expected) in cases {
            assert_eq!(until(now, hz, length), expected, "{now} {hz} {length:?}");
        }
    }

    #[test]
    fn seconds_left_count_down_to_zero() {
        assert_eq!(seconds_left(16_000, 1000, 250), 60);
        assert_eq!(seconds_left(16_000, 1001, 250), 59);
        assert_eq!(seconds_left(1000, 1000, 250), 0);
        assert_eq!(seconds_left(1000, 5000, 250), 0);
        assert_eq!(seconds_left(1000, 0, 0), 0);
    }
}
