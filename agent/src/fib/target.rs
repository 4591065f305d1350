//! From the end of a walk to what the XDP program is told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use underpass_common::reason::Reason;

use super::model::{Forward, NextHop, Source, Target};
use super::ranges::{Range, Ranges};
use super::resolve::usable_mac;
use super::rules::Verdict;
use super::source;
use super::table::{Hop, Unicast};
use crate::netlink::model::{IfIndex, State};

/// What verdicts are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The managed ports that packets may leave by.
    pub ports: &'a BTreeMap<IfIndex, Mtu>,
    /// The operator's ranges.
    pub ranges: &'a Ranges,
    /// For neighbours.
    pub state: &'a State,
}

/// Longest packets that may leave by a port, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// IPv4: the device's MTU.
    pub ipv4: u32,
    /// IPv6: the smaller of the device's MTU and `net.ipv6.conf.X.mtu`; `None` where the kernel does not
    /// forward IPv6.
    pub ipv6: Option<u32>,
}

impl Mtu {
    /// The one of a prefix's family.
    pub const fn of(self, prefix: &IpNet) -> Option<u32> {
        match prefix {
            IpNet::V4(_) => Some(self.ipv4),
            IpNet::V6(_) => self.ipv6,
        }
    }
}

/// The target for a prefix whose walk ended with `verdict`.
pub fn target(prefix: &IpNet, verdict: Verdict<'_>, context: Context<'_>) -> Target {
    let (forward, source) = match verdict {
        Verdict::Miss => (Forward::Pass(Reason::NoRoute), Source::default()),
        Verdict::Refused => (Forward::Pass(Reason::Refused), Source::default()),
        Verdict::Local => (Forward::Pass(Reason::Local), Source::default()),
        Verdict::Unsupported => (Forward::Pass(Reason::Unsupported), Source::default()),
        Verdict::Unicast(route) => (forward(prefix, route, context), source::of(route)),
    };
    Target { forward, source }
}

fn forward(prefix: &IpNet, route: &Unicast, context: Context<'_>) -> Forward {
    match context.ranges.of(prefix) {
        Range::Outside => return Forward::Pass(Reason::NotAccelerated),
        Range::Service => return Forward::Pass(Reason::Service),
        Range::Accelerated => {}
    }
    let mut next_hops: BTreeMap<NextHop, u16> = BTreeMap::new();
    for hop in &route.hops {
        if let Some(next_hop) = next_hop(prefix, hop, route.mtu, context) {
            let weight = next_hops.entry(next_hop).or_default();
            *weight = weight.saturating_add(hop.weight);
        }
    }
    if next_hops.is_empty() {
        Forward::Pass(why_none(prefix, route, context))
    } else {
        Forward::NextHops(next_hops.into_iter().collect())
    }
}

/// The way out by one hop, or `None`: not by a managed port, or on-link and not to one resolved host.
fn next_hop(prefix: &IpNet, hop: &Hop, route_mtu: Option<u32>, context: Context<'_>) -> Option<NextHop> {
    let port_mtu = context.ports.get(&hop.ifindex)?.of(prefix)?;
    let neighbour = match hop.gateway {
        Some(gateway) => gateway,
        None => on_link_host(prefix, hop.ifindex, context.state)?,
    };
    Some(NextHop { port: hop.ifindex, neighbour, mtu: route_mtu.map_or(port_mtu, |mtu| mtu.min(port_mtu)) })
}

/// Whether the target of a prefix with this route is about its host; otherwise it is that of all prefixes of the
/// route's in the same family and range.
pub fn is_for_one_host(prefix: &IpNet, route: &Unicast) -> bool {
    host(prefix).is_some() && route.hops.iter().any(|hop| hop.gateway.is_none())
}

/// The host of a host prefix, when it is a resolved neighbour on `ifindex`.
fn on_link_host(prefix: &IpNet, ifindex: IfIndex, state: &State) -> Option<IpAddr> {
    let host = host(prefix)?;
    state.neighbours.get(&(ifindex, host)).and_then(usable_mac).map(|_| host)
}

/// The address of a prefix that holds only one.
pub fn host(prefix: &IpNet) -> Option<IpAddr> {
    (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
}

fn why_none(prefix: &IpNet, route: &Unicast, context: Context<'_>) -> Reason {
    let is_managed = |hop: &Hop| context.ports.get(&hop.ifindex).is_some_and(|mtu| mtu.of(prefix).is_some());
    if route.hops.iter().any(is_managed) {
        // Managed hops with a gateway would have been taken.
        Reason::Connected
    } else if route.is_host && route.hops.iter().all(|hop| hop.gateway.is_none()) {
        // A host route to an interface is how a local pod is reached.
        Reason::Local
    } else {
        Reason::EgressNotManaged
    }
}
