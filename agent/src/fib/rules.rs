//! The walk through the policy rules (`fib_rules_lookup`, `net/core/fib_rules.c`), for packets without
//! a mark that come in on one port.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::table::{Answer, Table, Unicast};
use crate::netlink::model::{Family, Rule, RuleAction, TABLE_DEFAULT, TABLE_LOCAL, TABLE_MAIN};

/// The tables that rules refer to, by id.
pub type Tables = BTreeMap<u32, Table>;

/// The port whose packets are walked.
#[derive(Clone, Copy, Debug)]
pub struct Ingress<'a> {
    /// Name, for `iif` selectors.
    pub name: &'a str,
    /// Is a port of a VRF, bridge or bond.
    pub enslaved: bool,
}

/// The rules of both families as far as they can match packets of one port. Ports with equal walks
/// get equal answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    ipv4: Vec<Step>,
    ipv6: Vec<Step>,
}

/// A rule that matches, or may match.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Whether it matches does not depend on ingress and destination alone.
    uncertain: bool,
    /// `to` selector.
    destination: Option<IpNet>,
    /// `not`.
    invert: bool,
    action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Lookup {
        table: u32,
        /// Results with a prefix of at most this length are a miss.
        suppress: Option<u32>,
        /// Further results may be a miss, depending on their interface's group.
        may_suppress: bool,
        /// Tables local and main may still be one trie: see [`is_default`].
        may_be_merged: bool,
    },
    /// Goes on with this step.
    Jump(usize),
    Refuse,
    Unknown,
}

/// The end of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'t> {
    /// No table has an answer.
    Miss,
    /// Blackhole, unreachable or prohibit.
    Refused,
    /// Delivered locally.
    Local,
    /// Depends on more than ingress and destination, or on something unknown.
    Unsupported,
    /// Forwarded.
    Unicast(&'t Unicast),
}

/// What a step does once it matches.
enum Outcome<'t> {
    Continue,
    Jump(usize),
    End(Verdict<'t>),
    /// Ends the walk or not, which only the packet decides.
    MayEnd(Verdict<'t>),
}

impl Walk {
    /// The walk for packets from `ingress`; `rules` in the order of the kernel.
    pub fn new(rules: &[Rule], ingress: Ingress<'_>) -> Self {
        Self { ipv4: steps(rules, Family::Ipv4, ingress), ipv6: steps(rules, Family::Ipv6, ingress) }
    }

    /// Tables that the walk may look into.
    pub fn tables(&self) -> impl Iterator<Item = u32> + '_ {
        self.ipv4.iter().chain(&self.ipv6).filter_map(|step| match step.action {
            Action::Lookup { table, .. } => Some(table),
            Action::Jump(_) | Action::Refuse | Action::Unknown => None,
        })
    }

    /// Destinations that selectors name.
    pub fn destinations(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.ipv4.iter().chain(&self.ipv6).filter_map(|step| step.destination)
    }

    /// What packets get whose destination is in `prefix`, but in no longer prefix of any table or
    /// selector of the walk.
    pub fn verdict<'t>(&self, prefix: &IpNet, tables: &'t Tables) -> Verdict<'t> {
        let steps = match prefix {
            IpNet::V4(_) => &self.ipv4,
            IpNet::V6(_) => &self.ipv6,
        };
        let mut at = 0;
        while let Some(step) = steps.get(at) {
            match step.matches(prefix).map(|matches| matches.then(|| step.outcome(prefix, tables))) {
                Some(None | Some(Outcome::Continue)) => at += 1,
                Some(Some(Outcome::Jump(to))) => at = to,
                Some(Some(Outcome::End(verdict))) => return verdict,
                None | Some(Some(Outcome::MayEnd(_))) => return backwards(&steps[at..], at, prefix, tables),
            }
        }
        Verdict::Miss
    }
}

/// Walks from the last step up, so that both outcomes of an uncertain step are at hand.
/// `offset` is the index that jumps count from.
fn backwards<'t>(steps: &[Step], offset: usize, prefix: &IpNet, tables: &'t Tables) -> Verdict<'t> {
    // verdicts[i]: what the walk gives from step i on.
    let mut verdicts = vec![Verdict::Miss; steps.len() + 1];
    for (i, step) in steps.iter().enumerate().rev() {
        let next = verdicts[i + 1];
        let taken = match step.outcome(prefix, tables) {
            Outcome::Continue => next,
            Outcome::Jump(to) => verdicts[to - offset],
            Outcome::End(verdict) => verdict,
            Outcome::MayEnd(verdict) => either(verdict, next),
        };
        verdicts[i] = match step.matches(prefix) {
            Some(true) => taken,
            Some(false) => next,
            None => either(taken, next),
        };
    }
    verdicts[0]
}

/// The verdict when the packet gets one of two.
fn either<'t>(one: Verdict<'t>, other: Verdict<'t>) -> Verdict<'t> {
    if one == other { one } else { Verdict::Unsupported }
}

impl Step {
    /// Whether the step matches destinations in `prefix`; `None`: only the packet decides.
    fn matches(&self, prefix: &IpNet) -> Option<bool> {
        let inside = self.destination.is_none_or(|destination| destination.contains(prefix));
        let matches = if !inside {
            Some(false)
        } else if self.uncertain {
            None
        } else {
            Some(true)
        };
        matches.map(|matches| matches != self.invert)
    }

