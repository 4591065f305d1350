//! Taking over what a dump read. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{replace, take};

use super::apply::Part;
use super::model::{Delta, State};

/// What a dump read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// The parts that were read; the others are empty in `state`.
    pub parts: BTreeSet<Part>,
    /// What was read.
    pub state: State,
}

impl State {
    /// Takes over the parts that were read and tells what differs from before.
    pub fn install(&mut self, dump: Dump) -> Delta {
        let mut delta = Delta::default();
        let mut new = dump.state;
        for part in dump.parts {
            match part {
                Part::Links => delta.interfaces.extend(take_over(&mut self.links, take(&mut new.links))),
                Part::Neighbours => {
                    delta.neighbours.extend(take_over(&mut self.neighbours, take(&mut new.neighbours)));
                }
                Part::Settings => {
                    delta.interfaces.extend(take_over(&mut self.ipv4_conf, take(&mut new.ipv4_conf)));
                    delta.interfaces.extend(take_over(&mut self.ipv6_conf, take(&mut new.ipv6_conf)));
                }
                Part::Addresses => {
                    let before = replace(&mut self.addresses, take(&mut new.addresses));
                    delta
                        .interfaces
                        .extend(before.symmetric_difference(&self.addresses).map(|address| address.ifindex));
                }
                Part::Rules => {
                    let before = replace(&mut self.rules, take(&mut new.rules));
                    delta.full |= before != self.rules;
                }
                Part::Routes => {
                    let before = replace(&mut self.routes, take(&mut new.routes));
                    delta.prefixes.extend(self.routes.differences(&before));
                }
            }
        }
        delta
    }
}

/// Replaces a map. Gives the keys whose values differ.
fn take_over<K: Ord + Copy, V: PartialEq>(map: &mut BTreeMap<K, V>, new: BTreeMap<K, V>) -> Vec<K> {
    let before = replace(map, new);
    let gone = before.keys().filter(|key| !map.contains_key(key)).copied();
    let changed = map.iter().filter(|(key, value)| before.get(key) != Some(value)).map(|(key, _)| *key);
    gone.chain(changed).collect()
}
