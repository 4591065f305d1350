//! Which rules could decide about packets that XDP would forward. Pure.
//!
//! Only provable irrelevance is irrelevant. What is found takes its packets back to the kernel, unless
//! an entry of `datapath.bypass` names it.

use std::collections::{BTreeMap, BTreeSet};

use super::bypass::Bypass;
use super::model::{Base, Filter, Hook, Owner, RuleSet, Scene, Source, Table};
use super::transit::{Mark, Transit, Verdict, destination};
use super::walk::{Hit, Walk};
use crate::netlink::model::{Family, IfIndex};

/// A rule that could decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// "nft:ip filter/FORWARD", "iptables:filter/FORWARD", "xfrm", "tc:eth0", "conntrack".
    pub place: String,
    /// "handle 5", "rule 3", "policy"; empty where rules have no number.
    pub id: String,
    /// The rule as readable as it gets.
    pub text: String,
    /// Why it matters.
    pub why: String,
    /// What to write into `datapath.bypass` to accept that XDP does not ask it.
    pub name: String,
    /// The entry that names it already.
    pub bypassed: Option<String>,
    /// Packets that it is about: family and ingress port.
    pub packets: BTreeSet<(Family, IfIndex)>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What it was judged against.
    pub scene: Scene,
    /// In the order of the packet's way.
    pub findings: Vec<Finding>,
    /// Entries of `datapath.bypass` that name nothing that could decide.
    pub idle_bypasses: Vec<String>,
}

impl Judgement {
    /// Packets that stay with the kernel.
    pub fn closed(&self) -> BTreeSet<(Family, IfIndex)> {
        let open = self.findings.iter().filter(|finding| finding.bypassed.is_none());
        open.flat_map(|finding| finding.packets.iter().copied()).collect()
    }
}

/// Judges what was read.
pub fn judge(rules: &RuleSet, scene: &Scene, bypass: &[Bypass]) -> Judgement {
    let mut findings =
        Findings { scene, bypass, found: Vec::new(), index: BTreeMap::new(), used: BTreeSet::new() };
    unreadable(rules, &mut findings);
    for (family, port) in findings.all() {
        let name = scene.ports.get(&port).map_or("", String::as_str);
        let transit = Transit::new(scene, family, (port, name));
        chains(rules, &transit, &mut findings);
    }
    tracking(rules, &mut findings);
    policies(rules, &mut findings);
    filters(rules, &mut findings);
    let used = findings.used;
    let idle =
        (0..).zip(bypass).filter(|(index, _)| !used.contains(index)).map(|(_, entry)| entry.to_string());
    Judgement { scene: scene.clone(), findings: findings.found, idle_bypasses: idle.collect() }
}

struct Findings<'a> {
    scene: &'a Scene,
    bypass: &'a [Bypass],
    found: Vec<Finding>,
    /// Position in `found` by place, rule and reason.
    index: BTreeMap<(String, String, String), usize>,
    /// Entries that name something.
    used: BTreeSet<usize>,
}

impl Findings<'_> {
    /// Packets that XDP may forward.
    fn all(&self) -> BTreeSet<(Family, IfIndex)> {
        let families: BTreeSet<Family> =
            self.scene.accelerate.iter().map(|prefix| Family::of(prefix.addr())).collect();
        let ports = || self.scene.ports.keys().copied();
        families.into_iter().flat_map(|family| ports().map(move |port| (family, port))).collect()
    }

    fn of(&self, family: Option<Family>) -> BTreeSet<(Family, IfIndex)> {
        self.all().into_iter().filter(|(own, _)| family.is_none_or(|family| family == *own)).collect()
    }

    fn named(&self, covers: impl Fn(&Bypass) -> bool) -> Option<usize> {
        self.bypass.iter().position(covers)
    }

    /// Adds a finding, or its packets to the same finding. One way that is not named counts.
    fn add(&mut self, finding: Finding, bypass: Option<usize>) {
        self.used.extend(bypass);
        if finding.packets.is_empty() {
            return;
        }
        let bypassed = bypass.and_then(|index| self.bypass.get(index)).map(ToString::to_string);
        let key = (finding.place.clone(), finding.id.clone(), finding.why.clone());
        if let Some(known) = self.index.get(&key).and_then(|position| self.found.get_mut(*position)) {
            if bypassed.is_none() && known.bypassed.take().is_some() {
                known.packets.clear();
            }
            if bypassed.is_none() || known.bypassed.is_some() {
                known.packets.extend(finding.packets);
            }
        } else {
            self.index.insert(key, self.found.len());
            self.found.push(Finding { bypassed, ..finding });
        }
    }
}

