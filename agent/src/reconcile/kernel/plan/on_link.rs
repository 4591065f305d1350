//! Which interface leads to a next hop.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::model::{IfIndex, Route, RouteType, State, TABLE_MAIN};

/// Interfaces with link by which a next hop is on-link: those with an address in its subnet, or else
/// those of the longest route without a gateway that covers it. Empty when the state knows of none.
pub fn interfaces_to(state: &State, next_hop: IpAddr) -> Vec<IfIndex> {
    let mut found: Vec<IfIndex> = state
        .addresses
        .iter()
        .filter(|address| address.address.contains(&next_hop) && has_link(state, address.ifindex))
        .map(|address| address.ifindex)
        .collect();
    if found.is_empty() {
        found = by_route(state, next_hop);
    }
    found
}

fn by_route(state: &State, next_hop: IpAddr) -> Vec<IfIndex> {
    let networks = state.routes.covering(TABLE_MAIN, next_hop).filter(|network| network.prefix_len() > 0);
    networks
        .map(|network| interfaces_of(state, network))
        .find(|interfaces| !interfaces.is_empty())
        .unwrap_or_default()
}

fn interfaces_of(state: &State, network: IpNet) -> Vec<IfIndex> {
    let is_connected = |route: &Route| route.kind == RouteType::Unicast && route.tos == 0;
    let mut interfaces = Vec::new();
    for route in state.routes.to(TABLE_MAIN, network).filter(is_connected) {
        let hops = route.next_hops.iter().filter(|hop| hop.gateway.is_none() && has_link(state, hop.ifindex));
        interfaces.extend(hops.map(|hop| hop.ifindex));
    }
    interfaces
}

fn has_link(state: &State, ifindex: IfIndex) -> bool {
    state.links.get(&ifindex).is_some_and(|link| link.up && link.carrier)
}
