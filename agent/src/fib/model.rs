//! The compiled forwarding table, with next hops by name instead of by index.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use underpass_common::fib::ViewId;
use underpass_common::reason::Reason;

use crate::netlink::model::IfIndex;
use crate::prefix_map::ViewMap;

/// A way out: the neighbour that gets the packet and the port it leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Port.
    pub port: IfIndex,
    /// Neighbour: the gateway, or the destination itself when it is on-link.
    pub neighbour: IpAddr,
    /// Longest IP packet, in bytes: the smallest of route MTU, device MTU and, for IPv6 destinations, the
    /// interface's IPv6 MTU.
    pub mtu: u32,
}

/// What happens to packets *to* a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forward {
    /// Left to the kernel.
    Pass(Reason),
    /// Forwarded by one of these next hops, with the kernel's weight (at least one, sorted, unique).
    NextHops(Vec<(NextHop, u16)>),
}

/// What the kernel thinks of packets *from* a prefix (`fib_validate_source`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The route is a unicast one; otherwise packets are left to the kernel.
    pub valid: bool,
    /// The route has no gateway: its hosts are on-link.
    pub on_link: bool,
    /// Interfaces by which the kernel reaches the prefix.
    pub interfaces: BTreeSet<IfIndex>,
}

/// What a prefix maps to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// For packets to it.
    pub forward: Forward,
    /// For packets from it.
    pub source: Source,
}

impl Target {
    /// Whether packets to it are forwarded.
    pub const fn is_forwarded(&self) -> bool {
        matches!(self.forward, Forward::NextHops(_))
    }
}

/// A managed port as the compiled table sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Own MAC.
    pub mac: [u8; 6],
    /// Rule walk of its packets.
    pub view: ViewId,
    /// Effective `rp_filter`.
    pub rp_filter: u8,
    /// The kernel sends ICMP redirects on it.
    pub send_redirects: bool,
    /// The kernel forwards IPv4 packets from it: up, carrier, `forwarding` on.
    pub ingress: bool,
    /// The kernel forwards IPv6 packets from it.
    pub ingress6: bool,
    /// No IPv6 rule tells interfaces apart, so that the port's view also holds for the route by which the
    /// kernel decides about a redirect (`ndisc_send_redirect`).
    pub hairpin6: bool,
    /// The kernel refuses no IPv4 source but those of [`Fib::own`]: it does not check the reverse path, and
    /// nothing of the rules and routes makes it look a source up.
    pub own_sources: bool,
}

/// The filter of own addresses ([`underpass_common::own`]): its words that are not 0.
pub type OwnFilter = BTreeMap<u32, u64>;

/// The compiled table: every address of every view maps to the target of its longest prefix; an
/// address without one is left to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fib {
    /// Managed ports that exist.
    pub ports: BTreeMap<IfIndex, Port>,
    /// Prefixes by view.
    pub prefixes: ViewMap<Arc<Target>>,
    /// Addresses that the kernel does not take packets from.
    pub own: OwnFilter,
}

/// A next-hop row's content, as far as the neighbour and link tables decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Frames may be sent.
    Live {
        /// Neighbour's MAC.
        destination_mac: [u8; 6],
        /// Port's MAC.
        source_mac: [u8; 6],
    },
    /// The neighbour has no valid entry: the kernel should be asked for it.
    Unresolved,
    /// The port is missing or down.
    PortDown,
}

/// What [`compile`](super::compile) is told besides the kernel's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileConfig {
    /// Name patterns (`*`, `?`) of the ports to manage.
    pub ports: Vec<String>,
    /// Ranges that may be forwarded; everything else is left to the kernel.
    pub accelerate: Vec<IpNet>,
    /// Service ranges that kube-proxy terminates here: left to the kernel though accelerated.
    pub services: Vec<IpNet>,
}