fn unreadable(rules: &RuleSet, findings: &mut Findings<'_>) {
    for (source, problem) in &rules.unreadable {
        let (name, family) = match source {
            Source::Nft => ("nft", None),
            Source::Iptables => ("iptables", Some(Family::Ipv4)),
            Source::Ip6tables => ("ip6tables", Some(Family::Ipv6)),
            Source::Xfrm => ("xfrm", None),
            Source::Tc => ("tc", None),
        };
        let bypass = findings.named(|entry| entry.covers_source(*source));
        let packets = findings.of(family);
        let finding = Finding {
            place: name.to_owned(),
            id: String::new(),
            text: problem.clone(),
            why: "cannot be read, so nobody can tell what it decides".to_owned(),
            name: name.to_owned(),
            bypassed: None,
            packets,
        };
        findings.add(finding, bypass);
    }
}

/// A base chain on the way.
type Stop<'a> = (Hook, i32, &'a Table, &'a str, &'a Base);

fn chains(rules: &RuleSet, transit: &Transit<'_>, findings: &mut Findings<'_>) {
    let mut way: Vec<Stop<'_>> = Vec::new();
    for table in rules.tables.iter().filter(|table| table.concerns(transit.family)) {
        let bases = table.chains.iter().filter_map(|(name, chain)| Some((name, chain.base.as_ref()?)));
        for (name, base) in bases.filter(|(_, base)| comes_by(base, transit, findings.scene)) {
            way.push((base.hook, base.priority, table, name, base));
        }
    }
    way.sort_by_key(|(hook, priority, ..)| (*hook, *priority));
    // A filter of the port comes first, and may set the mark.
    let filtered = |filter: &Filter| filter.port == transit.port.0 && !filter.egress;
    let mut mark = if rules.filters.iter().any(filtered) { Mark::UNKNOWN } else { Mark::ZERO };
    for stops in way.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        // Chains of the same place run in an order that cannot be told: each may find the mark of any other.
        let mut before = mark;
        let hits = loop {
            let (after, hits) = pass(stops, transit, findings.bypass, before);
            let joined = after.iter().fold(before, |joined, after| joined.join(*after));
            if stops.len() == 1 || joined == before {
                mark = if let [only] = after[..] { only } else { joined };
                break hits;
            }
            before = joined;
        };
        for (table, hit) in hits {
            let bypass = hit.bypass;
            findings.add(chain_finding(table, &hit, transit), bypass);
        }
    }
}

/// Walks chains, each entered with the same mark; gives the mark behind each, and what was found.
fn pass<'a>(
    stops: &[Stop<'a>],
    transit: &'a Transit<'_>,
    bypass: &'a [Bypass],
    mark: Mark,
) -> (Vec<Mark>, Vec<(&'a Table, Hit<'a>)>) {
    let mut found = Vec::new();
    let after = stops.iter().map(|(hook, _, table, name, base)| {
        let mut walk = Walk::new(table, transit, bypass, *hook);
        let after = walk.base(name, base.drops, mark);
        found.extend(walk.hits.into_iter().map(|hit| (*table, hit)));
        after
    });
    (after.collect(), found)
}

fn comes_by(base: &Base, transit: &Transit<'_>, scene: &Scene) -> bool {
    let device = |port: &str| {
        base.devices.iter().any(|device| match device.strip_suffix('*') {
            Some(start) => port.starts_with(start),
            None => device == port,
        })
    };
    match base.hook {
        Hook::Elsewhere => false,
        Hook::Ingress => device(transit.port.1),
        Hook::Egress => scene.ports.values().any(|port| device(port)),
        Hook::Prerouting | Hook::Forward | Hook::Postrouting => true,
    }
}

