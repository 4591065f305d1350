//! `underpass lookup`.

use super::status::line;
use super::table::{Column, Table};
use super::{Style, none, yes_no};
use crate::api::model::{KernelAnswer, Lookup, XdpAnswer};

/// `underpass lookup`: the program's answer with all next hops, and the kernel's beside it.
pub fn lookup(report: &Lookup, style: Style) -> String {
    let mut text =
        line("Packet", &format!("to {} from {} in by {}", report.address, report.source, report.interface));
    text += &line("Prefix", &report.prefix.map_or_else(|| "none".to_owned(), |prefix| prefix.to_string()));
    text += &xdp_lines(&report.xdp, style);
    text += &line("Kernel", &kernel_text(&report.kernel));
    let verdict =
        if report.agree { "yes" } else { "no: XDP and the kernel would send the packet different ways" };
    text + &line("Agree", verdict)
}

fn xdp_lines(xdp: &XdpAnswer, style: Style) -> String {
    let out = xdp.interface.as_ref().map(|name| format!(", out by {name}")).unwrap_or_default();
    let mut text = line("XDP", &format!("{} ({}), target {}{out}", xdp.verdict, xdp.reason, xdp.target));
    if xdp.next_hops.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        Column::Text("NEXT HOP"),
        Column::Text("PORT"),
        Column::Text("MAC"),
        Column::Text("LIVE"),
        Column::Text("CHOSEN"),
    ]);
    for hop in &xdp.next_hops {
        table.row(vec![
            hop.gateway.map_or_else(|| "on-link".to_owned(), |gateway| gateway.to_string()),
            hop.interface.clone(),
            hop.mac.clone().unwrap_or_else(none),
            yes_no(hop.live),
            if xdp.chosen.as_ref() == Some(hop) { "yes".to_owned() } else { String::new() },
        ]);
    }
    for row in table.render(style).lines() {
        text += &line("", row);
    }
    text
}

fn kernel_text(kernel: &KernelAnswer) -> String {
    if let Some(error) = &kernel.error {
        return format!("{}: {error}", kernel.kind);
    }
    let gateway = kernel.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    let interface = kernel.interface.as_ref().map(|name| format!(" out by {name}")).unwrap_or_default();
    format!("{}{gateway}{interface}", kernel.kind)
}
