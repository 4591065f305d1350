//! A route table in memory that behaves like the kernel's, for tests without one.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nix::errno::Errno;

use super::op::{Op, OwnRoute, RouteError, RouteTarget};
use crate::netlink::model::{
    Address, Family, IfIndex, Link, Route, RouteBody, RouteKey, RouteNextHop, RouteType, State,
};

/// `NLM_F_*` of a new route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddMode {
    /// `NLM_F_CREATE | NLM_F_EXCL`.
    Exclusive,
    /// `NLM_F_CREATE | NLM_F_APPEND`.
    Append,
}

/// Routes and connected networks. Follows `fib_table_insert` and `fib_table_delete`
/// (`net/ipv4/fib_trie.c`), `fib6_add_rt2node` and `ip6_route_del` (`net/ipv6`), as far as
/// routes of ours and their rivals go.
#[derive(Clone, Debug, Default)]
pub struct MemoryKernel {
    /// Connected networks: a gateway must be in one of them.
    pub connected: Vec<(IpNet, IfIndex)>,
    /// Operations carried out so far.
    pub executed: Vec<Op>,
    /// By key in the order of choice. IPv6 holds each next hop as a route of its own.
    routes: BTreeMap<RouteKey, Vec<Route>>,
}

impl MemoryKernel {
    /// No routes, these connected networks.
    pub fn new(connected: Vec<(IpNet, IfIndex)>) -> Self {
        Self { connected, ..Self::default() }
    }

    /// What the monitor would read: a link with an address for each connected network, and IPv6 next
    /// hops of one key as one route with the protocol of the first.
    pub fn state(&self) -> State {
        let mut state = State::default();
        for (key, routes) in &self.routes {
            let listed = match (Family::of(key.prefix.addr()), routes.first()) {
                (Family::Ipv6, Some(first)) => {
                    let next_hops = routes.iter().flat_map(|route| route.next_hops.clone()).collect();
                    vec![first.with_next_hops(next_hops)]
                }
                _ => routes.clone(),
            };
            state.routes.edit(*key, |routes| *routes = listed);
        }
        for (network, ifindex) in &self.connected {
            state.addresses.insert(Address { ifindex: *ifindex, address: *network });
            state.links.insert(*ifindex, link(*ifindex));
        }
        state
    }

    /// Gateways of all routes of a protocol to a prefix, which [`Self::state`] does not tell apart in
    /// IPv6.
    pub fn all_next_hops(&self, prefix: IpNet, protocol: u8) -> Vec<IpAddr> {
        let routes = self.routes.values().flatten();
        routes
            .filter(|route| route.prefix == prefix && route.protocol == protocol)
            .flat_map(|route| route.next_hops.iter().filter_map(|hop| hop.gateway))
            .collect()
    }

    /// `RTM_NEWROUTE`.
    ///
    /// # Errors
    /// `EEXIST`, or `ENETUNREACH` for a gateway that is not on-link.
    pub fn add(&mut self, route: &OwnRoute, mode: AddMode) -> Result<(), RouteError> {
        let mut next_hops = Vec::new();
        for gateway in route.next_hops.iter() {
            let Some(ifindex) = self.interface_of(*gateway) else {
                return Err(refusal(route.prefix, Errno::ENETUNREACH));
            };
            next_hops.push(RouteNextHop::new(ifindex, Some(*gateway)));
        }
        let new = plain_route(route, next_hops);
        let list = self.routes.entry(new.key()).or_default();
        if mode == AddMode::Exclusive && !list.is_empty() {
            return Err(refusal(route.prefix, Errno::EEXIST));
        }
        let parts = match Family::of(route.prefix.addr()) {
            Family::Ipv4 => vec![new],
            Family::Ipv6 => split(&new),
        };
        if parts.iter().any(|part| list.iter().any(|other| is_duplicate(part, other))) {
            return Err(refusal(route.prefix, Errno::EEXIST));
        }
        list.extend(parts);
        Ok(())
    }

    /// `RTM_DELROUTE` with protocol and next hops; the first match goes, in IPv6 one per next hop.
    pub fn delete(&mut self, route: &Route) {
        let parts = match Family::of(route.prefix.addr()) {
            Family::Ipv4 => vec![route.clone()],
            Family::Ipv6 => split(route),
        };
        let Some(list) = self.routes.get_mut(&route.key()) else { return };
        for part in parts {
            if let Some(index) = list.iter().position(|other| matches_delete(&part, other)) {
                list.remove(index);
            }
        }
        if list.is_empty() {
            self.routes.remove(&route.key());
        }
    }

    fn delete_all(&mut self, routes: &[Route]) {
        for route in routes {
            self.delete(route);
        }
    }

    fn interface_of(&self, gateway: IpAddr) -> Option<IfIndex> {
        self.connected.iter().find(|(network, _)| network.contains(&gateway)).map(|(_, ifindex)| *ifindex)
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), RouteError> {
        self.executed.push(op.clone());
        match op {
            Op::Add(route) => self.add(route, AddMode::Exclusive)?,
            Op::Replace { new, old } => {
                self.add(new, AddMode::Append)?;
                self.delete_all(old);
            }
            Op::Delete { routes, .. } => self.delete_all(routes),
        }
        Ok(())
    }
}

impl RouteTarget for MemoryKernel {
    fn execute(&mut self, ops: &[Op]) -> impl Future<Output = Vec<Result<(), RouteError>>> + Send {
        ready(ops.iter().map(|op| self.carry_out(op)).collect())
    }
}

fn link(index: IfIndex) -> Link {
    Link {
        index,
        name: format!("port{index}"),
        kind: None,
        mac: None,
        mtu: 1500,
        up: true,
        carrier: true,
        loopback: false,
        master: None,
        lower: None,
    }
}

fn plain_route(route: &OwnRoute, next_hops: Vec<RouteNextHop>) -> Route {
    Route {
        table: route.table,
        prefix: route.prefix,
        tos: 0,
        metric: route.metric,
        body: Arc::new(RouteBody::new(route.protocol, RouteType::Unicast, next_hops)),
    }
}

fn split(route: &Route) -> Vec<Route> {
    route.next_hops.iter().map(|hop| route.with_next_hops(vec![hop.clone()])).collect()
}

/// IPv4: the same in all (`fib_find_info`). IPv6: the same next hop, whatever the protocol
/// (`rt6_duplicate_nexthop`).
fn is_duplicate(new: &Route, other: &Route) -> bool {
    match Family::of(new.prefix.addr()) {
        Family::Ipv4 => new == other,
        Family::Ipv6 => new.next_hops == other.next_hops,
    }
}

/// As in `fib_nh_match`, a single next hop matches every route that has it first, and a list every
/// route whose next hops it begins with.
fn matches_delete(wanted: &Route, other: &Route) -> bool {
    wanted.protocol == other.protocol
        && wanted.kind == other.kind
        && match wanted.next_hops.as_slice() {
            [only] => other.next_hops.first() == Some(only),
            list => list.starts_with(&other.next_hops),
        }
}

fn refusal(prefix: IpNet, errno: Errno) -> RouteError {
    RouteError::new(prefix, errno as i32, None)
}
