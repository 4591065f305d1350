//! What the issue asks of the data plane, and whether a run met it. Pure.

use super::rows::{Row, label};
use crate::column::Column;
use crate::routes::{Family, Kind, Popularity};
use crate::verdict::Verdict;

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
    let megabytes = |bytes: u64| crate::traffic::as_f64(bytes) / 1e6;
    let low = row.ratio_to_fib_helper.map(|estimate| estimate.low);
    let over_floor = row.program_over_floor_ns.map(|estimate| estimate.median);
    vec![
        Verdict::most(label(row), "program time over the floor, ns", bar.over_floor_ns, over_floor),
        Verdict::least(label(row), "rate against fib-helper, low end", bar.against_fib_helper, low),
        Verdict::most(label(row), "maps, MB", megabytes(bar.map_bytes), row.map_bytes.map(megabytes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::verdicts;
    use crate::forward::rows::tests::row;
    use crate::stats::Estimate;
    use crate::verdict::table;

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
