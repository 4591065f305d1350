//! The kernel's ways to next hops that are not on a link of ours. Pure: a function of the kernel's state.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::model::{Route, RouteType, State, TABLE_MAIN};

/// How the kernel gets to a next hop without the routes that are learned here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is on a link: in the subnet of an interface, or covered by a route without a gateway.
    OnLink,
    /// By these gateways.
    Via {
        /// Length of the route's prefix.
        length: u8,
        /// The gateways, which are on a link.
        gateways: BTreeSet<IpAddr>,
    },
    /// Not at all, or over a link-local gateway only. The default route does not count: it would make every next hop look reachable.
    Nowhere,
}

/// Looks for the way to a next hop in table main. Routes that `ours` says yes to are left out: they follow
/// from what is asked here.
pub fn way(state: &State, next_hop: IpAddr, ours: impl Fn(&Route) -> bool) -> Way {
    if state.addresses.iter().any(|address| address.address.contains(&next_hop)) {
        return Way::OnLink;
    }
    let mut networks = state.routes.covering(TABLE_MAIN, next_hop).filter(|network| network.prefix_len() > 0);
    networks.find_map(|network| way_by(state, network, &ours)).unwrap_or(Way::Nowhere)
}

/// The way by a route to exactly this prefix, if there is one.
fn way_by(state: &State, prefix: IpNet, ours: impl Fn(&Route) -> bool) -> Option<Way> {
    let mut routes = state.routes.to(TABLE_MAIN, prefix).filter(|route| route.tos == 0);
    // In the order of the metric: the first is what the kernel uses.
    let route = routes.find(|route| !ours(route) && route.source_prefix.is_none())?;
    let usable = route.next_hops.iter().filter(|hop| !hop.dead && !hop.encapsulated);
    // A link-local gateway means nothing without its interface, which our routes leave to the kernel.
    let is_global = |gateway: &IpAddr| !matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let gateways: BTreeSet<IpAddr> = usable.clone().filter_map(|hop| hop.gateway).filter(is_global).collect();
    Some(match route.kind {
        RouteType::Unicast if !gateways.is_empty() => Way::Via { length: prefix.prefix_len(), gateways },
        RouteType::Unicast if usable.clone().any(|hop| hop.gateway.is_none()) => Way::OnLink,
        _ => Way::Nowhere,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::netlink::model::{Address, RouteBody, RouteNextHop};

    fn route(prefix: &str, kind: RouteType, metric: u32, gateways: &[Option<&str>]) -> Route {
        let hop = |gateway: Option<&str>| RouteNextHop::new(2, gateway.map(|text| text.parse().unwrap()));
        Route {
            table: TABLE_MAIN,
            prefix: prefix.parse().unwrap(),
            tos: 0,
            metric,
            body: Arc::new(RouteBody::new(186, kind, gateways.iter().copied().map(hop).collect())),
        }
    }

    fn state() -> State {
        let mut state = State::default();
        for address in ["10.0.0.9/24", "fd00::9/64"] {
            state.addresses.insert(Address { ifindex: 2, address: address.parse().unwrap() });
        }
        let unicast = RouteType::Unicast;
        let mut routes = vec![
            route("0.0.0.0/0", unicast, 0, &[Some("10.0.0.1")]),
            route("10.1.0.0/16", unicast, 0, &[Some("10.0.0.2"), Some("10.0.0.3")]),
            route("10.1.1.0/24", unicast, 0, &[None]),
            route("10.1.2.0/24", RouteType::Blackhole, 0, &[]),
            route("10.1.3.0/24", unicast, 20, &[Some("10.0.0.5")]),
            route("10.1.3.0/24", unicast, 10, &[Some("10.0.0.4")]),
            route("fd01::/64", unicast, 0, &[Some("fe80::1")]),
            route("fd02::/64", unicast, 0, &[Some("fd00::2")]),
        ];
        let mut ours = route("10.1.4.0/24", unicast, 0, &[Some("10.0.0.6")]);
        ours.protocol = 210;
        let mut dead = route("10.1.5.0/24", unicast, 0, &[Some("10.0.0.7")]);
        dead.next_hops[0].dead = true;
        routes.extend([ours, dead]);
        for route in routes {
            state.routes.push(route);
        }
        state
    }

    #[test]
    fn the_longest_route_of_somebody_else_leads_to_a_next_hop() {
        let via = |length, gateways: &[&str]| Way::Via {
            length,
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let cases = [
            ("in a subnet of ours", "10.0.0.77", Way::OnLink),
            ("by a route with two gateways", "10.1.9.1", via(16, &["10.0.0.2", "10.0.0.3"])),
            ("by a longer route without one", "10.1.1.1", Way::OnLink),
            ("into a blackhole", "10.1.2.1", Way::Nowhere),
            ("by the smaller metric", "10.1.3.1", via(24, &["10.0.0.4"])),
            ("a route of ours does not count", "10.1.4.1", via(16, &["10.0.0.2", "10.0.0.3"])),
            ("by a dead link", "10.1.5.1", Way::Nowhere),
            ("the default route does not count", "192.0.2.1", Way::Nowhere),
            ("IPv6", "fd02::1", via(64, &["fd00::2"])),
            ("IPv6 by a link-local gateway", "fd01::1", Way::Nowhere),
        ];
        let state = state();
        for (name, next_hop, expected) in cases {
            let found = way(&state, next_hop.parse().unwrap(), |route| route.protocol == 210);
            assert_eq!(found, expected, "{name}");
        }
    }
}
