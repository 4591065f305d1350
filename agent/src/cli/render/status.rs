//! `underpass status`.

use super::table::{Column, Table};
use super::{Style, duration, list, none, yes_no};
use crate::api::model::{
    BgpStatus, DatapathStatus, KernelStatus, PortStatus, RuleStatus, RulesStatus, Status,
};

/// `underpass status`: a line or two per part, the ports, and the problems last.
pub fn status(report: &Status, style: Style) -> String {
    let mut text = line(
        "Agent",
        &format!("underpass {}, ABI {}, up {}", report.version, report.abi, duration(report.uptime_seconds)),
    );
    match &report.datapath {
        Some(datapath) => text += &datapath_lines(datapath, style),
        None => text += &line("Datapath", "not configured"),
    }
    match &report.bgp {
        Some(bgp) => text += &bgp_lines(bgp),
        None => text += &line("BGP", "not configured"),
    }
    if let Some(kernel) = &report.kernel {
        text += &kernel_line(kernel);
    }
    if report.problems.is_empty() {
        return text + &line("Problems", "none");
    }
    for (index, problem) in report.problems.iter().enumerate() {
        text += &line(if index == 0 { "Problems" } else { "" }, problem);
    }
    text
}

/// Rules that the text shows; JSON has all.
const RULES_SHOWN: usize = 10;

/// "Label     text".
pub(super) fn line(label: &str, text: &str) -> String {
    format!("{label:<10}{text}\n")
}

fn datapath_lines(datapath: &DatapathStatus, style: Style) -> String {
    let switch = if datapath.enabled { "on" } else { "off (kill switch; `underpass on` ends it)" };
    let synced = if datapath.synced { "in sync with the kernel" } else { "not in sync with the kernel" };
    let mut text = line(
        "Datapath",
        &format!("{switch}, lease {}s, {synced}, {} resyncs", datapath.lease_seconds, datapath.resyncs),
    );
    text += &line(
        "",
        &format!(
            "{} prefixes ({} forwarded), {} targets, {} next hops ({} live)",
            datapath.prefixes,
            datapath.prefixes_forwarding,
            datapath.targets,
            datapath.next_hops,
            datapath.next_hops_live
        ),
    );
    if datapath.ports.is_empty() {
        return text + &line("Ports", "none matches `datapath.ports`");
    }
    let mut table = Table::new(&[
        Column::Text("PORT"),
        Column::Number("INDEX"),
        Column::Text("MODE"),
        Column::Text("INGRESS"),
        Column::Text("EGRESS"),
        Column::Text("TX"),
        Column::Text("PROBLEM"),
    ]);
    for port in &datapath.ports {
        table.row(port_row(port));
    }
    for (index, row) in table.render(style).lines().enumerate() {
        text += &line(if index == 0 { "Ports" } else { "" }, row);
    }
    text + &rules_lines(&datapath.rules)
}

/// Rules that keep packets in the kernel, what the operator has named, and entries that name nothing.
fn rules_lines(rules: &RulesStatus) -> String {
    let mut lines = Vec::new();
    for rule in rules.findings.iter().filter(|rule| rule.bypassed.is_none()).take(RULES_SHOWN) {
        lines.push(format!("{} keep to the kernel: {}", packets(rule), rule_text(rule)));
        lines.push(format!("  {}", rule.remedy));
    }
    let closing = rules.findings.iter().filter(|rule| rule.bypassed.is_none()).count();
    if closing > RULES_SHOWN {
        lines.push(format!("and {} more: `underpass status -o json` has all", closing - RULES_SHOWN));
    }
    let mut bypassed = std::collections::BTreeMap::<&str, usize>::new();
    for entry in rules.findings.iter().filter_map(|rule| rule.bypassed.as_deref()) {
        *bypassed.entry(entry).or_default() += 1;
    }
    lines.extend(
        bypassed.iter().map(|(entry, count)| format!("bypassed by \"{entry}\": {count} rules are not asked")),
    );
    for entry in &rules.idle_bypasses {
        lines.push(format!("datapath.bypass names \"{entry}\", which matches no rule that could decide"));
    }
    if lines.is_empty() {
        lines.push("none of the kernel's could decide about packets that XDP forwards".to_owned());
    }
    let labels = std::iter::once("Rules").chain(std::iter::repeat(""));
    labels.zip(lines).map(|(label, text)| line(label, &text)).collect()
}

fn packets(rule: &RuleStatus) -> String {
    format!("{} from {}", rule.families.join(" and "), rule.ports.join(", "))
}

fn rule_text(rule: &RuleStatus) -> String {
    let number = if rule.rule.is_empty() || rule.rule == rule.text {
        String::new()
    } else {
        format!(" {}", rule.rule)
    };
    format!("{}{number}: {}: it {}", rule.place, rule.text, rule.why)
}

fn port_row(port: &PortStatus) -> Vec<String> {
    vec![
        port.interface.clone(),
        port.ifindex.to_string(),
        port.mode.clone().unwrap_or_else(none),
        ingress(port),
        yes_no(port.egress),
        yes_no(port.tx),
        port.problem.clone().unwrap_or_else(none),
    ]
}

/// "yes", "no", "not IPv4".
fn ingress(port: &PortStatus) -> String {
    if port.ingress && !port.guarded.is_empty() {
        return format!("not {}", port.guarded.join(", "));
    }
    yes_no(port.ingress)
}

fn bgp_lines(bgp: &BgpStatus) -> String {
    let mut text = line(
        "BGP",
        &format!(
            "AS {}, router id {}, {} of {} peers established, {} prefixes, {} paths",
            bgp.local_as, bgp.router_id, bgp.established, bgp.peers, bgp.prefixes, bgp.paths
        ),
    );
    if !bgp.filtered.is_empty() {
        let reasons = list(bgp.filtered.iter().map(|(reason, count)| format!("{reason} {count}")));
        text += &line("", &format!("refused by the import guards: {reasons}"));
    }
    text
}

fn kernel_line(kernel: &KernelStatus) -> String {
    line(
        "Kernel",
        &format!(
            "table {}, protocol {}: {} of {} routes in place, {} pending, {} errors",
            kernel.table, kernel.protocol, kernel.synced, kernel.desired, kernel.pending, kernel.errors
        ),
    )
}
