//! Rows of `forward`: one column at one table size.

use serde::{Deserialize, Serialize};

use crate::column::Column;
use crate::measure::Measurement;
use crate::report::{aligned, estimate, megabytes};
use crate::rig::Rig;
use crate::routers::Routers;
use crate::routes::{Family, Kind, Popularity, RouteSet};
use crate::stats::{Estimate, Summary};

/// One column at one table size.
///
/// A ratio compares packet rates: this column's rate divided by the other's, so more than 1 is faster
/// than the other. It is the median over rounds, not the quotient of two medians.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Number of routes.
    pub routes: u32,
    /// Address family.
    pub family: Family,
    /// What the routes are like.
    pub kind: Kind,
    /// How often each prefix is sent to.
    pub destinations: Popularity,
    /// `kernel`, `fib-helper`, `lpm-trie`, `underpass` or `floor`.
    pub column: String,
    /// Wall time of a pass divided by the frames delivered in it.
    pub ns_per_packet: Summary,
    /// Run time of the router's program per frame, clock reads of the statistics included; `None` for
    /// the column without a program.
    pub program_ns: Option<Summary>,
    /// Program time less the floor's, in pairs.
    pub program_over_floor_ns: Option<Estimate>,
    /// Rate divided by that of `floor`.
    pub ratio_to_floor: Option<Estimate>,
    /// Rate divided by that of `fib-helper`.
    pub ratio_to_fib_helper: Option<Estimate>,
    /// Rate divided by that of `kernel`.
    pub ratio_to_kernel: Option<Estimate>,
    /// Bytes that the kernel accounts to the maps of the program.
    pub map_bytes: Option<u64>,
    /// Frames delivered divided by frames sent, over the passes that count.
    pub delivered: f64,
    /// Passes that count.
    pub passes: usize,
    /// Passes thrown away because too few frames arrived.
    pub passes_rejected: usize,
}

/// The rows of a measurement.
///
/// # Errors
/// A map cannot be asked.
pub fn rows(
    rig: &Rig,
    routers: &Routers,
    destinations: Popularity,
    measured: &Measurement,
) -> anyhow::Result<Vec<Row>> {
    let set = rig.set();
    let mut rows = Vec::new();
    for column in rig.columns() {
        let Some(ns_per_packet) = Summary::of(&measured.kept(column)) else {
            println!("{set}: every pass of {} lost more than 1 % of its frames: no row", column.label());
            continue;
        };
        let program: Vec<f64> = measured.program[column.index()].iter().copied().flatten().collect();
        rows.push(Row {
            routes: set.routes,
            family: set.family,
            kind: set.kind,
            destinations,
            column: column.label().to_owned(),
            ns_per_packet,
            program_ns: Summary::of(&program),
            program_over_floor_ns: measured.over_floor(column),
            ratio_to_floor: measured.ratio(column, Column::Floor),
            ratio_to_fib_helper: measured.ratio(column, Column::FibHelper),
            ratio_to_kernel: measured.ratio(column, Column::Kernel),
            map_bytes: routers.map_bytes(column)?,
            delivered: measured.delivered_share(column),
            passes: measured.kept(column).len(),
            passes_rejected: measured.rejected(column),
        });
    }
    Ok(rows)
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let header = [
        "routes",
        "column",
        "ns/packet",
        "range",
        "program ns",
        "over floor",
        "rate / kernel",
        "rate / fib-helper",
        "rate / floor",
        "maps",
        "delivered",
        "passes",
    ];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        let rejected =
            if row.passes_rejected == 0 { String::new() } else { format!(" (-{})", row.passes_rejected) };
        cells.push([
            label(row),
            row.column.clone(),
            format!("{:.0}", row.ns_per_packet.median),
            format!("{:.0}-{:.0}", row.ns_per_packet.min, row.ns_per_packet.max),
            row.program_ns.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", time.median)),
            estimate(row.program_over_floor_ns, 0),
            estimate(row.ratio_to_kernel, 2),
            estimate(row.ratio_to_fib_helper, 2),
            estimate(row.ratio_to_floor, 2),
            row.map_bytes.map_or_else(|| "-".to_owned(), megabytes),
            format!("{:.4}", row.delivered),
            format!("{}{rejected}", row.passes),
        ]);
    }
    aligned(&cells, 2)
}

/// What a row's routes and destinations are called.
pub fn label(row: &Row) -> String {
    let name = RouteSet::new(row.family, row.kind, row.routes).label();
    match row.destinations {
        Popularity::Uniform => name,
        Popularity::Zipf => format!("{name}, zipf"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::{Row, table};
    use crate::routes::{Family, Kind, Popularity};
    use crate::stats::{Estimate, Summary};

    pub fn row() -> Row {
        Row {
            routes: 100,
            family: Family::Ipv4,
            kind: Kind::Blocks,
            destinations: Popularity::Uniform,
            column: "underpass".to_owned(),
            ns_per_packet: Summary { median: 400.4, min: 390.0, max: 512.0 },
            program_ns: Some(Summary { median: 61.0, min: 60.0, max: 70.0 }),
            program_over_floor_ns: Some(Estimate { median: 21.0, low: 20.0, high: 22.4 }),
            ratio_to_floor: Some(Estimate { median: 0.9, low: 0.85, high: 0.95 }),
            ratio_to_fib_helper: None,
            ratio_to_kernel: Some(Estimate::ONE),
            map_bytes: Some(4_200_000),
            delivered: 1.0,
            passes: 9,
            passes_rejected: 2,
        }
    }

    #[test]
    fn table_holds_every_number() {
        let table = table(&[row()]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2);
        let words = lines[1].split_whitespace().collect::<Vec<_>>().join(" ");
        let expected =
            "100 /26 underpass 400 390-512 61 21 [20, 22] 1 - 0.90 [0.85, 0.95] 4.20 MB 1.0000 9 (-2)";
        assert_eq!(words, expected);
    }

    /// Names that readers of the JSON rely on.
    #[test]
    fn json_fields() {
        let value = serde_json::to_value(row()).expect("plain data");
        assert_eq!(value["ns_per_packet"]["median"], 400.4);
        assert_eq!(value["ratio_to_floor"]["low"], 0.85);
        assert_eq!(value["ratio_to_fib_helper"], serde_json::Value::Null);
        assert_eq!(value["ratio_to_kernel"]["high"], 1.0);
        assert_eq!(value["program_ns"]["max"], 70.0);
        assert_eq!(value["program_over_floor_ns"]["high"], 22.4);
        assert_eq!(
            (&value["family"], &value["kind"], &value["destinations"]),
            (&"ipv4".into(), &"blocks".into(), &"uniform".into())
        );
        for name in ["routes", "column", "map_bytes", "delivered", "passes", "passes_rejected"] {
            assert!(!value[name].is_null(), "{name} is missing");
        }
    }
}
