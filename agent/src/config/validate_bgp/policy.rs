//! What prefix sets and the rules of peers must be beyond their types.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check_bounds;
use crate::config::model::{Bgp, Peer, PrefixRange, Rule, RuleAction};
use crate::config::validate::Findings;
use crate::config::value::format_duration;

type Sets = BTreeMap<String, Vec<PrefixRange>>;

pub(super) fn check_policy(bgp: &Bgp, findings: &mut Findings) {
    for (name, ranges) in &bgp.prefix_sets {
        check_set(bgp, name, ranges, findings);
    }
    for (index, peer) in bgp.peers.iter().enumerate() {
        let key = |name: &str| format!("bgp.peers[{index}].{name}");
        check_limit(peer, &key, findings);
        check_rules(&bgp.prefix_sets, peer, &key, findings);
    }
}

fn check_set(bgp: &Bgp, name: &str, ranges: &[PrefixRange], findings: &mut Findings) {
    let key = format!("bgp.prefix_sets.{name}");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        findings.error(
            key.clone(),
            format!("{name:?} is no name of a set; use letters, digits, \"-\" and \"_\""),
        );
    }
    if ranges.is_empty() {
        findings
            .error(key.clone(), "the set is empty, so that nothing can be in it; give a range or remove it");
    }
    check_ranges(&key, ranges, findings);
    let named = |rule: &Rule| rule.prefix_set.as_deref() == Some(name);
    if !bgp.peers.iter().flat_map(|peer| &peer.rules).any(named) {
        findings.warning(key, "no rule names the set; remove it, or add `prefix_set` to a rule");
    }
}

fn check_ranges(key: &str, ranges: &[PrefixRange], findings: &mut Findings) {
    for (index, range) in ranges.iter().enumerate() {
        let key = format!("{key}[{index}]");
        if ranges[..index].contains(range) {
            findings.error(key, format!("{} is listed twice with these bounds; remove one", range.prefix));
        } else {
            check_bounds(&key, range, findings);
        }
    }
}

fn check_limit(peer: &Peer, key: &dyn Fn(&str) -> String, findings: &mut Findings) {
    if !(1..=100).contains(&peer.max_prefixes_warning) {
        let percent = peer.max_prefixes_warning;
        findings.error(
            key("max_prefixes_warning"),
            format!("{percent} is outside of 1 to 100 percent; the default is 80"),
        );
    }
    if peer.max_prefixes_restart < Duration::from_secs(1) {
        let pause = format_duration(peer.max_prefixes_restart);
        let message = format!("{pause} is less than 1s, which would flood the peer; the default is \"5m\"");
        findings.error(key("max_prefixes_restart"), message);
    }
}

fn check_rules(sets: &Sets, peer: &Peer, key: &dyn Fn(&str) -> String, findings: &mut Findings) {
    if peer.rules.is_empty() && peer.rules_default.is_some() {
        let message =
            "has no effect without [[bgp.peers.rules]]: then everything is accepted; remove the key";
        findings.warning(key("rules_default"), message);
    }
    for (index, rule) in peer.rules.iter().enumerate() {
        let rule_key = key(&format!("rules[{index}]"));
        check_rule(sets, rule, &rule_key, findings);
        if let Some(earlier) = peer.rules[..index].iter().position(|earlier| shadows(earlier, rule)) {
            let why = if peer.rules[earlier].is_unconditional() {
                "every path matches it"
            } else {
                "it has the same conditions"
            };
            let earlier = key(&format!("rules[{earlier}]"));
            findings
                .warning(rule_key, format!("is never asked: {earlier} comes first and {why}; remove one"));
        }
    }
}

/// Whether every path that `later` matches is decided by `earlier` already, as far as that is plain.
fn shadows(earlier: &Rule, later: &Rule) -> bool {
    let conditions = |rule: &Rule| Rule {
        action: RuleAction::Accept,
        set_local_pref: None,
        set_weight: None,
        ..rule.clone()
    };
    earlier.is_unconditional() || conditions(earlier) == conditions(later)
}

fn check_rule(sets: &Sets, rule: &Rule, key: &str, findings: &mut Findings) {
    check_ranges(&format!("{key}.prefixes"), &rule.prefixes, findings);
    check_twice(&format!("{key}.communities"), &rule.communities, findings);
    check_twice(&format!("{key}.large_communities"), &rule.large_communities, findings);
    check_twice(&format!("{key}.next_hops"), &rule.next_hops, findings);
    if let Some(name) = &rule.prefix_set
        && !sets.contains_key(name)
    {
        let known: Vec<&str> = sets.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message =
            format!("no set {name:?} in [bgp.prefix_sets] (known: {known}); add it or correct the name");
        findings.error(format!("{key}.prefix_set"), message);
    }
    if rule.action == RuleAction::Reject {
        let set = [("set_local_pref", rule.set_local_pref), ("set_weight", rule.set_weight)];
        for (name, _) in set.iter().filter(|(_, value)| value.is_some()) {
            let message = "has no effect on a path that is rejected; remove it, or set action = \"accept\"";
            findings.error(format!("{key}.{name}"), message);
        }
    }
}

fn check_twice<T: PartialEq>(key: &str, list: &[T], findings: &mut Findings) {
    for (index, element) in list.iter().enumerate() {
        if list[..index].contains(element) {
            findings.error(format!("{key}[{index}]"), "listed twice; remove one");
        }
    }
}
