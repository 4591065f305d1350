//! Charts and the README's section. Pure.

use std::fmt::Write as _;

use super::Report;
use super::rows::{Row, label};
use crate::chart::{self, Chart, Group};
use crate::column::Column;
use crate::curve::{self, Curve, Line};
use crate::report::{estimate, megabytes};
use crate::routes::Popularity;

/// The tables as a bar chart.
pub fn bars(report: &Report) -> String {
    // By Zipf everything is a little faster, and the chart twice as crowded: that is in the JSON.
    let uniform = || report.rows.iter().filter(|row| row.destinations == Popularity::Uniform);
    let mut labels: Vec<String> = uniform().map(label).collect();
    labels.dedup();
    let bar = |wanted: &str, column: Column| {
        let mut rows = uniform();
        rows.find(|row| label(row) == wanted && row.column == column.label()).map(|row| row.ns_per_packet)
    };
    let groups = labels.iter().map(|label| Group {
        label: label.clone(),
        bars: Column::ALL.map(|column| bar(label, column)).to_vec(),
    });
    chart::svg(&Chart {
        title: "Forwarding a packet, nanoseconds (less is better)".to_owned(),
        subtitle: format!(
            "veth to veth on one core of {}, 64-byte UDP, {} destinations",
            machine(report),
            report.method.destinations
        ),
        axis: "ns per packet: median and range".to_owned(),
        series: Column::ALL.map(|column| column.label().to_owned()).to_vec(),
        groups: groups.collect(),
    })
}

/// The curve as lines of program time.
pub fn curve(report: &Report) -> String {
    let line = |column: Column| {
        let rows = report.curve.iter().filter(|row| row.column == column.label());
        let points: Vec<_> = rows.filter_map(|row| Some((row.routes, row.program_ns?))).collect();
        let line = Line { name: column.label().to_owned(), colour: column.index(), points };
        (!line.points.is_empty()).then_some(line)
    };
    curve::svg(&Curve {
        title: "Time in the XDP program by table size (less is better)".to_owned(),
        subtitle: format!("internet-like IPv4 prefixes, one core of {}", machine(report)),
        axis: "ns per packet: median and range".to_owned(),
        along: "prefixes".to_owned(),
        lines: Column::ALL.into_iter().filter_map(line).collect(),
    })
}

fn machine(report: &Report) -> String {
    format!("{}, Linux {}", report.machine.cpu, report.machine.kernel)
}

/// The README's section: chart, table and what it says.
pub fn readme(report: &Report) -> String {
    let mut text = String::from(
        "![Nanoseconds per packet: kernel, fib-helper, lpm-trie, underpass, strict and floor](bench/results/forward.svg)\n\n\
         Packet rate of Underpass against the others, median and 95 % interval of paired passes, and what its program\n\
         spends per packet on top of one that looks nothing up:\n\n\
         | routes | against the kernel | against `fib-helper` | against `floor` | over the floor | maps |\n|---|---|---|---|---|---|\n",
    );
    let uniform = report.rows.iter().filter(|row| row.destinations == Popularity::Uniform);
    let agents = [(Column::Underpass, ""), (Column::Strict, ", `strict`")];
    for row in uniform {
        let Some((_, note)) = agents.iter().find(|(column, _)| column.label() == row.column) else {
            continue;
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {}{note} | {} |", label(row), cells(row).join(" | "));
    }
    let _ = write!(
        text,
        "\n{} on {}. `fib-helper` is our packet path with `bpf_fib_lookup` in the place of the tables, `lpm-trie` with\n\
         `BPF_MAP_TYPE_LPM_TRIE`, `floor` without any lookup; with `strict` the port has\n\
         `rp_filter` 1, so that every source is looked up too. Numbers: [bench/results/forward.json](bench/results/forward.json),\n\
         [curve by table size](bench/results/curve.svg); what each means: [bench/README.md](bench/README.md).",
        report.machine.date.get(..10).unwrap_or(&report.machine.date),
        machine(report)
    );
    if !report.noise.remarks.is_empty() {
        let _ = write!(text, "\nThe machine was not quiet: {}.", report.noise.remarks.join("; "));
    }
    text
}

fn cells(row: &Row) -> [String; 5] {
    let nanoseconds = estimate(row.program_over_floor_ns, 0);
    [
        estimate(row.ratio_to_kernel, 2),
        estimate(row.ratio_to_fib_helper, 2),
        estimate(row.ratio_to_floor, 2),
        format!("{nanoseconds} ns"),
        row.map_bytes.map_or_else(|| "-".to_owned(), megabytes),
    ]
}
