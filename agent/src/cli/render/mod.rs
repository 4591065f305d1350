//! Reports as text for people. Pure; nothing here is meant for scripts (`-o json` is).

mod lookup;
mod status;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::api::model::{
    Counters, Done, KernelRoute, NextHopView, PeerAction, PeerStatus, Peers, Reloaded, ReloadedChange,
    RouteStatus, Routes, XdpRoute,
};
use table::{Column, Table};

pub use lookup::lookup;
pub use status::status;

/// How tables look. Never with colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Columns divided by spaces: for files and pipes.
    Plain,
    /// With a line below the header: for terminals.
    Ruled,
}

/// `underpass peer`: what was done.
pub fn done(report: &Done, _: Style) -> String {
    let action = match report.action {
        PeerAction::Up => "may come up",
        PeerAction::Down => "is taken down",
        PeerAction::Reset => "is reset",
        PeerAction::Refresh => "is asked for its routes again",
    };
    format!("{} {action}\n", report.peer)
}

/// `underpass reload`: one line per change, then what only a restart takes on and what went wrong.
pub fn reloaded(report: &Reloaded, _: Style) -> String {
    let change = |change: &ReloadedChange| match change.keys.as_slice() {
        [] => format!("{}: {}\n", change.object, change.action),
        keys => format!("{}: {} ({})\n", change.object, change.action, keys.join(", ")),
    };
    let restart = |key: &String| format!("{key}: differs, and only a restart of the agent takes it on\n");
    let problem = |problem: &String| format!("problem: {problem}\n");
    let lines: String = report
        .changes
        .iter()
        .map(change)
        .chain(report.needs_restart.iter().map(restart))
        .chain(report.problems.iter().map(problem))
        .collect();
    if lines.is_empty() { "nothing changed\n".to_owned() } else { lines }
}

/// `underpass peers`: one line per peer.
pub fn peers(report: &Peers, style: Style) -> String {
    if report.peers.is_empty() {
        return "no peers are configured\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::Text("PEER"),
        Column::Text("ADDRESS"),
        Column::Number("AS"),
        Column::Text("STATE"),
        Column::Text("UP"),
        Column::Number("RECEIVED"),
        Column::Number("ACCEPTED"),
        Column::Number("STALE"),
        Column::Text("EOR"),
        Column::Number("HOLD"),
        Column::Number("FLAPS"),
        Column::Text("LAST ERROR"),
    ]);
    for peer in &report.peers {
        table.row(peer_row(peer));
    }
    table.render(style)
}

fn peer_row(peer: &PeerStatus) -> Vec<String> {
    vec![
        peer.name.clone(),
        peer.address.to_string(),
        peer.remote_as.to_string(),
        if peer.admin_down { format!("{} (admin)", peer.state) } else { peer.state.clone() },
        peer.uptime_seconds.map_or_else(none, duration),
        peer.received.to_string(),
        peer.accepted.to_string(),
        peer.stale.to_string(),
        yes_no(peer.end_of_rib),
        peer.hold_seconds.map_or_else(none, |seconds| format!("{seconds}s")),
        peer.flaps.to_string(),
        peer.last_error.clone().unwrap_or_else(none),
    ]
}

/// `underpass routes`: one line per prefix with what RIB, kernel and XDP have for it.
pub fn routes(report: &Routes, style: Style) -> String {
    if report.routes.is_empty() {
        return "no routes: nothing is learned and nothing lies in an `accelerate` range\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::Text("PREFIX"),
        Column::Text("RIB"),
        Column::Text("KERNEL"),
        Column::Text("XDP"),
        Column::Text("AGREE"),
    ]);
    for route in &report.routes {
        table.row(vec![
            route.prefix.to_string(),
            rib_cell(route),
            route.kernel.as_ref().map_or_else(none, kernel_cell),
            route.xdp.as_ref().map_or_else(none, xdp_cell),
            yes_no(route.agree),
        ]);
    }
    table.render(style)
}

fn rib_cell(route: &RouteStatus) -> String {
    let Some(next_hops) = &route.rib else { return none() };
    let next_hops = list(next_hops.iter().map(IpAddr::to_string));
    match &route.rib_state {
        Some(state) => format!("{next_hops} ({state})"),
        None => next_hops,
    }
}

fn kernel_cell(route: &KernelRoute) -> String {
    let mut cell = route.protocol.clone();
    if route.kind != "unicast" {
        cell = format!("{cell} {}", route.kind);
    }
    if !route.next_hops.is_empty() {
        cell = format!("{cell} {}", list(route.next_hops.iter().map(next_hop)));
    }
    cell
}

fn xdp_cell(route: &XdpRoute) -> String {
    match &route.reason {
        Some(reason) => format!("{} ({reason})", route.verdict),
        None => format!("{} {}", route.verdict, list(route.next_hops.iter().map(next_hop))),
    }
}

/// `underpass counters`: one line per port and reason.
pub fn counters(report: &Counters, style: Style) -> String {
    if report.counters.is_empty() {
        return "no packets counted yet\n".to_owned();
    }
    let mut table = Table::new(&[
        Column::Text("PORT"),
        Column::Text("VERDICT"),
        Column::Text("REASON"),
        Column::Number("PACKETS"),
        Column::Number("BYTES"),
    ]);
    for row in &report.counters {
        table.row(vec![
            row.interface.clone(),
            row.verdict.clone(),
            row.reason.clone(),
            row.packets.to_string(),
            row.bytes.to_string(),
        ]);
    }
    table.render(style)
}

/// "172.20.0.13 eth0", "on-link eth0", with "(not live)" where it applies.
fn next_hop(hop: &NextHopView) -> String {
    let gateway = hop.gateway.map_or_else(|| "on-link".to_owned(), |gateway| gateway.to_string());
    let state = if hop.live { "" } else { " (not live)" };
    format!("{gateway} {}{state}", hop.interface)
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn none() -> String {
    "-".to_owned()
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// The two largest units: "3d4h", "5m12s", "7s".
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        86400.. => format!("{days}d{hours}h"),
        3600.. => format!("{hours}h{minutes}m"),
        60.. => format!("{minutes}m{}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}
