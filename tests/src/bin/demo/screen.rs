//! The report for people.

use std::fmt::Write as _;
use std::io::Write as _;

use underpass::api::model::{KernelRoute, NextHopView, RouteStatus};

use crate::Report;

/// Prints the report; nobody reading it any more is no error.
pub fn print(report: &Report) {
    let _closed = std::io::stdout().write_all(render(report).as_bytes());
}

fn render(report: &Report) -> String {
    let mut out = String::new();
    heading(&mut out, &format!("Sessions (all routes everywhere after {:.1} s)", report.converged_seconds));
    for table in &report.sessions {
        let rows = table.sessions.iter().map(|row| {
            vec![
                row.peer.clone(),
                row.address.to_string(),
                row.remote_as.to_string(),
                row.state.clone(),
                row.received.to_string(),
            ]
        });
        let title = format!("{} ({})", table.machine, table.daemon);
        columns(&mut out, &[&title, "address", "AS", "state", "routes"], rows.collect());
    }
    for table in &report.routes {
        heading(
            &mut out,
            &format!(
                "{}: RIB, kernel and XDP agree on {} of {} prefixes",
                table.machine, table.agreeing, table.prefixes
            ),
        );
        let rows = table.routes.iter().map(route_row).collect();
        columns(&mut out, &["prefix", "RIB", "kernel", "XDP"], rows);
    }
    heading(&mut out, "Traffic: plain kernel (underpass off) beside XDP (underpass on)");
    for path in &report.traffic {
        let _ = writeln!(out, "  {}", path.way);
        let side = |name: &str, side: &crate::traffic::Side| {
            let ttl: Vec<String> = side.ttl.iter().map(ToString::to_string).collect();
            vec![
                name.to_owned(),
                format!("{:.0}", side.rate / 1000.0),
                format!("{:.1} %", percent(side.received, side.sent)),
                format!("{:.1} %", side.fast_share * 100.0),
                ttl.join(", "),
                format!("{:.0}", side.tcp_megabits),
            ]
        };
        let header = ["", "UDP kpps", "arrived", "on the fast path", "TTL", "TCP Mbit/s"];
        columns(&mut out, &header, vec![side("kernel", &path.kernel), side("XDP", &path.xdp)]);
        let reasons: Vec<String> =
            path.reasons.iter().map(|(reason, packets)| format!("{reason} {packets}")).collect();
        let _ = writeln!(
            out,
            "  XDP / kernel {:.2}x; {} counted {}",
            path.ratio,
            path.agents.join(" and "),
            reasons.join(", ")
        );
    }
    out.push_str(
        "  Sender, switches, nodes and receiver share this machine's processors: the rates are those of all hops\n  \
         together. `cargo xtask bench forward` measures the forwarder alone.\n",
    );
    heading(&mut out, "Checks");
    for check in &report.checks {
        let _ = writeln!(out, "  {}  {}", if check.ok { "ok  " } else { "FAIL" }, check.what);
        if let Some(found) = &check.found {
            let _ = writeln!(out, "        {found}");
        }
    }
    out
}

fn route_row(route: &RouteStatus) -> Vec<String> {
    let rib = match (&route.rib, &route.rib_state) {
        (Some(next_hops), state) => {
            let list: Vec<String> = next_hops.iter().map(ToString::to_string).collect();
            format!("{} ({})", list.join(" "), state.as_deref().unwrap_or("-"))
        }
        (None, _) => "-".to_owned(),
    };
    let xdp = route.xdp.as_ref().map_or_else(
        || "-".to_owned(),
        |xdp| match &xdp.reason {
            Some(reason) => format!("pass ({reason})"),
            None => format!("forward {}", hops(&xdp.next_hops)),
        },
    );
    vec![route.prefix.to_string(), rib, route.kernel.as_ref().map_or_else(|| "-".to_owned(), kernel), xdp]
}

fn kernel(route: &KernelRoute) -> String {
    match route.kind.as_str() {
        "unicast" => format!("{} {}", route.protocol, hops(&route.next_hops)),
        kind => format!("{} {kind}", route.protocol),
    }
}

fn hops(next_hops: &[NextHopView]) -> String {
    let list = next_hops.iter().map(|hop| match hop.gateway {
        Some(gateway) => format!("{gateway} {}", hop.interface),
        None => format!("on-link {}", hop.interface),
    });
    list.collect::<Vec<_>>().join(", ")
}

fn heading(out: &mut String, text: &str) {
    let _ = writeln!(out, "\n{text}");
}

fn columns(out: &mut String, header: &[&str], rows: Vec<Vec<String>>) {
    let mut lines = vec![header.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
