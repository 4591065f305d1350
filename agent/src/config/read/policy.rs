//! Prefix sets and the rules of peers.

use std::collections::BTreeMap;

use super::{RANGE, read_range};
use crate::config::model::{PrefixRange, Rule, RuleAction};
use crate::config::reader::{Element, Section};
use crate::config::value::Value;

/// `[bgp.prefix_sets]`: every key is a set.
pub(super) fn read_sets(section: &Section<'_, '_>) -> BTreeMap<String, Vec<PrefixRange>> {
    let lists = section.named_lists(RANGE).into_iter();
    lists.map(|(name, ranges)| (name, ranges.iter().filter_map(read_range).collect())).collect()
}

/// `[[bgp.peers.rules]]` of a peer.
pub(super) fn read_rules(peer: &mut Section<'_, '_>) -> Vec<Rule> {
    let rules = peer.optional_elements("rules", "a table [[bgp.peers.rules]]").unwrap_or_default();
    rules.iter().filter_map(read_rule).collect()
}

fn read_rule(element: &Element<'_, '_>) -> Option<Rule> {
    let Some(mut section) = element.table() else {
        element.refuse("a table [[bgp.peers.rules]]");
        return None;
    };
    if section.is_empty() {
        element.problem("an empty rule; give a condition, `action` or something to set, or remove it");
    }
    let rule = Rule {
        prefixes: section.filled_elements("prefixes", RANGE).iter().filter_map(read_range).collect(),
        prefix_set: section.optional("prefix_set"),
        communities: condition(&mut section, "communities"),
        large_communities: condition(&mut section, "large_communities"),
        as_path: section.optional("as_path"),
        next_hops: condition(&mut section, "next_hops"),
        action: section.or("action", RuleAction::Accept),
        set_local_pref: section.optional("set_local_pref"),
        set_weight: section.optional("set_weight"),
    };
    section.finish();
    Some(rule)
}

/// The values of a condition, one of which must match. An empty list could mean everything or nothing.
fn condition<T: Value>(section: &mut Section<'_, '_>, key: &'static str) -> Vec<T> {
    section.filled_elements(key, T::EXPECTED).iter().filter_map(Element::read).collect()
}
