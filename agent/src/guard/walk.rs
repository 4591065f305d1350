//! The way of packets in transit through the chains, by what is known of them.

use std::collections::BTreeMap;

use super::bypass::Bypass;
use super::model::{Effect, Hook, Rule, Step, Table};
use super::transit::{Mark, Transit, Verdict};

/// No kernel nests deeper (`NFT_JUMP_STACK_SIZE` is 16; iptables refuses loops).
const DEPTH: usize = 64;

/// A rule, or a policy, that could decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// Chain.
    pub chain: &'a str,
    /// Rule; `None`: the chain's policy.
    pub rule: Option<&'a Rule>,
    /// "drops it".
    pub why: String,
    /// Entry of `datapath.bypass` that names it.
    pub bypass: Option<usize>,
}

/// How packets leave a chain; `None`: none does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// At its end, or by return: with this mark.
    through: Option<Mark>,
    /// To the next base chain.
    accepted: Option<Mark>,
}

/// Walks the base chains of a table.
pub struct Walk<'a> {
    table: &'a Table,
    transit: &'a Transit<'a>,
    bypass: &'a [Bypass],
    hook: Hook,
    /// Chains that were walked, with the mark and the bypass that they were entered with.
    known: BTreeMap<(&'a str, Mark, Option<usize>), Outcome>,
    depth: usize,
    /// What was found.
    pub hits: Vec<Hit<'a>>,
}

impl<'a> Walk<'a> {
    /// Of a table, at a hook.
    pub fn new(table: &'a Table, transit: &'a Transit<'a>, bypass: &'a [Bypass], hook: Hook) -> Self {
        Self { table, transit, bypass, hook, known: BTreeMap::new(), depth: 0, hits: Vec::new() }
    }

    /// Walks a base chain; gives the mark that packets have behind it.
    pub fn base(&mut self, chain: &'a str, drops: bool, mark: Mark) -> Mark {
        let named = self.named(chain, None);
        let outcome = self.chain(chain, mark, None);
        if drops && outcome.through.is_some() {
            let why = "its policy drops what no rule accepts".to_owned();
            self.hits.push(Hit { chain, rule: None, why, bypass: named });
        }
        join(outcome.through, outcome.accepted).unwrap_or(mark)
    }

    /// The entry that names a chain, or the one that named a chain on the way to it.
    fn named(&self, chain: &str, before: Option<usize>) -> Option<usize> {
        let covers = |entry: &Bypass| entry.covers_chain(self.table.owner, &self.table.name, chain);
        before.or_else(|| self.bypass.iter().position(covers))
    }

    fn chain(&mut self, name: &'a str, mark: Mark, before: Option<usize>) -> Outcome {
        let bypass = self.named(name, before);
        let key = (name, mark, bypass);
        if let Some(outcome) = self.known.get(&key) {
            return *outcome;
        }
        let Some(chain) = self.table.chains.get(name).filter(|_| self.depth < DEPTH) else {
            let why = "is a chain that cannot be followed".to_owned();
            self.hits.push(Hit { chain: name, rule: None, why, bypass });
            return Outcome { through: Some(Mark::UNKNOWN), accepted: Some(Mark::UNKNOWN) };
        };
        self.depth += 1;
        let mut outcome = Outcome::default();
        let mut state = Some(mark);
        for rule in &chain.rules {
            let Some(mark) = state else { break };
            state = self.rule(name, rule, mark, bypass, &mut outcome);
        }
        self.depth -= 1;
        outcome.through = join(outcome.through, state);
        self.known.insert(key, outcome);
        outcome
    }

    /// Applies a rule; gives the mark of the packets that go on behind it.
    fn rule(
        &mut self,
        chain: &'a str,
        rule: &'a Rule,
        mark: Mark,
        bypass: Option<usize>,
        outcome: &mut Outcome,
    ) -> Option<Mark> {
        // Packets that some condition kept out, and those that are still in the rule.
        let (mut out, mut state) = (None, mark);
        for step in &rule.steps {
            match step {
                Step::Match(condition) => match self.transit.verdict(condition, self.hook, state) {
                    Verdict::Always => {}
                    Verdict::Maybe => out = join(out, Some(state)),
                    Verdict::Never => return join(out, Some(state)),
                },
                Step::Effect(Effect::Harmless) => {}
                Step::Effect(Effect::Mark { keep, xor }) => {
                    let after = state.set(*keep, *xor);
                    if self.hook <= Hook::Prerouting && after != state {
                        self.hit(chain, rule, "sets the mark, on which the route may depend", bypass);
                    }
                    state = after;
                }
                Step::Effect(Effect::Decides(why)) => self.hit(chain, rule, why, bypass),
                Step::Effect(Effect::Unknown(why)) => {
                    self.hit(chain, rule, why, bypass);
                    state = Mark::UNKNOWN;
                }
                Step::Effect(Effect::Accept) => {
                    outcome.accepted = join(outcome.accepted, Some(state));
                    return out;
                }
                Step::Effect(Effect::Return) => {
                    outcome.through = join(outcome.through, Some(state));
                    return out;
                }
                Step::Effect(Effect::Goto(target)) => {
                    let inner = self.chain(target, state, bypass);
                    outcome.accepted = join(outcome.accepted, inner.accepted);
                    outcome.through = join(outcome.through, inner.through);
                    return out;
                }
                Step::Effect(Effect::Jump(target)) => {
                    let inner = self.chain(target, state, bypass);
                    outcome.accepted = join(outcome.accepted, inner.accepted);
                    match inner.through {
                        Some(mark) => state = mark,
                        None => return out,
                    }
                }
            }
        }
        join(out, Some(state))
    }

    fn hit(&mut self, chain: &'a str, rule: &'a Rule, why: &str, bypass: Option<usize>) {
        self.hits.push(Hit { chain, rule: Some(rule), why: why.to_owned(), bypass });
    }
}

fn join(one: Option<Mark>, other: Option<Mark>) -> Option<Mark> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.join(other)),
        (one, other) => one.or(other),
    }
}
