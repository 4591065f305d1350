//! From passes to rows, a table, bars and a chart. Pure.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::pass::{Reached, Stage};
use super::receiver::Daemon;
use super::storm::Storm;
use crate::chart::{Chart, Group};
use crate::report::{aligned, thousands};
use crate::stats::{Estimate, Summary, pair_ratios};
use crate::verdict::Verdict;

/// Kernel time of the agent, as a part of BIRD's.
const KERNEL_BAR: f64 = 0.9;
/// The maps have everything so many seconds after the kernel.
const XDP_BAR: f64 = 1.0;
/// Peak memory of the agent, as a multiple of BIRD's.
const MEMORY_BAR: f64 = 4.0;
/// Processors in the storm.
const CPU_BAR: f64 = 1.0;
/// Updates per second in the storm; a hundredth less is the clock's.
const RATE_BAR: f64 = 9_900.0;
/// Prefixes that may wait for the kernel in the storm: half a second's.
const PENDING_BAR: f64 = 5_000.0;

/// A stage of a daemon at a table size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Prefixes.
    pub prefixes: u32,
    /// Reflectors, each of which sends all of them.
    pub reflectors: usize,
    /// Who received.
    pub daemon: Daemon,
    /// How far.
    pub stage: Stage,
    /// Seconds since the first session was established.
    pub seconds: Summary,
    /// Processor time since then.
    pub cpu_seconds: Summary,
    /// Peak of resident memory so far, in units of 10^6 bytes.
    pub rss_mb: Summary,
    /// BIRD's seconds for the same stage divided by these, in pairs; absent for BIRD, and where it has no such
    /// stage. More than 1 is faster than BIRD.
    pub ratio_to_bird: Option<Estimate>,
    /// Passes.
    pub passes: usize,
}

/// All passes of a case, by daemon, in the order of the rounds.
pub type Passes = BTreeMap<Daemon, Vec<Vec<Reached>>>;

/// The rows of a case.
///
/// # Errors
/// A stage is missing.
pub fn rows(prefixes: u32, reflectors: usize, passes: &Passes) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let seconds_of = |daemon: Daemon, stage: Stage| -> Vec<Option<f64>> {
        let stages = passes.get(&daemon).map(Vec::as_slice).unwrap_or_default().iter();
        stages.map(|pass| pass.iter().find(|at| at.stage == stage).map(|at| at.seconds)).collect()
    };
    for (daemon, of_daemon) in passes {
        for stage in [Stage::Rib, Stage::Kernel, Stage::Xdp] {
            let at: Vec<&Reached> = of_daemon.iter().flatten().filter(|at| at.stage == stage).collect();
            if at.is_empty() {
                continue;
            }
            let of = |value: fn(&Reached) -> f64| {
                Summary::of(&at.iter().map(|at| value(at)).collect::<Vec<_>>()).context("there are passes")
            };
            let ratios = pair_ratios(&seconds_of(*daemon, stage), &seconds_of(Daemon::Bird2, stage));
            rows.push(Row {
                prefixes,
                reflectors,
                daemon: *daemon,
                stage,
                seconds: of(|at| at.seconds)?,
                cpu_seconds: of(|at| at.cpu_seconds)?,
                rss_mb: of(|at| at.rss_mb)?,
                ratio_to_bird: Estimate::of(&ratios).filter(|_| *daemon != Daemon::Bird2),
                passes: at.len(),
            });
        }
    }
    Ok(rows)
}

/// The rows for people.
pub fn table(rows: &[Row]) -> String {
    let header =
        ["prefixes", "reflectors", "daemon", "stage", "seconds", "CPU seconds", "peak MB", "BIRD's / its"];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        cells.push([
            thousands(row.prefixes),
            row.reflectors.to_string(),
            row.daemon.label().to_owned(),
            row.stage.label().to_owned(),
            summary(row.seconds),
            summary(row.cpu_seconds),
            format!("{:.0}", row.rss_mb.median),
            crate::report::estimate(row.ratio_to_bird, 2),
        ]);
    }
    aligned(&cells, 4)
}

/// The storms for people.
pub fn storm_table(storms: &[Storm]) -> String {
    let header = ["storm", "updates/s", "CPU share", "peak MB", "most pending", "most unsent B", "resyncs"];
    let mut cells = vec![header.map(str::to_owned)];
    for storm in storms {
        let number = |number: Option<usize>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        cells.push([
            storm.daemon.label().to_owned(),
            format!("{:.0}", storm.updates_per_second),
            format!("{:.2}", storm.cpu_share),
            format!("{:.0}", storm.rss_mb),
            number(storm.most_pending),
            storm.most_unsent_bytes.to_string(),
            storm.resyncs.to_string(),
        ]);
    }
    aligned(&cells, 1)
}

fn summary(value: Summary) -> String {
    format!("{:.2} [{:.2}, {:.2}]", value.median, value.min, value.max)
}

