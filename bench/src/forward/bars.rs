//! What the issue asks of the data plane, and whether a run met it. Pure.

use serde::{Deserialize, Serialize};

use super::rows::{Row, label};
use crate::column::Column;
use crate::report::aligned;
use crate::routes::{Family, Kind, Popularity};

/// A bar at one table size: what the column `underpass` has to reach.
struct Bar {
    family: Family,
    kind: Kind,
    routes: u32,
    /// Most program time over the floor's, in nanoseconds.
    over_floor_ns: f64,
    /// Least packet rate against `fib-helper`: low end of the interval.
    against_fib_helper: f64,
    /// Most bytes of maps.
    map_bytes: u64,
}

const BARS: [Bar; 4] = [
    Bar {
        family: Family::Ipv4,
        kind: Kind::Blocks,
        routes: 10_000,
        over_floor_ns: 40.0,
        against_fib_helper: 1.5,
        map_bytes: 4_000_000,
    },
    Bar {
        family: Family::Ipv4,
        kind: Kind::Internet,
        routes: 100_000,
        over_floor_ns: 100.0,
        against_fib_helper: 1.7,
        map_bytes: 40_000_000,
    },
    Bar {
        family: Family::Ipv4,
        kind: Kind::Internet,
        routes: 1_000_000,
        over_floor_ns: 180.0,
        against_fib_helper: 2.0,
        map_bytes: 72_000_000,
    },
    Bar {
        family: Family::Ipv6,
        kind: Kind::Blocks,
        routes: 10_000,
        over_floor_ns: 60.0,
        against_fib_helper: 1.5,
        map_bytes: 8_000_000,
    },
];

/// One of a bar's three conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Table size, as in the tables.
    pub routes: String,
    /// What is measured.
    pub what: String,
    /// The bar.
    pub bar: f64,
    /// The run's figure; `None`: not measured.
    pub measured: Option<f64>,
    /// Whether the figure is on the right side; `None`: not measured.
    pub met: Option<bool>,
}

/// The verdicts for all bars whose table sizes are among `rows`.
pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    BARS.iter().flat_map(|bar| of_bar(bar, rows)).collect()
}

fn of_bar(bar: &Bar, rows: &[Row]) -> Vec<Verdict> {
    let wanted = |row: &&Row| {
        (row.family, row.kind, row.routes) == (bar.family, bar.kind, bar.routes)
            && row.destinations == Popularity::Uniform
            && row.column == Column::Underpass.label()
    };
    let Some(row) = rows.iter().find(wanted) else { return Vec::new() };
    let verdict = |what: &str, bar: f64, measured: Option<f64>, met: fn(f64, f64) -> bool| Verdict {
        routes: label(row),
        what: what.to_owned(),
        bar,
        measured,
        met: measured.map(|measured| met(measured, bar)),
    };
    let most = |measured: f64, bar: f64| measured <= bar;
    let least = |measured: f64, bar: f64| measured >= bar;
    let megabytes = |bytes: u64| crate::traffic::as_f64(bytes) / 1e6;
    vec![
        verdict(
            "program time over the floor, ns",
            bar.over_floor_ns,
            row.program_over_floor_ns.map(|e| e.median),
            most,
        ),
        verdict(
            "rate against fib-helper, low end",
            bar.against_fib_helper,
            row.ratio_to_fib_helper.map(|estimate| estimate.low),
            least,
        ),
        verdict("maps, MB", megabytes(bar.map_bytes), row.map_bytes.map(megabytes), most),
    ]
}

/// The verdicts as a table for people.
pub fn table(verdicts: &[Verdict]) -> String {
    let header = ["routes", "bar", "wanted", "measured", ""];
    let mut cells = vec![header.map(str::to_owned)];
    for verdict in verdicts {
        let sign = if verdict.what.starts_with("rate") { ">=" } else { "<=" };
        cells.push([
            verdict.routes.clone(),
            verdict.what.clone(),
            format!("{sign} {}", verdict.bar),
            verdict.measured.map_or_else(|| "-".to_owned(), |measured| format!("{measured:.2}")),
            match verdict.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measured",
            }
            .to_owned(),
        ]);
    }
    aligned(&cells, 2)
}

#[cfg(test)]
mod tests {
    use super::{table, verdicts};
    use crate::forward::rows::tests::row;
    use crate::stats::Estimate;

    #[test]
    fn each_condition_is_judged_by_itself() {
        let mut row = row();
        row.routes = 10_000;
        row.program_over_floor_ns = Some(Estimate { median: 39.0, low: 10.0, high: 90.0 });
        row.ratio_to_fib_helper = Some(Estimate { median: 1.6, low: 1.49, high: 1.7 });
        row.map_bytes = None;
        let verdicts = verdicts(&[row.clone()]);
        let met: Vec<_> = verdicts.iter().map(|verdict| verdict.met).collect();
        assert_eq!(met, [Some(true), Some(false), None]);
        assert!(table(&verdicts).contains("MISSED"));
        row.column = "lpm-trie".to_owned();
        assert!(super::verdicts(&[row]).is_empty());
    }
}
