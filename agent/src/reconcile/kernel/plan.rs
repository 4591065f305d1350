//! What to do so that the kernel has what is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::op::{Op, OwnRoute, Ownership};
use crate::netlink::model::{Family, Route, RouteKey, RouteNextHop, RouteType, State};
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
        return PrefixPlan { op: delete(prefix, ours, may_delete), blocked: None };
    };
    let family = Family::of(prefix.addr());
    let wanted = OwnRoute {
        table: ownership.table,
        protocol: ownership.protocol,
        metric: ownership.metric_of(family),
        prefix,
        next_hops: desired.next_hops.clone(),
    };
    let at_key = |route: &Route| route.tos == 0 && route.metric == wanted.metric;
    let rival = foreign.into_iter().find(|route| at_key(route));
    if let Some(rival) = rival
        && !ours.iter().any(|route| at_key(route))
    {
        let blocked = Some(Blocked::by(rival));
        return PrefixPlan { op: delete(prefix, ours, may_delete), blocked };
    }
    match family {
        Family::Ipv4 => PrefixPlan {
            op: plan_ipv4(&wanted, ours),
            blocked: first_at(state, &wanted).filter(|first| !ownership.is_ours(first)).map(Blocked::by),
        },
        Family::Ipv6 => PrefixPlan { op: plan_ipv6(&wanted, ours), blocked: None },
    }
}

/// IPv4 keeps several routes with one key side by side and uses the first. A replacement by
/// `NLM_F_REPLACE` would overwrite the first one whatever its protocol, so the new one is appended and
/// the old one taken out: the kernel goes from one to the next without a gap.
fn plan_ipv4(wanted: &OwnRoute, ours: Vec<&Route>) -> Option<Op> {
    let key_is_free = ours.is_empty();
    let kept = ours.iter().position(|route| is_as_wanted(route, wanted));
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
fn plan_ipv6(wanted: &OwnRoute, ours: Vec<&Route>) -> Option<Op> {
    if ours.is_empty() {
        return Some(Op::Add(wanted.clone()));
    }
    let mut present = BTreeSet::new();
    let mut old = Vec::new();
    for route in ours {
        let keeps = route.metric == wanted.metric && is_plain(route);
        let (stay, go): (Vec<&RouteNextHop>, Vec<&RouteNextHop>) = route
            .next_hops
            .iter()
            .partition(|hop| keeps && hop.gateway.is_some_and(|gateway| wanted.next_hops.contains(&gateway)));
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

/// Whether a route of ours, as read back, is the wanted one. Dead next hops count: the kernel keeps
/// them for the time when the link is back.
fn is_as_wanted(route: &Route, wanted: &OwnRoute) -> bool {
    let mut gateways: Vec<Option<IpAddr>> = route.next_hops.iter().map(|hop| hop.gateway).collect();
    gateways.sort_unstable();
    route.metric == wanted.metric
        && is_plain(route)
        && route.next_hops.iter().all(|hop| hop.weight == 1)
        && gateways.into_iter().eq(wanted.next_hops.iter().map(|hop| Some(*hop)))
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
