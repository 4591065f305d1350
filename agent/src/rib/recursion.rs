//! Next hops that are reached over other routes (RFC 4271 §5.1.3 and §9.1.2.1).
//!
//! A next hop on a link of ours is its own exit. Any other is looked up, longest match, among the kernel's
//! routes ([`super::underlay`]) and the selected ones here; the kernel's win between equal lengths. A learned
//! route leads on to its own next hops, up to [`DEPTH`] times and never back to one that was asked before.
//! What leads nowhere takes no part in the selection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Rib;
use super::best::Candidate;
use super::model::SelectedRoute;
use super::underlay::Way;
use crate::prefix_map::PrefixSet;

/// Most learned routes on the way to a next hop.
const DEPTH: usize = 8;
/// A change may make next hops of other routes reachable, and so on. More rounds than this can only be routes
/// that take turns in hiding each other.
const ROUNDS: usize = 16;
/// Next hops that are remembered before those that nobody announces any more are forgotten.
const REMEMBERED: usize = 1024;

/// What is known of next hops.
#[derive(Clone, Debug, Default)]
pub(super) struct Exits {
    ways: BTreeMap<IpAddr, Way>,
    /// Those of `ways` that are not on a link.
    indirect: BTreeSet<IpAddr>,
    /// Announced, and not looked for yet: taken for on-link meanwhile.
    unknown: BTreeSet<IpAddr>,
    /// Next hops as announced, of selected routes whose own are others.
    announced: BTreeMap<IpNet, Vec<IpAddr>>,
}

impl Exits {
    /// A path with this next hop was announced.
    pub(super) fn note(&mut self, next_hop: IpAddr) {
        if !self.ways.contains_key(&next_hop) {
            self.unknown.insert(next_hop);
        }
    }

    /// A prefix has no route any more.
    pub(super) fn forget(&mut self, prefix: &IpNet) {
        self.announced.remove(prefix);
    }

    /// Whether all next hops known are their own exits, so that nothing need be looked up.
    pub(super) fn are_direct(&self) -> bool {
        self.indirect.is_empty()
    }
}

