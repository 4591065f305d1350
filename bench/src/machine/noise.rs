//! Whether the machine was quiet enough for the numbers to mean something.

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::stats;

/// More than this share of processor time taken by other guests of the host, and the run says so.
const STEAL: f64 = 0.01;
/// A floor whose middle passes are further apart than this is not quiet.
const SPREAD: f64 = 0.15;
/// Processes that ran on average before the run began.
const LOAD: f64 = 0.5;

/// Signs of other work on the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// One-minute load average when the run began.
    pub load_before: f64,
    /// Share of processor time during the run that the hypervisor gave to others.
    pub steal: f64,
    /// How far the middle four fifths of the floor's passes are apart, relative to their median: the
    /// worst of all tables.
    pub floor_spread: f64,
    /// What of it is too much, in words; empty on a quiet machine.
    pub remarks: Vec<String>,
}

/// Counters at the start of a run.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    load: f64,
    ticks: Ticks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    steal: u64,
}

impl Start {
    /// Reads the counters.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn now() -> anyhow::Result<Self> {
        let load = std::fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Ok(Self { load: load.context("/proc/loadavg has no load")?, ticks: ticks()? })
    }

    /// What has happened since. `floors` are the floor's times, table by table.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn noise(self, floors: &[Vec<f64>]) -> anyhow::Result<Noise> {
        let now = ticks()?;
        let share = |part: u64, all: u64| crate::traffic::as_f64(part) / crate::traffic::as_f64(all.max(1));
        let steal = share(now.steal - self.ticks.steal, now.all - self.ticks.all);
        let floor_spread = floors.iter().map(|times| stats::spread(times)).fold(0.0, f64::max);
        Ok(judged(self.load, steal, floor_spread))
    }
}

fn judged(load_before: f64, steal: f64, floor_spread: f64) -> Noise {
    let mut remarks = Vec::new();
    if load_before > LOAD {
        remarks.push(format!("something else ran before this began: load {load_before:.2}"));
    }
    if steal > STEAL {
        remarks.push(format!("the hypervisor gave {:.1} % of the time to others", steal * 100.0));
    }
    if floor_spread > SPREAD {
        remarks.push(format!(
            "the floor's passes differ by {:.0} % where it should be the same",
            floor_spread * 100.0
        ));
    }
    Noise { load_before, steal, floor_spread, remarks }
}

impl Noise {
    /// For people: nothing on a quiet machine.
    pub fn text(&self) -> String {
        if self.remarks.is_empty() {
            return String::new();
        }
        format!(
            "\nNOISY MACHINE: {}. Medians of pairs hold best, ranges are wide; run it again when nothing else runs.\n",
            self.remarks.join("; ")
        )
    }
}

fn ticks() -> anyhow::Result<Ticks> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse(&stat).context("/proc/stat has no line of all processors")
}

/// The first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal ..`.
fn parse(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let values: Vec<u64> = line.split_whitespace().map_while(|value| value.parse().ok()).take(8).collect();
    Some(Ticks { all: values.iter().sum(), steal: *values.get(7)? })
}

#[cfg(test)]
mod tests {
    use super::{Ticks, judged, parse};

    #[test]
    fn ticks_of_proc_stat() {
        assert_eq!(parse("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n"), Some(Ticks { all: 36, steal: 8 }));
        assert_eq!(parse("intr 1\n"), None);
    }

    #[test]
    fn a_quiet_machine_has_no_remarks() {
        assert!(judged(0.1, 0.001, 0.05).text().is_empty());
        for noise in [judged(1.5, 0.0, 0.0), judged(0.0, 0.05, 0.0), judged(0.0, 0.0, 0.4)] {
            assert_eq!(noise.remarks.len(), 1);
            assert!(noise.text().contains("NOISY"));
        }
    }
}
