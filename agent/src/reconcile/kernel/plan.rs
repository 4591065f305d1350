//! What to do so that the kernel has what is wanted. Pure.

mod on_link;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::op::{Op, OwnRoute, Ownership};
use crate::netlink::model::{Family, IfIndex, Route, RouteKey, RouteNextHop, RouteType, State};
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
pub fn owned(state: &State, ownership: Ownership) -> impl Iterator<Item = &Route> {
    state.routes.values().flatten().filter(move |route| ownership.is_ours(route))
}

/// Takes out next hops of ours that the kernel shows as part of an IPv6 route that somebody else began
/// with our key; `added` are those that we once added. The kernel takes out only those with our protocol.
pub fn hidden(prefix: IpNet, added: &BTreeSet<IpAddr>, state: &State, ownership: Ownership) -> Option<Op> {
    let metric = ownership.metric_of(Family::of(prefix.addr()));
    let rival = routes_of(state, ownership.table, prefix)
        .find(|route| route.metric == metric && !ownership.is_ours(route))?;
    let is_ours = |hop: &&RouteNextHop| hop.gateway.is_some_and(|gateway| added.contains(&gateway));
    let next_hops: Vec<RouteNextHop> = rival.next_hops.iter().filter(is_ours).cloned().collect();
    let ours = Route { protocol: ownership.protocol, next_hops, ..rival.clone() };
    (!ours.next_hops.is_empty()).then(|| Op::Delete { prefix, routes: vec![ours] })
}

/// The routes of a table to a prefix, by TOS and metric, the kernel's first choice first.
pub fn routes_of(state: &State, table: u32, prefix: IpNet) -> impl Iterator<Item = &Route> {
    let first = RouteKey { table, prefix, tos: 0, metric: 0 };
    let last = RouteKey { table, prefix, tos: u8::MAX, metric: u32::MAX };
    state.routes.range(first..=last).flat_map(|(_, routes)| routes)
}

/// The plan for one prefix; `desired` is `None` when no route is wanted.
pub fn plan_prefix(
    prefix: IpNet,
    desired: Option<&SelectedRoute>,
    state: &State,
    ownership: Ownership,
    may_delete: bool,
) -> PrefixPlan {
    let (ours, foreign): (Vec<&Route>, Vec<&Route>) =
        routes_of(state, ownership.table, prefix).partition(|route| ownership.is_ours(route));
    let Some(desired) = desired else {
        return PrefixPlan { op: delete(prefix, ours, may_delete), ..PrefixPlan::default() };
    };
    let family = Family::of(prefix.addr());
    let mut exits = Exits::to(&desired.next_hops, state);
    let left_out = exits.leave_out_unreachable();
    let wanted = OwnRoute {
        table: ownership.table,
        protocol: ownership.protocol,
        metric: ownership.metric_of(family),
        prefix,
        next_hops: exits.next_hops(),
    };
    let at_key = |route: &Route| route.tos == 0 && route.metric == wanted.metric;
    let rival = foreign.into_iter().find(|route| at_key(route));
    if let Some(rival) = rival
        && !ours.iter().any(|route| at_key(route))
    {
        let blocked = Some(Blocked::by(rival));
        return PrefixPlan { op: delete(prefix, ours, may_delete), blocked, left_out };
    }
    match family {
        Family::Ipv4 => {
            let first = first_at(state, &wanted).filter(|first| !ownership.is_ours(first));
            PrefixPlan { op: plan_ipv4(&wanted, &exits, ours), blocked: first.map(Blocked::by), left_out }
        }
        Family::Ipv6 => PrefixPlan { op: plan_ipv6(&wanted, &exits, ours), blocked: None, left_out },
    }
}

/// The wanted next hops with the interfaces that lead to them.
struct Exits(BTreeMap<IpAddr, Vec<IfIndex>>);

impl Exits {
    fn to(next_hops: &[IpAddr], state: &State) -> Self {
        Self(next_hops.iter().map(|hop| (*hop, on_link::interfaces_to(state, *hop))).collect())
    }

    /// Leaves out the next hops that nothing leads to, unless that is all of them: then the kernel
    /// may know better, and says what is wrong if it does not.
    fn leave_out_unreachable(&mut self) -> Vec<IpAddr> {
        let left_out: Vec<IpAddr> =
            self.0.iter().filter(|(_, interfaces)| interfaces.is_empty()).map(|(hop, _)| *hop).collect();
        if left_out.len() == self.0.len() {
            return Vec::new();
        }
        self.0.retain(|_, interfaces| !interfaces.is_empty());
        left_out
    }

    fn next_hops(&self) -> Vec<IpAddr> {
        self.0.keys().copied().collect()
    }

    /// Whether a next hop as read back is a wanted one, by an interface that leads there: the kernel
    /// keeps an IPv4 route on its interface when the subnet moves to another one.
    fn include(&self, hop: &RouteNextHop) -> bool {
        let interfaces = hop.gateway.and_then(|gateway| self.0.get(&gateway));
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
            old.push(Route { next_hops: go.into_iter().cloned().collect(), ..route.clone() });
        }
    }
    let missing: Vec<IpAddr> =
        wanted.next_hops.iter().filter(|hop| !present.contains(*hop)).copied().collect();
    if missing.is_empty() {
        return (!old.is_empty()).then_some(Op::Delete { prefix: wanted.prefix, routes: old });
    }
    Some(Op::Replace { new: OwnRoute { next_hops: missing, ..wanted.clone() }, old })
}

fn delete(prefix: IpNet, routes: Vec<&Route>, may_delete: bool) -> Option<Op> {
    (may_delete && !routes.is_empty())
        .then(|| Op::Delete { prefix, routes: routes.into_iter().cloned().collect() })
}

fn first_at<'a>(state: &'a State, wanted: &OwnRoute) -> Option<&'a Route> {
    let key = RouteKey { table: wanted.table, prefix: wanted.prefix, tos: 0, metric: wanted.metric };
    state.routes.get(&key)?.first()
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
    const fn by(route: &Route) -> Self {
        Self { protocol: route.protocol, metric: route.metric, table: route.table }
    }
}

#[cfg(test)]
mod tests;
