//! What to do so that the kernel has what is wanted. Pure.

mod on_link;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::op::{Op, OwnRoute, Ownership};
use crate::netlink::model::{Family, IfIndex, Route, RouteNextHop, RouteType, State};
use crate::rib::model::SelectedRoute;

/// A route that is not ours has the key that ours would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a route of protocol {protocol} with the same metric {metric} in table {table} is in the way, set kernel.metric to another value"
)]
pub struct Blocked {
    /// Its `rtm_protocol`.
    pub protocol: u8,
    /// Its metric.
    pub metric: u32,
    /// Its table.
    pub table: u32,
}

/// The plan for one prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixPlan {
    /// What to do; `None` when the kernel has what can be had.
    pub op: Option<Op>,
    /// Why the wanted route is not the one that the kernel uses for its key.
    pub blocked: Option<Blocked>,
    /// Next hops that are left out because no interface with link leads to them, while others have
    /// one: the kernel would refuse the whole route for their sake.
    pub left_out: Vec<IpAddr>,
}

/// What to do for all prefixes, wanted or ours. Without `may_delete` routes of prefixes that are not
/// wanted stay.
pub fn plan(
    desired: &BTreeMap<IpNet, SelectedRoute>,
    state: &State,
    ownership: Ownership,
    may_delete: bool,
) -> Vec<Op> {
    let mut prefixes: BTreeSet<IpNet> = desired.keys().copied().collect();
    prefixes.extend(owned(state, ownership).map(|route| route.prefix));
    prefixes
        .into_iter()
        .filter_map(|prefix| plan_prefix(prefix, desired.get(&prefix), state, ownership, may_delete).op)
        .collect()
}

/// Takes out every route of ours.
pub fn flush(state: &State, ownership: Ownership) -> Vec<Op> {
    plan(&BTreeMap::new(), state, ownership, true)
}

/// Every route of ours.
pub fn owned(state: &State, ownership: Ownership) -> impl Iterator<Item = Route> {
    state.routes.iter().filter(move |route| ownership.is_ours(route))
}

/// Takes out next hops of ours that the kernel shows as part of an IPv6 route that somebody else began
/// with our key; `added` are those that we once added. The kernel takes out only those with our protocol.
pub fn hidden(prefix: IpNet, added: &BTreeSet<IpAddr>, state: &State, ownership: Ownership) -> Option<Op> {
    if added.is_empty() {
        return None;
    }
    let metric = ownership.metric_of(Family::of(prefix.addr()));
    let mut routes = state.routes.to(ownership.table, prefix);
    let rival = routes.find(|route| route.metric == metric && !ownership.is_ours(route))?;
    let is_ours = |hop: &&RouteNextHop| hop.gateway.is_some_and(|gateway| added.contains(&gateway));
    let mut ours = rival.with_next_hops(rival.next_hops.iter().filter(is_ours).cloned().collect());
    ours.protocol = ownership.protocol;
    (!ours.next_hops.is_empty()).then(|| Op::Delete { prefix, routes: vec![ours] })
}

/// The plan for one prefix; `desired` is `None` when no route is wanted.
pub fn plan_prefix(
    prefix: IpNet,
    desired: Option<&SelectedRoute>,
    state: &State,
    ownership: Ownership,
    may_delete: bool,
) -> PrefixPlan {
    let exits = desired.map(|desired| Exits::to(&desired.next_hops, state));
    plan_by(prefix, exits.as_ref(), state, ownership, may_delete)
}

/// As [`plan_prefix`], with what is known of the wanted next hops.
pub fn plan_by(
    prefix: IpNet,
    exits: Option<&Exits>,
    state: &State,
    ownership: Ownership,
    may_delete: bool,
) -> PrefixPlan {
    let all: Vec<Route> = state.routes.to(ownership.table, prefix).collect();
    let ours: Vec<&Route> = all.iter().filter(|route| ownership.is_ours(route)).collect();
    let Some(exits) = exits else {
        return PrefixPlan { op: delete(prefix, ours, may_delete), ..PrefixPlan::default() };
    };
    let family = Family::of(prefix.addr());
    let left_out = exits.left_out.clone();
    let wanted = OwnRoute {
        table: ownership.table,
        protocol: ownership.protocol,
        metric: ownership.metric_of(family),
        prefix,
        next_hops: exits.next_hops.clone(),
    };
    let at_key = |route: &Route| route.tos == 0 && route.metric == wanted.metric;
    let rival = all.iter().find(|route| !ownership.is_ours(route) && at_key(route));
    if let Some(rival) = rival
        && !ours.iter().any(|route| at_key(route))
    {
        let blocked = Some(Blocked::by(rival));
        return PrefixPlan { op: delete(prefix, ours, may_delete), blocked, left_out };
    }
    match family {
        Family::Ipv4 => {
            let first = all.iter().find(|route| at_key(route)).filter(|first| !ownership.is_ours(first));
            PrefixPlan { op: plan_ipv4(&wanted, exits, ours), blocked: first.map(Blocked::by), left_out }
        }
        Family::Ipv6 => PrefixPlan { op: plan_ipv6(&wanted, exits, ours), blocked: None, left_out },
    }
}

/// What is known of the next hops of routes while the kernel's state stays as it is: many routes have the same.
#[derive(Debug)]
pub struct Known<'a> {
    state: &'a State,
    exits: HashMap<Arc<SelectedRoute>, Exits>,
}

impl<'a> Known<'a> {
    /// Nothing yet.
    pub fn new(state: &'a State) -> Self {
        Self { state, exits: HashMap::new() }
    }

