//! `underpass routes`: each prefix in RIB, kernel and XDP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Agent;
use crate::api::model::{KernelRoute, NextHopView, RouteStatus, Routes, SCHEMA, XdpRoute};
use crate::netlink::model::{Family, Neighbour, Route, RouteType, RuleAction, State};
use crate::prefix_map::PrefixMap;
use crate::reconcile::xdp::{RowView, TargetView};

impl Agent {
    pub(super) fn routes(&self) -> Routes {
        let state = self.monitor.state();
        let kernel = winners(state);
        let accelerate =
            self.forwarding.as_ref().map_or(&[][..], |forwarding| &forwarding.config().accelerate);
        let shown = |prefix: &IpNet| accelerate.iter().any(|range| range.contains(prefix));
        let mut prefixes: BTreeSet<IpNet> = kernel.keys().filter(|prefix| shown(prefix)).collect();
        prefixes.extend(self.routing.iter().flat_map(|routing| routing.rib.selected_routes().keys()));
        let view = self.forwarding.as_ref().and_then(|f| f.fib().ports.values().next()).map(|port| port.view);
        if let Some(forwarding) = &self.forwarding {
            let compiled = forwarding.fib().prefixes.keys();
            prefixes.extend(
                compiled.filter(|(of, prefix)| Some(*of) == view && shown(prefix)).map(|(_, prefix)| prefix),
            );
        }
        let routes = prefixes.into_iter().map(|prefix| {
            let target = self
                .forwarding
                .as_ref()
                .zip(view)
                .and_then(|(forwarding, view)| forwarding.reconciler().prefix(view, prefix));
            self.route_status(prefix, &kernel, target.as_ref())
        });
        Routes { schema: SCHEMA, routes: routes.collect() }
    }

    fn route_status(
        &self,
        prefix: IpNet,
        kernel: &PrefixMap<Route>,
        target: Option<&TargetView>,
    ) -> RouteStatus {
        let state = self.monitor.state();
        let own_protocol = self.config.kernel.protocol;
        let route = kernel.get(&prefix);
        let selected = self.routing.as_ref().and_then(|routing| routing.rib.selected(&prefix));
        let rib = selected.map(|selected| selected.next_hops.clone());
        let rib_agrees = rib.as_ref().is_none_or(|next_hops| {
            route.is_some_and(|route| route.protocol == own_protocol && gateways(route) == *next_hops)
        });
        let xdp_agrees = target.is_none_or(|target| {
            kernel.longest_cover(&prefix).map_or(target.pass.is_some(), |(_, route)| is_subset(target, route))
        });
        RouteStatus {
            prefix,
            rib,
            rib_state: selected.and_then(|_| {
                let status = self.routing.as_ref()?.reconciler.status(&prefix)?;
                Some(status.to_string())
            }),
            kernel: route.map(|route| kernel_route(route, state, own_protocol)),
            xdp: target.map(|target| xdp_route(target, state)),
            agree: rib_agrees && xdp_agrees,
        }
    }
}

/// For each prefix the route that the kernel takes when no longer prefix matches: tables in the order
/// of the first rule that names them, then TOS 0, then the lowest metric, then the first of equals.
fn winners(state: &State) -> PrefixMap<Route> {
    let mut best: PrefixMap<((usize, u8, u32), Route)> = PrefixMap::new();
    let rank = |family: Family, table: u32| {
        state
            .rules
            .iter()
            .filter(|rule| rule.family == family)
            .position(|rule| rule.action == RuleAction::Table(table))
    };
    let mut ranks: BTreeMap<(Family, u32), Option<usize>> = BTreeMap::new();
    for route in state.routes.iter() {
        let family = Family::of(route.prefix.addr());
        let table = *ranks.entry((family, route.table)).or_insert_with(|| rank(family, route.table));
        let Some(table) = table else { continue };
        let order = (table, route.tos, route.metric);
        match best.get(&route.prefix) {
            Some((other, _)) if *other <= order => {}
            _ => {
                best.insert(route.prefix, (order, route));
            }
        }
    }
    best.iter().map(|(prefix, (_, route))| (prefix, route.clone())).collect()
}

