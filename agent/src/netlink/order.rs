//! The order of routes with an equal key, as the kernel keeps it. Pure.
//!
//! Each function tells whether the result is certain. It is not when the state before the event was
//! not what the kernel had, which happens after a dump that was newer than the event.

use ipnet::IpNet;

use super::decode::Placement;
use super::model::{Route, RouteNextHop};

/// Adds a route to those with its key.
#[must_use]
pub fn add(routes: &mut Vec<Route>, route: Route, placement: Placement) -> bool {
    among_its_source(routes, route.source_prefix, |routes| add_to(routes, route, placement))
}

/// Appends a route of a dump to those with its key.
pub fn append(routes: &mut Vec<Route>, route: Route) {
    let at = routes.partition_point(|known| known.source_prefix <= route.source_prefix);
    routes.insert(at, route);
}

/// Removes a route from those with its key.
#[must_use]
pub fn remove(routes: &mut Vec<Route>, route: &Route) -> bool {
    among_its_source(routes, route.source_prefix, |routes| remove_from(routes, route))
}

/// Changes the routes with a key that are for packets from `source`. IPv6 keeps those of each source apart
/// (`FIB6_SUBTREE` in `fib6_add`): none replaces, joins or follows one of another source. Those for all sources
/// come first.
fn among_its_source(
    routes: &mut Vec<Route>,
    source: Option<IpNet>,
    change: impl FnOnce(&mut Vec<Route>) -> bool,
) -> bool {
    if routes.iter().all(|known| known.source_prefix == source) {
        return change(routes);
    }
    let (mut own, others) =
        std::mem::take(routes).into_iter().partition(|known| known.source_prefix == source);
    let certain = change(&mut own);
    *routes = others;
    for route in own {
        append(routes, route);
    }
    certain
}

fn add_to(routes: &mut Vec<Route>, route: Route, placement: Placement) -> bool {
    if let Some(known) = routes.iter_mut().find(|known| is_same(known, &route)) {
        // Announced again, with other flags at most.
        *known = route;
        return placement != Placement::Sole || routes.len() == 1;
    }
    if route.prefix.addr().is_ipv6() {
        return add_ipv6(routes, route, placement);
    }
    let before = routes.len();
    match placement {
        Placement::Sole => {
            routes.clear();
            routes.push(route);
            before == 0
        }
        Placement::First => {
            routes.insert(0, route);
            true
        }
        Placement::Last => {
            routes.push(route);
            true
        }
        Placement::Replace => {
            // A changed nexthop object announces its routes as replaced, wherever they are.
            let certain = before <= 1 || route.nexthop_id.is_none();
            routes.splice(..before.min(1), [route]);
            certain
        }
    }
}

/// IPv6 announces a multipath route whole whenever a next hop joins (`rt6_fill_node`), and appends
/// routes that cannot be merged (`fib6_add_rt2node`).
fn add_ipv6(routes: &mut Vec<Route>, route: Route, placement: Placement) -> bool {
    if placement == Placement::Replace {
        let certain = routes.len() <= 1;
        routes.splice(..routes.len().min(1), [route]);
        return certain;
    }
    let mergeable = is_mergeable(&route);
    let position = routes.iter().position(|known| mergeable && is_mergeable(known));
    if let Some(at) = position {
        let grown = routes[at].next_hops.iter().all(|hop| has_hop(&route, hop));
        routes[at] = route;
        grown
    } else {
        routes.push(route);
        true
    }
}

fn remove_from(routes: &mut Vec<Route>, route: &Route) -> bool {
    if let Some(at) = routes.iter().position(|known| is_same(known, route)) {
        routes.remove(at);
        return !routes.iter().any(|known| is_same(known, route));
    }
    if route.prefix.addr().is_ipv6()
        && let Some(at) =
            routes.iter().position(|known| route.next_hops.iter().all(|hop| has_hop(known, hop)))
    {
        // IPv6 announces the removal of single next hops.
        routes[at].next_hops.retain(|hop| !has_hop(route, hop));
        if routes[at].next_hops.is_empty() {
            routes.remove(at);
        }
        return true;
    }
    routes.is_empty()
}

/// Whether IPv6 makes one multipath route of such routes (`rt6_qualify_for_ecmp`).
fn is_mergeable(route: &Route) -> bool {
    route.nexthop_id.is_none()
        && !route.next_hops.is_empty()
        && route.next_hops.iter().all(|hop| hop.gateway.is_some())
}

fn has_hop(route: &Route, hop: &RouteNextHop) -> bool {
    route.next_hops.iter().any(|known| (known.ifindex, known.gateway) == (hop.ifindex, hop.gateway))
}

/// Whether two routes with an equal key are one: all but what links make of it (dead, linkdown).
fn is_same(one: &Route, other: &Route) -> bool {
    fn identity(route: &Route) -> impl PartialEq {
        (
            route.kind,
            route.protocol,
            route.scope,
            route.nexthop_id,
            route.mtu,
            route.preferred_source,
            route.source_prefix,
        )
    }
    let same_hop = |(one, other): (&RouteNextHop, &RouteNextHop)| {
        (one.ifindex, one.gateway, one.weight, one.encapsulated)
            == (other.ifindex, other.gateway, other.weight, other.encapsulated)
    };
    identity(one) == identity(other)
        && one.next_hops.len() == other.next_hops.len()
        && one.next_hops.iter().zip(&other.next_hops).all(same_hop)
}