    fn outcome<'t>(&self, prefix: &IpNet, tables: &'t Tables) -> Outcome<'t> {
        match &self.action {
            Action::Jump(to) => Outcome::Jump(*to),
            Action::Refuse => Outcome::End(Verdict::Refused),
            Action::Unknown => Outcome::End(Verdict::Unsupported),
            Action::Lookup { table, suppress, may_suppress, may_be_merged } => {
                let Some((length, answer)) = tables.get(table).and_then(|table| table.lookup(prefix)) else {
                    return Outcome::Continue;
                };
                let suppressed = suppress.is_some_and(|longest| u32::from(length) <= longest);
                match answer {
                    Answer::Throw | Answer::Unicast(_) if *may_be_merged => {
                        Outcome::End(Verdict::Unsupported)
                    }
                    Answer::Throw => Outcome::Continue,
                    Answer::Refused => Outcome::End(Verdict::Refused),
                    Answer::Uncertain => Outcome::End(Verdict::Unsupported),
                    Answer::Local | Answer::Opaque | Answer::Unicast(_) if suppressed => Outcome::Continue,
                    Answer::Opaque => Outcome::end(Verdict::Unsupported, *may_suppress),
                    Answer::Local => Outcome::end(Verdict::Local, *may_suppress),
                    Answer::Unicast(route) => Outcome::end(Verdict::Unicast(route), *may_suppress),
                }
            }
        }
    }
}

impl<'t> Outcome<'t> {
    const fn end(verdict: Verdict<'t>, may_suppress: bool) -> Self {
        if may_suppress { Self::MayEnd(verdict) } else { Self::End(verdict) }
    }
}

/// The steps of one family that can match packets of `ingress`.
fn steps(rules: &[Rule], family: Family, ingress: Ingress<'_>) -> Vec<Step> {
    let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.family == family).collect();
    let may_be_merged = family == Family::Ipv4 && is_default(&rules);
    let mut steps = Vec::new();
    // Jumps name rules first, and steps once it is known which rules became one.
    let mut step_of_rule = Vec::with_capacity(rules.len());
    for rule in &rules {
        step_of_rule.push(steps.len());
        steps.extend(step(rule, &rules, ingress, may_be_merged));
    }
    for step in &mut steps {
        if let Action::Jump(rule) = &mut step.action {
            *rule = step_of_rule[*rule];
        }
    }
    steps
}

/// A rule as a step, or `None` when it never matches or does nothing.
fn step(rule: &Rule, rules: &[&Rule], ingress: Ingress<'_>, may_be_merged: bool) -> Option<Step> {
    let action = match rule.action {
        RuleAction::Nop => return None,
        RuleAction::Table(table) => Action::Lookup {
            table,
            suppress: rule.suppress_prefix_length,
            may_suppress: rule.suppress_interface_group,
            may_be_merged: may_be_merged && table == TABLE_LOCAL,
        },
        // The kernel refuses to jump back; a target that does not exist makes the rule a `nop`.
        RuleAction::Goto(target) if target <= rule.priority => Action::Unknown,
        RuleAction::Goto(target) => Action::Jump(rules.iter().position(|rule| rule.priority == target)?),
        RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => Action::Refuse,
        RuleAction::Unknown(_) => Action::Unknown,
    };
    let destination = rule.destination.filter(|destination| destination.prefix_len() > 0);
    match selectors(rule, ingress) {
        // `not` makes a rule that never matches one that always does.
        Some(false) if rule.invert => {
            Some(Step { uncertain: false, destination: None, invert: false, action })
        }
        Some(false) => None,
        Some(true) if rule.invert && destination.is_none() => None,
        certain => Some(Step { uncertain: certain.is_none(), destination, invert: rule.invert, action }),
    }
}

/// Whether the selectors but `to` match packets of `ingress`; `None`: only the packet decides.
fn selectors(rule: &Rule, ingress: Ingress<'_>) -> Option<bool> {
    let input = rule.input_interface.as_deref().is_none_or(|name| name == ingress.name);
    // Forwarded packets have no output interface when their route is looked up.
    let output = rule.output_interface.is_none();
    let mark = rule.mark.is_none_or(|(value, mask)| value & mask == 0);
    if !input || !output || !mark || (rule.l3mdev && !ingress.enslaved) {
        return Some(false);
    }
    let from = rule.source.is_some_and(|source| source.prefix_len() > 0);
    let certain = !from && !rule.has_other_selector && !rule.l3mdev;
    certain.then_some(true)
}

/// Whether these are the IPv4 rules that every namespace starts with. As long as no rule was ever
/// added or removed, the kernel keeps tables local and main in one trie, and the longest prefix of
/// both wins (`fib_trie_unmerge`, `net/ipv4/fib_trie.c`). Equal rules do not tell whether that is so;
/// it makes a difference only where table local forwards or throws, which is left to the kernel.
pub fn is_default(rules: &[&Rule]) -> bool {
    let expected = [(0, TABLE_LOCAL), (32766, TABLE_MAIN), (32767, TABLE_DEFAULT)];
    rules.len() == expected.len()
        && rules.iter().zip(expected).all(|(rule, (priority, table))| {
            rule.priority == priority && rule.action == RuleAction::Table(table) && is_unconditional(rule)
        })
}

/// Whether a rule matches every packet, and takes every answer.
const fn is_unconditional(rule: &Rule) -> bool {
    rule.source.is_none()
        && rule.destination.is_none()
        && rule.input_interface.is_none()
        && rule.output_interface.is_none()
        && rule.mark.is_none()
        && rule.suppress_prefix_length.is_none()
        && !(rule.invert || rule.l3mdev || rule.has_other_selector || rule.suppress_interface_group)
}
