//! One port at a time: attaching a program in the driver resets many NICs, and a node whose uplinks
//! all lose their carrier at once is cut off. Pure; time is a parameter.

use std::time::{Duration, Instant};

use crate::netlink::model::IfIndex;

/// How long a device with hardware must have its carrier before the next port is touched: some drivers
/// take it away only when their service task runs.
const STEADY: Duration = Duration::from_millis(500);
/// The carrier is looked at this often.
pub const POLL: Duration = Duration::from_millis(100);

/// Lets ports be attached one after the other.
#[derive(Clone, Debug)]
pub struct Gate {
    longest: Duration,
    settling: Option<Settling>,
}

/// The port that is waited for.
#[derive(Clone, Debug)]
struct Settling {
    ifindex: IfIndex,
    name: String,
    deadline: Instant,
    steady: Duration,
    since: Option<Instant>,
}

impl Gate {
    /// An open gate; a port is waited for at most `longest`, zero for not at all.
    pub const fn new(longest: Duration) -> Self {
        Self { longest, settling: None }
    }

    /// A port that had its carrier was attached in its driver: the gate closes until it has it back.
    /// `hardware`: the device can lose it some time later.
    pub fn close(&mut self, ifindex: IfIndex, name: &str, hardware: bool, now: Instant) {
        let steady = if hardware { STEADY } else { Duration::ZERO };
        let settling =
            Settling { ifindex, name: name.to_owned(), deadline: now + self.longest, steady, since: None };
        self.settling = Some(settling);
    }

    /// The port that is waited for.
    pub fn waits_for(&self) -> Option<(IfIndex, &str)> {
        self.settling.as_ref().map(|settling| (settling.ifindex, settling.name.as_str()))
    }

    /// Tells whether that port has its carrier now (`None`: it is gone); returns whether the gate is open.
    pub fn step(&mut self, carrier: Option<bool>, now: Instant) -> bool {
        let Some(settling) = &mut self.settling else { return true };
        let up = carrier == Some(true);
        settling.since = if up { settling.since.or(Some(now)) } else { None };
        let steady = settling.since.is_some_and(|since| now >= since + settling.steady);
        let late = now >= settling.deadline;
        if late && !up && carrier.is_some() {
            tracing::warn!(
                port = settling.name,
                waited = ?self.longest,
                "the port has not got its carrier back since the XDP program was attached; going on with the next"
            );
        }
        if steady || late || carrier.is_none() {
            self.settling = None;
        }
        self.settling.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    /// Milliseconds, carrier, whether the gate is then open.
    type Steps = &'static [(u64, Option<bool>, bool)];

    #[test]
    fn the_gate_opens_when_the_carrier_is_back() {
        let cases: &[(&str, bool, Steps)] = &[
            ("a virtual device", false, &[(0, Some(true), true)]),
            ("a virtual device that was reset", false, &[(0, Some(false), false), (300, Some(true), true)]),
            (
                "a NIC that loses its carrier later",
                true,
                &[
                    (0, Some(true), false),
                    (200, Some(true), false),
                    (300, Some(false), false),
                    (2000, Some(false), false),
                    (3000, Some(true), false),
                    (3499, Some(true), false),
                    (3500, Some(true), true),
                ],
            ),
            ("a NIC that keeps it", true, &[(0, Some(true), false), (500, Some(true), true)]),
            (
                "a cable pulled meanwhile",
                true,
                &[(0, Some(false), false), (9999, Some(false), false), (10_000, Some(false), true)],
            ),
            ("an interface that is gone", true, &[(0, Some(false), false), (100, None, true)]),
        ];
        for (name, hardware, steps) in cases {
            let start = Instant::now();
            let mut gate = Gate::new(LONGEST);
            assert!(gate.step(None, start), "{name}: open at first");
            gate.close(7, "eth0", *hardware, start);
            assert_eq!(gate.waits_for(), Some((7, "eth0")), "{name}");
            for (at, carrier, open) in *steps {
                assert_eq!(gate.step(*carrier, start + Duration::from_millis(*at)), *open, "{name} at {at}");
            }
            assert_eq!(gate.waits_for(), None, "{name}");
        }
    }

    #[test]
    fn no_time_to_wait_is_no_wait() {
        let now = Instant::now();
        let mut gate = Gate::new(Duration::ZERO);
        gate.close(7, "eth0", true, now);
        assert!(gate.step(Some(false), now));
    }
}