impl Rib {
    /// Next hops whose way is to be looked for since the last call; tell [`Self::set_ways`].
    pub fn take_unknown(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.exits.unknown)
    }

    /// Next hops in use, for which a change in the kernel may have another answer.
    pub fn next_hops(&self) -> impl Iterator<Item = IpAddr> {
        self.exits.ways.keys().copied()
    }

    /// Takes in how the kernel gets to next hops; the prefixes whose selected route is another now.
    pub fn set_ways(&mut self, ways: impl IntoIterator<Item = (IpAddr, Way)>) -> PrefixSet {
        let mut changed = BTreeSet::new();
        for (next_hop, way) in ways {
            let direct = way == Way::OnLink;
            let before = self.exits.ways.insert(next_hop, way);
            if direct {
                self.exits.indirect.remove(&next_hop);
            } else {
                self.exits.indirect.insert(next_hop);
            }
            // A new one was taken for on-link.
            if before.unwrap_or(Way::OnLink) != self.exits.ways[&next_hop] {
                changed.insert(next_hop);
            }
        }
        self.forget_unused();
        let touched = self.prefixes_by(&changed);
        let mut result: PrefixSet = touched.iter().filter(|prefix| self.reselect_one(prefix)).collect();
        if !self.exits.are_direct() {
            let dependents = self.follow(touched);
            result.append(&dependents);
        }
        result
    }

    /// The exits of a next hop: itself on a link, otherwise where routes lead; empty when nowhere.
    fn exits_of(&self, next_hop: IpAddr, asked: &mut Vec<IpAddr>) -> BTreeSet<IpAddr> {
        let way = match self.exits.ways.get(&next_hop) {
            None | Some(Way::OnLink) => return [next_hop].into(),
            Some(way) => way,
        };
        if asked.len() >= DEPTH || asked.contains(&next_hop) {
            return BTreeSet::new();
        }
        let kernel = if let Way::Via { length, .. } = way { *length } else { 0 };
        if let Some((prefix, route)) = self.learned(next_hop, kernel) {
            let announced = self.exits.announced.get(&prefix).unwrap_or(&route.next_hops);
            asked.push(next_hop);
            let exits = announced.iter().flat_map(|next| self.exits_of(*next, asked)).collect();
            asked.pop();
            return exits;
        }
        match way {
            Way::Via { gateways, .. } => gateways.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// The longest selected route that covers a next hop, if it is longer than `kernel`. The default route
    /// does not count.
    fn learned(&self, next_hop: IpAddr, kernel: u8) -> Option<(IpNet, &SelectedRoute)> {
        let (prefix, route) = self.selected.longest_cover(&next_hop.into())?;
        (prefix.prefix_len() > kernel).then_some((prefix, route))
    }

    /// Leaves out candidates that lead nowhere.
    pub(super) fn reachable<'a>(&self, mut candidates: Vec<Candidate<'a>>) -> Vec<Candidate<'a>> {
        candidates
            .retain(|candidate| !self.exits_of(candidate.attributes.next_hop, &mut Vec::new()).is_empty());
        candidates
    }

    /// Next hops that are announced and lead nowhere, with the first prefix of each.
    pub fn unreachable(&self) -> BTreeMap<IpAddr, IpNet> {
        let lost = |hop: &&IpAddr| self.exits_of(**hop, &mut Vec::new()).is_empty();
        let lost: BTreeSet<IpAddr> = self.exits.indirect.iter().filter(lost).copied().collect();
        let mut first = BTreeMap::new();
        if !lost.is_empty() {
            for (prefix, path) in self.peers.values().flat_map(|peer| peer.adj_in.iter()) {
                let next_hop = path.attributes.next_hop;
                if lost.contains(&next_hop) {
                    first.entry(next_hop).or_insert(prefix);
                }
            }
        }
        first
    }

    /// Puts the exits in the place of the next hops that were announced, which are remembered.
    pub(super) fn lead_on(&mut self, prefix: IpNet, route: SelectedRoute) -> SelectedRoute {
        if self.exits.are_direct() {
            self.exits.forget(&prefix);
            return route;
        }
        let mut exits = BTreeSet::new();
        for next_hop in &route.next_hops {
            exits.append(&mut self.exits_of(*next_hop, &mut Vec::new()));
        }
        let mut next_hops: Vec<IpAddr> = exits.into_iter().collect();
        let most = self.config.maximum_paths.ebgp.max(self.config.maximum_paths.ibgp);
        next_hops.truncate(most.max(1));
        if next_hops.is_empty() || next_hops == route.next_hops {
            self.exits.announced.remove(&prefix);
            return route;
        }
        self.exits.announced.insert(prefix, route.next_hops);
        SelectedRoute { next_hops }
    }

    /// The next hops as announced, where the selected route has the exits in their place.
    #[cfg(test)]
    pub fn announced_next_hops(&self, prefix: &IpNet) -> Option<&[IpAddr]> {
        self.exits.announced.get(prefix).map(Vec::as_slice)
    }

    /// Selects again the routes whose next hops lead over these prefixes, which have another route now or are
    /// reached otherwise, until nothing changes; the prefixes that have another route in the end.
    pub(super) fn follow(&mut self, mut prefixes: PrefixSet) -> PrefixSet {
        let mut all = PrefixSet::new();
        for _ in 0..ROUNDS {
            let dependents = self.dependents(prefixes);
            prefixes = dependents.iter().filter(|prefix| self.reselect_one(prefix)).collect();
            if prefixes.is_empty() {
                return all;
            }
            all.append(&prefixes);
        }
        tracing::warn!(prefixes = prefixes.len(), "routes take turns in hiding each other's next hops");
        all
    }

    /// Prefixes with a next hop over one of these, over one of those, and so on.
    fn dependents(&self, mut prefixes: PrefixSet) -> PrefixSet {
        let mut all = PrefixSet::new();
        loop {
            let covers = |hop: &&IpAddr| {
                prefixes.iter().any(|prefix| prefix.prefix_len() > 0 && prefix.contains(*hop))
            };
            let concerned: BTreeSet<IpAddr> = self.exits.indirect.iter().filter(covers).copied().collect();
            prefixes = self.prefixes_by(&concerned).iter().filter(|prefix| !all.contains(prefix)).collect();
            if prefixes.is_empty() {
                return all;
            }
            all.append(&prefixes);
        }
    }

    /// Prefixes with a path by one of these next hops, directly or over learned routes.
    fn prefixes_by(&self, next_hops: &BTreeSet<IpAddr>) -> PrefixSet {
        if next_hops.is_empty() {
            return PrefixSet::new();
        }
        let paths = self.peers.values().flat_map(|peer| peer.adj_in.iter());
        paths
            .filter(|(_, path)| next_hops.contains(&path.attributes.next_hop))
            .map(|(prefix, _)| prefix)
            .collect()
    }

    fn forget_unused(&mut self) {
        if self.exits.ways.len() <= REMEMBERED {
            return;
        }
        let paths = self.peers.values().flat_map(|peer| peer.adj_in.iter());
        let used: BTreeSet<IpAddr> = paths.map(|(_, path)| path.attributes.next_hop).collect();
        self.exits.ways.retain(|next_hop, _| used.contains(next_hop));
        self.exits.indirect.retain(|next_hop| used.contains(next_hop));
    }
}
