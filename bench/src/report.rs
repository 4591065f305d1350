//! What a benchmark writes: one JSON object, and the same as a table for people.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::stats::{Ratio, Summary};

/// Result of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report<Method, Row> {
    /// Name of the benchmark.
    pub bench: String,
    /// Where it ran.
    pub machine: Machine,
    /// How it was measured.
    pub method: Method,
    /// The results.
    pub rows: Vec<Row>,
}

impl<Method: Serialize, Row: Serialize> Report<Method, Row> {
    /// Writes the object to `path`, indented.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot encode the report")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// How `forward` was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardMethod {
    /// Bytes per frame in memory; 4 more (the check sequence) on a wire.
    pub frame_bytes: usize,
    /// Destination addresses, drawn at random from the addresses of all routes.
    pub destinations: usize,
    /// Next hops; route n uses next hop n modulo this number.
    pub next_hops: u32,
    /// Frames sent per pass.
    pub frames_per_pass: u32,
    /// Rounds; each column has one timed pass per round, in a random order.
    pub rounds: u32,
    /// Rounds of the separate runs that measure the programs' own time.
    pub program_rounds: u32,
    /// Frames per batch of the generator.
    pub batch: u32,
    /// A pass counts when at least this share of its frames arrived as it should.
    pub delivered_at_least: f64,
    /// Seed of routes, destinations and orders.
    pub seed: u64,
    /// Processor that does all the work.
    pub cpu: usize,
}

/// One column of `forward` at one number of routes.
///
/// A ratio compares packet rates: this column's rate divided by the other's, so more than 1 is faster
/// than the other. It is the median over rounds, not the quotient of the two medians above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardRow {
    /// Number of routes.
    pub routes: u32,
    /// `ipv4`.
    pub family: String,
    /// `kernel`, `fib-helper`, `underpass` or `floor`.
    pub column: String,
    /// Wall time of a pass divided by the frames delivered in it.
    pub ns_per_packet: Summary,
    /// Run time of the router's program per frame, clock reads of the statistics included; `None` for
    /// the column without a program.
    pub program_ns: Option<Summary>,
    /// Rate divided by that of `floor`.
    pub ratio_to_floor: Option<Ratio>,
    /// Rate divided by that of `fib-helper`.
    pub ratio_to_fib_helper: Option<Ratio>,
    /// Rate divided by that of `kernel`.
    pub ratio_to_kernel: Option<Ratio>,
    /// Frames delivered divided by frames sent, over the passes that count.
    pub delivered: f64,
    /// Passes that count.
    pub passes: usize,
    /// Passes thrown away because too few frames arrived.
    pub passes_rejected: usize,
}

/// The rows of `forward` as a table for people.
pub fn forward_table(rows: &[ForwardRow]) -> String {
    let header = [
        "routes",
        "column",
        "ns/packet",
        "range",
        "program ns",
        "rate / kernel",
        "rate / fib-helper",
        "rate / floor",
        "delivered",
        "passes",
    ];
    let mut cells = vec![header.map(str::to_owned)];
    for row in rows {
        let rejected =
            if row.passes_rejected == 0 { String::new() } else { format!(" (-{})", row.passes_rejected) };
        cells.push([
            row.routes.to_string(),
            row.column.clone(),
            format!("{:.0}", row.ns_per_packet.median),
            format!("{:.0}-{:.0}", row.ns_per_packet.min, row.ns_per_packet.max),
            row.program_ns.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", time.median)),
            ratio_text(row.ratio_to_kernel),
            ratio_text(row.ratio_to_fib_helper),
            ratio_text(row.ratio_to_floor),
            format!("{:.4}", row.delivered),
            format!("{}{rejected}", row.passes),
        ]);
    }
    aligned(&cells)
}

fn ratio_text(ratio: Option<Ratio>) -> String {
    match ratio {
        None => "-".to_owned(),
        Some(Ratio::ONE) => "1".to_owned(),
        Some(Ratio { median, low, high }) => format!("{median:.2} [{low:.2}, {high:.2}]"),
    }
}

/// Columns padded to their widest cell, the text column (the second) to the left, numbers to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(width).enumerate() {
            let gap = if index == 0 { "" } else { "  " };
            // Writing to a String cannot fail.
            let _ = if index == 1 {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ForwardRow, forward_table};
    use crate::stats::{Ratio, Summary};

    fn row() -> ForwardRow {
        ForwardRow {
            routes: 100,
            family: "ipv4".to_owned(),
            column: "underpass".to_owned(),
            ns_per_packet: Summary { median: 400.4, min: 390.0, max: 512.0 },
            program_ns: Some(Summary { median: 61.0, min: 60.0, max: 70.0 }),
            ratio_to_floor: Some(Ratio { median: 0.9, low: 0.85, high: 0.95 }),
            ratio_to_fib_helper: None,
            ratio_to_kernel: Some(Ratio::ONE),
            delivered: 1.0,
            passes: 9,
            passes_rejected: 2,
        }
    }

    #[test]
    fn table_holds_every_number() {
        let table = forward_table(&[row()]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2);
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            [
                "100",
                "underpass",
                "400",
                "390-512",
                "61",
                "1",
                "-",
                "0.90",
                "[0.85,",
                "0.95]",
                "1.0000",
                "9",
                "(-2)"
            ]
        );
        assert!(lines.iter().all(|line| line.len() == lines[1].len() || line.starts_with("routes")));
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
        for name in ["routes", "family", "column", "delivered", "passes", "passes_rejected"] {
            assert!(!value[name].is_null(), "{name} is missing");
        }
    }
}
