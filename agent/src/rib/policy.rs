//! Import policy of a peer: rules that decide about the paths that the guards let through. Pure.
//!
//! The first rule whose every condition holds decides. Rules only narrow what [`super::guard`] accepts.

pub mod as_path;
pub mod community;

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::model::Attributes;
use crate::config::model::{Peer, PrefixRange, Rule, RuleAction};

/// What policy sets on a path; stays on this machine. The default leaves it as it was announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Settings {
    /// In place of the `LOCAL_PREF` announced.
    pub local_pref: Option<u32>,
    /// Compared before `LOCAL_PREF`, the higher is preferred.
    pub weight: u32,
}

/// What policy says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it, with these settings.
    Accept(Settings),
    /// Leave it out.
    Reject,
}

/// The rules of a peer, with the prefix sets that they name. The default accepts everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Step>,
    /// What follows when no rule matches.
    otherwise: Verdict,
}

/// A rule with its prefix set looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    rule: Rule,
    /// Lists of which each must have a range that the prefix is in.
    prefixes: Vec<Vec<PrefixRange>>,
    verdict: Verdict,
}

impl Default for Policy {
    fn default() -> Self {
        Self { rules: Vec::new(), otherwise: Verdict::Accept(Settings::default()) }
    }
}

impl Policy {
    /// The policy that a configuration gives to a peer. A set that does not exist holds no prefix.
    pub fn new(peer: &Peer, sets: &BTreeMap<String, Vec<PrefixRange>>) -> Self {
        if peer.rules.is_empty() {
            return Self::default();
        }
        Self {
            rules: peer.rules.iter().map(|rule| Step::new(rule, sets)).collect(),
            otherwise: match peer.rules_default {
                Some(RuleAction::Accept) => Verdict::Accept(Settings::default()),
                Some(RuleAction::Reject) | None => Verdict::Reject,
            },
        }
    }

    /// Leaves the rules that can match paths with these attributes, so that those are looked at once for all
    /// prefixes of an UPDATE.
    pub fn narrow(&self, attributes: &Attributes) -> Narrowed<'_> {
        let rules = self.rules.iter().filter(|step| matches_attributes(&step.rule, attributes));
        Narrowed { rules: rules.collect(), otherwise: self.otherwise }
    }
}

/// The part of a policy that is left for certain attributes.
#[derive(Debug)]
pub struct Narrowed<'a> {
    rules: Vec<&'a Step>,
    otherwise: Verdict,
}

impl Narrowed<'_> {
    /// What the policy says about a prefix with the attributes.
    pub fn decide(&self, prefix: IpNet) -> Verdict {
        let decides = |step: &&&Step| step.prefixes.iter().all(|ranges| in_any(ranges, prefix));
        self.rules.iter().find(decides).map_or(self.otherwise, |step| step.verdict)
    }
}

impl Step {
    fn new(rule: &Rule, sets: &BTreeMap<String, Vec<PrefixRange>>) -> Self {
        let set = rule.prefix_set.as_ref().map(|name| sets.get(name).cloned().unwrap_or_default());
        let list = (!rule.prefixes.is_empty()).then(|| rule.prefixes.clone());
        let verdict = match rule.action {
            RuleAction::Accept => Verdict::Accept(Settings {
                local_pref: rule.set_local_pref,
                weight: rule.set_weight.unwrap_or_default(),
            }),
            RuleAction::Reject => Verdict::Reject,
        };
        Self { rule: rule.clone(), prefixes: list.into_iter().chain(set).collect(), verdict }
    }
}

fn in_any(ranges: &[PrefixRange], prefix: IpNet) -> bool {
    ranges.iter().any(|range| range.contains(prefix))
}

fn matches_attributes(rule: &Rule, attributes: &Attributes) -> bool {
    let Attributes { communities, large_communities, as_path, next_hop, .. } = attributes;
    let any_community =
        || rule.communities.iter().any(|pattern| communities.iter().any(|value| pattern.matches(*value)));
    let any_large = || {
        rule.large_communities
            .iter()
            .any(|pattern| large_communities.iter().any(|value| pattern.matches(*value)))
    };
    (rule.communities.is_empty() || any_community())
        && (rule.large_communities.is_empty() || any_large())
        && rule.as_path.as_ref().is_none_or(|mask| mask.matches(as_path))
        && (rule.next_hops.is_empty() || rule.next_hops.iter().any(|network| network.contains(next_hop)))
}

/// Gives out attributes with settings applied: one copy per setting, whatever the number of prefixes.
#[derive(Debug)]
pub struct Copies {
    announced: Arc<Attributes>,
    copies: Vec<Arc<Attributes>>,
}

impl Copies {
    /// Of what an UPDATE announces.
    pub const fn of(announced: Arc<Attributes>) -> Self {
        Self { announced, copies: Vec::new() }
    }

    /// The attributes with these settings.
    pub fn with(&mut self, settings: Settings) -> Arc<Attributes> {
        if settings == self.announced.settings {
            return self.announced.clone();
        }
        if let Some(copy) = self.copies.iter().find(|copy| copy.settings == settings) {
            return copy.clone();
        }
        let copy = Arc::new(Attributes { settings, ..Attributes::clone(&self.announced) });
        self.copies.push(copy.clone());
        copy
    }
}

#[cfg(test)]
mod tests;