/// XDP leaves the prefix to the kernel, or uses some of the kernel's next hops and no others.
fn is_subset(target: &TargetView, route: &Route) -> bool {
    target.pass.is_some()
        || target.rows.iter().all(|row| {
            route.next_hops.iter().any(|next_hop| {
                next_hop.ifindex == row.next_hop.port
                    && next_hop.gateway.is_none_or(|gateway| gateway == row.next_hop.neighbour)
            })
        })
}

fn gateways(route: &Route) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = route.next_hops.iter().filter_map(|next_hop| next_hop.gateway).collect();
    gateways.sort_unstable();
    gateways
}

fn kernel_route(route: &Route, state: &State, own_protocol: u8) -> KernelRoute {
    KernelRoute {
        kind: kind_name(route.kind),
        table: route.table,
        protocol: protocol_name(route.protocol, own_protocol),
        metric: route.metric,
        next_hops: route
            .next_hops
            .iter()
            .map(|next_hop| NextHopView {
                gateway: next_hop.gateway,
                interface: interface_name(next_hop.ifindex, state),
                mac: next_hop
                    .gateway
                    .and_then(|gateway| state.neighbours.get(&(next_hop.ifindex, gateway)))
                    .and_then(|neighbour: &Neighbour| neighbour.mac)
                    .map(mac_text),
                live: !next_hop.dead,
            })
            .collect(),
    }
}

fn xdp_route(target: &TargetView, state: &State) -> XdpRoute {
    XdpRoute {
        verdict: if target.pass.is_some() { "pass" } else { "forward" }.to_owned(),
        reason: target.pass.map(|reason| reason.label().to_owned()),
        target: target.id,
        next_hops: target.rows.iter().map(|row| row_view(row, state)).collect(),
    }
}

pub(super) fn row_view(row: &RowView, state: &State) -> NextHopView {
    NextHopView {
        gateway: Some(row.next_hop.neighbour),
        interface: interface_name(row.next_hop.port, state),
        mac: row.mac.map(mac_text),
        live: row.live,
    }
}

fn interface_name(ifindex: u32, state: &State) -> String {
    match state.links.get(&ifindex) {
        Some(link) => link.name.clone(),
        None if ifindex == 0 => String::new(),
        None => format!("#{ifindex}"),
    }
}

/// "aa:bb:cc:dd:ee:ff".
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub(super) fn kind_name(kind: RouteType) -> String {
    match kind {
        RouteType::Unknown(number) => format!("type {number}"),
        known => format!("{known:?}").to_lowercase(),
    }
}

/// Names of `rtm_protocol` that operators know from `ip route`.
fn protocol_name(protocol: u8, own: u8) -> String {
    match protocol {
        number if number == own => "underpass",
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        80 => "felix",
        186 => "bgp",
        188 => "ospf",
        number => return number.to_string(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::text::state;

    #[test]
    fn the_winner_is_by_rule_then_metric_and_unused_tables_do_not_count() {
        let state = state(
            "rule 0 lookup 255
             rule 100 lookup 300
             rule 32766 lookup 254
             route 10.1.0.0/16 via 192.0.2.1 dev 2
             route 10.1.0.0/16 via 192.0.2.2 dev 2 table 300 metric 50
             route 10.2.0.0/16 via 192.0.2.3 dev 2 metric 50
             route 10.2.0.0/16 via 192.0.2.4 dev 2 metric 20
             route 10.3.0.0/16 via 192.0.2.5 dev 2 table 77",
        );
        let winners: Vec<String> = winners(&state)
            .iter()
            .map(|(prefix, route)| format!("{prefix} via {}", gateways(route)[0]))
            .collect();
        assert_eq!(winners, ["10.1.0.0/16 via 192.0.2.2", "10.2.0.0/16 via 192.0.2.4"]);
    }

    #[test]
    fn a_host_is_covered_by_the_longest_route_around_it() {
        let state = state(
            "rule 0 lookup 254
             route 0.0.0.0/0 via 192.0.2.1 dev 2
             route 10.1.0.0/16 via 192.0.2.2 dev 2",
        );
        let winners = winners(&state);
        let cases =
            [("10.1.2.3/32", Some("192.0.2.2")), ("10.2.2.3/32", Some("192.0.2.1")), ("2001:db8::/64", None)];
        for (prefix, expected) in cases {
            let found = winners.longest_cover(&prefix.parse().unwrap());
            let found = found.map(|(_, route)| gateways(route)[0].to_string());
            assert_eq!(found.as_deref(), expected, "{prefix}");
        }
    }
}