fn chain_finding(table: &Table, hit: &Hit<'_>, transit: &Transit<'_>) -> Finding {
    let place = place(table, hit.chain);
    Finding {
        id: hit.rule.map_or_else(|| "policy".to_owned(), |rule| rule.id.clone()),
        text: hit.rule.map_or_else(|| "policy drop".to_owned(), |rule| rule.text.clone()),
        why: hit.why.clone(),
        name: place.clone(),
        place,
        bypassed: None,
        packets: [(transit.family, transit.port.0)].into(),
    }
}

fn place(table: &Table, chain: &str) -> String {
    match table.owner {
        Owner::Nft(family) => format!("nft:{family} {}/{chain}", table.name),
        Owner::Iptables => format!("iptables:{}/{chain}", table.name),
        Owner::Ip6tables => format!("ip6tables:{}/{chain}", table.name),
    }
}

/// A rule anywhere that asks for connections makes the kernel track those in transit as well: it puts
/// fragments together and drops packets when its table is full (`nf_conntrack_in`, `nf_defrag_ipv4`).
fn tracking(rules: &RuleSet, findings: &mut Findings<'_>) {
    for family in [Family::Ipv4, Family::Ipv6] {
        let tables = rules.tables.iter().filter(|table| table.concerns(family));
        let all = tables.flat_map(|table| table.chains.iter().map(move |(name, chain)| (table, name, chain)));
        let tracking = all.flat_map(|(table, name, chain)| {
            let rules = chain.rules.iter().filter(|rule| rule.tracks);
            rules.map(move |rule| (table, name, rule))
        });
        let mut counted = 0_usize;
        let mut first: Option<(&Table, &String, &super::model::Rule)> = None;
        let mut named = None;
        for (table, name, rule) in tracking {
            let covers = |entry: &Bypass| entry.covers_chain(table.owner, &table.name, name);
            if let Some(entry) = findings.named(covers) {
                named = named.or(Some(entry));
            } else {
                counted += 1;
                first = first.or(Some((table, name, rule)));
            }
        }
        findings.used.extend(named);
        if let Some((table, name, rule)) = first {
            let others = if counted > 1 { format!(", and {} more", counted - 1) } else { String::new() };
            let finding = Finding {
                place: "conntrack".to_owned(),
                id: family.name().to_owned(),
                text: format!("{} {}: {}{others}", place(table, name), rule.id, rule.text),
                why: "makes the kernel track connections: it joins fragments, and may drop".to_owned(),
                name: "conntrack".to_owned(),
                bypassed: None,
                packets: findings.of(Some(family)),
            };
            let bypass = findings.named(Bypass::covers_conntrack);
            findings.add(finding, bypass);
        }
    }
}

fn policies(rules: &RuleSet, findings: &mut Findings<'_>) {
    for policy in &rules.policies {
        let elsewhere = policy.interface.is_some_and(|port| !findings.scene.ports.contains_key(&port));
        let other =
            policy.destination.is_some_and(|range| destination(findings.scene, &range) == Verdict::Never);
        if elsewhere || other {
            continue;
        }
        let finding = Finding {
            place: "xfrm".to_owned(),
            id: policy.text.clone(),
            text: policy.text.clone(),
            why: "asks for IPsec, or blocks".to_owned(),
            name: "xfrm".to_owned(),
            bypassed: None,
            packets: findings.of(policy.family),
        };
        let bypass = findings.named(|entry| entry.covers_source(Source::Xfrm));
        findings.add(finding, bypass);
    }
}

fn filters(rules: &RuleSet, findings: &mut Findings<'_>) {
    for filter in &rules.filters {
        let Some(port) = findings.scene.ports.get(&filter.port).cloned() else { continue };
        let mut packets = findings.of(filter.family);
        // Whatever leaves by the port may have come in on any.
        if !filter.egress {
            packets.retain(|(_, ingress)| *ingress == filter.port);
        }
        let finding = Finding {
            place: format!("tc:{port}"),
            id: filter.text.clone(),
            text: filter.text.clone(),
            why: "decides about every frame of the port".to_owned(),
            name: format!("tc:{port}"),
            bypassed: None,
            packets,
        };
        let bypass = findings.named(|entry| entry.covers_port(&port));
        findings.add(finding, bypass);
    }
}