    /// The kernel's state.
    pub const fn state(&self) -> &'a State {
        self.state
    }

    /// The interfaces that lead to the next hops of a route.
    pub fn exits(&mut self, route: &Arc<SelectedRoute>) -> &Exits {
        self.exits.entry(route.clone()).or_insert_with(|| Exits::to(&route.next_hops, self.state))
    }
}

/// The wanted next hops with the interfaces that lead to them.
#[derive(Clone, Debug)]
pub struct Exits {
    interfaces: BTreeMap<IpAddr, Vec<IfIndex>>,
    /// Those that are wanted in the kernel.
    next_hops: Arc<[IpAddr]>,
    left_out: Vec<IpAddr>,
}

impl Exits {
    /// Leaves out the next hops that nothing leads to, unless that is all of them: then the kernel
    /// may know better, and says what is wrong if it does not.
    fn to(next_hops: &[IpAddr], state: &State) -> Self {
        let mut interfaces: BTreeMap<IpAddr, Vec<IfIndex>> =
            next_hops.iter().map(|hop| (*hop, on_link::interfaces_to(state, *hop))).collect();
        let mut left_out: Vec<IpAddr> =
            interfaces.iter().filter(|(_, interfaces)| interfaces.is_empty()).map(|(hop, _)| *hop).collect();
        if left_out.len() == interfaces.len() {
            left_out.clear();
        } else {
            interfaces.retain(|_, interfaces| !interfaces.is_empty());
        }
        Self { next_hops: interfaces.keys().copied().collect(), interfaces, left_out }
    }

    /// Whether a next hop as read back is a wanted one, by an interface that leads there: the kernel
    /// keeps an IPv4 route on its interface when the subnet moves to another one.
    fn include(&self, hop: &RouteNextHop) -> bool {
        let interfaces = hop.gateway.and_then(|gateway| self.interfaces.get(&gateway));
        interfaces.is_some_and(|interfaces| interfaces.is_empty() || interfaces.contains(&hop.ifindex))
    }
}

/// IPv4 keeps several routes with one key side by side and uses the first. A replacement by
/// `NLM_F_REPLACE` would overwrite the first one whatever its protocol, so the new one is appended and
/// the old one taken out: the kernel goes from one to the next without a gap.
fn plan_ipv4(wanted: &OwnRoute, exits: &Exits, ours: Vec<&Route>) -> Option<Op> {
    let key_is_free = ours.is_empty();
    let kept = ours.iter().position(|route| is_as_wanted(route, wanted, exits));
    let mut old = ours;
    if let Some(kept) = kept {
        old.remove(kept);
        return delete(wanted.prefix, old, true);
    }
    if key_is_free {
        return Some(Op::Add(wanted.clone()));
    }
    Some(Op::Replace { new: wanted.clone(), old: old.into_iter().cloned().collect() })
}

/// IPv6 merges all gateway routes with one key into one multipath route, whoever they are from, and
/// `NLM_F_REPLACE` would take them all: next hops are added and taken out one by one instead, and
/// the kernel refuses to take out one of another protocol.
fn plan_ipv6(wanted: &OwnRoute, exits: &Exits, ours: Vec<&Route>) -> Option<Op> {
    if ours.is_empty() {
        return Some(Op::Add(wanted.clone()));
    }
    let mut present = BTreeSet::new();
    let mut old = Vec::new();
    for route in ours {
        let keeps = route.metric == wanted.metric && is_plain(route);
        let (stay, go): (Vec<&RouteNextHop>, Vec<&RouteNextHop>) =
            route.next_hops.iter().partition(|hop| keeps && exits.include(hop));
        present.extend(stay.iter().filter_map(|hop| hop.gateway));
        if !go.is_empty() || stay.is_empty() {
            old.push(route.with_next_hops(go.into_iter().cloned().collect()));
        }
    }
    let missing: Vec<IpAddr> =
        wanted.next_hops.iter().filter(|hop| !present.contains(*hop)).copied().collect();
    if missing.is_empty() {
        return (!old.is_empty()).then_some(Op::Delete { prefix: wanted.prefix, routes: old });
    }
    Some(Op::Replace { new: OwnRoute { next_hops: missing.into(), ..wanted.clone() }, old })
}

fn delete(prefix: IpNet, routes: Vec<&Route>, may_delete: bool) -> Option<Op> {
    (may_delete && !routes.is_empty())
        .then(|| Op::Delete { prefix, routes: routes.into_iter().cloned().collect() })
}

/// Whether a route of ours, as read back, is the wanted one. Next hops that the kernel has marked dead
/// count: it uses them again by itself when the link is back.
fn is_as_wanted(route: &Route, wanted: &OwnRoute, exits: &Exits) -> bool {
    route.metric == wanted.metric
        && is_plain(route)
        && route.next_hops.len() == wanted.next_hops.len()
        && route.next_hops.iter().all(|hop| hop.weight == 1 && exits.include(hop))
        && wanted
            .next_hops
            .iter()
            .all(|gateway| route.next_hops.iter().any(|hop| hop.gateway == Some(*gateway)))
}

/// Whether a route is of the shape that we write, apart from its next hops.
fn is_plain(route: &Route) -> bool {
    route.kind == RouteType::Unicast
        && route.tos == 0
        && route.nexthop_id.is_none()
        && route.mtu.is_none()
        && route.preferred_source.is_none()
        && route.source_prefix.is_none()
        && !route.unsupported
        && route.next_hops.iter().all(|hop| !hop.encapsulated && !hop.on_link)
}

impl Blocked {
    fn by(route: &Route) -> Self {
        Self { protocol: route.protocol, metric: route.metric, table: route.table }
    }
}

#[cfg(test)]
mod tests;