/// What the control path is to reach with the largest table, and in the storm.
pub fn bars(rows: &[Row], storms: &[Storm]) -> Vec<Verdict> {
    let largest = rows.iter().filter(|row| row.reflectors == 1).map(|row| row.prefixes).max().unwrap_or(0);
    let row = |daemon: Daemon, stage: Stage| {
        let mut of_table = rows.iter().filter(|row| (row.prefixes, row.reflectors) == (largest, 1));
        of_table.find(|row| (row.daemon, row.stage) == (daemon, stage))
    };
    let seconds = |daemon, stage| row(daemon, stage).map(|row| row.seconds.median);
    let memory = |daemon, stage| row(daemon, stage).map(|row| row.rss_mb.median);
    let bird = seconds(Daemon::Bird2, Stage::Kernel);
    let part = |daemon| Some(seconds(daemon, Stage::Kernel)? / bird?);
    let lag = || Some(seconds(Daemon::Underpass, Stage::Xdp)? - seconds(Daemon::Underpass, Stage::Kernel)?);
    let memory_part = || Some(memory(Daemon::Underpass, Stage::Xdp)? / memory(Daemon::Bird2, Stage::Kernel)?);
    let label = || thousands(largest);
    let storm = storms.iter().find(|storm| storm.daemon == Daemon::Underpass);
    let in_storm = |value: fn(&Storm) -> f64| storm.map(value);
    let pending = storm.and_then(|storm| Some(f64::from(u32::try_from(storm.most_pending?).ok()?)));
    vec![
        Verdict::most(label(), "kernel, without XDP / BIRD's", KERNEL_BAR, part(Daemon::UnderpassBgp)),
        Verdict::most(label(), "kernel, with XDP / BIRD's", KERNEL_BAR, part(Daemon::Underpass)),
        Verdict::most(label(), "XDP after kernel, s", XDP_BAR, lag()),
        Verdict::most(label(), "peak memory / BIRD's", MEMORY_BAR, memory_part()),
        Verdict::least(
            "storm".to_owned(),
            "updates per second",
            RATE_BAR,
            in_storm(|s| s.updates_per_second),
        ),
        Verdict::most("storm".to_owned(), "processors", CPU_BAR, in_storm(|s| s.cpu_share)),
        Verdict::most("storm".to_owned(), "prefixes that wait", PENDING_BAR, pending),
    ]
}

/// Seconds to the kernel and to XDP by table.
pub fn chart(rows: &[Row], machine: &crate::machine::Machine) -> Chart {
    let series = [
        (Daemon::Bird2, Stage::Kernel, "BIRD 2: kernel"),
        (Daemon::UnderpassBgp, Stage::Kernel, "Underpass without XDP: kernel"),
        (Daemon::Underpass, Stage::Kernel, "Underpass: kernel"),
        (Daemon::Underpass, Stage::Xdp, "Underpass: XDP"),
    ];
    let mut tables: Vec<(u32, usize)> = rows.iter().map(|row| (row.prefixes, row.reflectors)).collect();
    tables.sort_unstable();
    tables.dedup();
    let group = |(prefixes, reflectors): (u32, usize)| {
        let bar = |(daemon, stage, _): &(Daemon, Stage, &str)| {
            let mut found =
                rows.iter().filter(|row| (row.prefixes, row.reflectors) == (prefixes, reflectors));
            // Microseconds per prefix: tables of all sizes fit one axis.
            let scale = 1e6 / f64::from(prefixes);
            found.find(|row| (row.daemon, row.stage) == (*daemon, *stage)).map(|row| Summary {
                median: row.seconds.median * scale,
                min: row.seconds.min * scale,
                max: row.seconds.max * scale,
            })
        };
        let by = if reflectors == 1 { String::new() } else { format!(", {reflectors} reflectors") };
        let label = format!("{} prefixes{by}", thousands(prefixes));
        Group { label, bars: series.iter().map(bar).collect() }
    };
    Chart {
        title: "From Established to the kernel and to XDP, per prefix (less is better)".to_owned(),
        subtitle: format!("{} cores of {}, Linux {}", machine.cores, machine.cpu, machine.kernel),
        axis: "µs per prefix: median and range".to_owned(),
        series: series.iter().map(|(_, _, name)| (*name).to_owned()).collect(),
        groups: tables.into_iter().map(group).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(kernel: f64, xdp: Option<f64>, rss_mb: f64) -> Vec<Reached> {
        let at = |stage, seconds| Reached { stage, seconds, cpu_seconds: seconds, rss_mb };
        let mut reached = vec![at(Stage::Rib, kernel / 2.0), at(Stage::Kernel, kernel)];
        reached.extend(xdp.map(|xdp| at(Stage::Xdp, xdp)));
        reached
    }

    fn measured() -> Vec<Row> {
        let passes = Passes::from([
            (Daemon::Bird2, vec![pass(10.0, None, 200.0), pass(12.0, None, 200.0)]),
            (Daemon::Underpass, vec![pass(8.0, Some(8.5), 900.0), pass(8.0, Some(8.7), 900.0)]),
        ]);
        rows(1_000_000, 1, &passes).expect("every stage")
    }

    #[test]
    fn each_stage_is_a_row_and_is_compared_in_pairs() {
        let rows = measured();
        assert_eq!(rows.len(), 5);
        let kernel = rows
            .iter()
            .find(|row| (row.daemon, row.stage) == (Daemon::Underpass, Stage::Kernel))
            .expect("a row");
        let ratio = kernel.ratio_to_bird.expect("pairs");
        assert!((ratio.median - 1.375).abs() < 1e-9, "{ratio:?}");
        assert!(rows.iter().all(|row| row.daemon != Daemon::Bird2 || row.ratio_to_bird.is_none()));
    }

    #[test]
    fn bars_are_about_the_largest_table() {
        let bars = bars(&measured(), &[]);
        let met = |what: &str| bars.iter().find(|bar| bar.what.starts_with(what)).expect("a bar").met;
        assert_eq!(met("kernel, with XDP"), Some(true));
        assert_eq!(met("XDP after"), Some(true));
        assert_eq!(met("peak memory"), Some(false), "900 MB are more than 4 times 200");
        assert_eq!(met("kernel, without XDP"), None);
        assert_eq!(met("updates"), None);
    }
}
