//! The kernel's forwarding state as plain data. No I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ipnet::IpNet;

use super::routes::Routes;
use crate::prefix_map::PrefixSet;

/// Kernel interface index.
pub type IfIndex = u32;

/// Route table `local` (`RT_TABLE_LOCAL`).
pub const TABLE_LOCAL: u32 = 255;
/// Route table `main` (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;
/// Route table `default` (`RT_TABLE_DEFAULT`).
pub const TABLE_DEFAULT: u32 = 253;

/// Address family of rules and routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `AF_INET`.
    Ipv4,
    /// `AF_INET6`.
    Ipv6,
}

impl Family {
    /// "IPv4" or "IPv6".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub index: IfIndex,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND` ("veth", "bridge", ...), or `None` for a physical device.
    pub kind: Option<String>,
    /// Six-byte hardware address, or `None` (loopback has an all-zero one, tunnels none).
    pub mac: Option<[u8; 6]>,
    /// Device MTU in bytes.
    pub mtu: u32,
    /// `IFF_UP`: administratively up.
    pub up: bool,
    /// `IFF_LOWER_UP` (carrier).
    pub carrier: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// `IFLA_MASTER`: the bridge, bond or VRF that the interface is a port of.
    pub master: Option<IfIndex>,
    /// `IFLA_LINK`: the peer of a veth (an index of the namespace the peer is in) or the lower device.
    pub lower: Option<IfIndex>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Interface.
    pub ifindex: IfIndex,
    /// Local address with the prefix length of its subnet.
    pub address: IpNet,
}

/// State of a neighbour entry, `NUD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// `NUD_VALID` (permanent, noarp, reachable, probe, stale, delay): has a usable hardware address.
    Valid,
    /// `NUD_NONE` or `NUD_INCOMPLETE`: being resolved.
    Incomplete,
    /// `NUD_FAILED`.
    Failed,
}

/// A neighbour (ARP or ND) entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface.
    pub ifindex: IfIndex,
    /// Protocol address.
    pub address: IpAddr,
    /// Hardware address when six bytes long.
    pub mac: Option<[u8; 6]>,
    /// State.
    pub state: NeighbourState,
}

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// `FR_ACT_TO_TBL`: look up this table; a miss goes on to the next rule.
    Table(u32),
    /// `FR_ACT_GOTO`: continue at the first rule with this priority.
    Goto(u32),
    /// `FR_ACT_NOP`.
    Nop,
    /// `FR_ACT_BLACKHOLE`.
    Blackhole,
    /// `FR_ACT_UNREACHABLE`.
    Unreachable,
    /// `FR_ACT_PROHIBIT`.
    Prohibit,
    /// An action that this version does not know: where it could decide, packets are left to the kernel.
    Unknown(u8),
}

/// A policy rule.
#[expect(clippy::struct_excessive_bools, reason = "as many flags as the kernel has")]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Family.
    pub family: Family,
    /// Priority; rules are walked from low to high, equal priorities in the order of the dump.
    pub priority: u32,
    /// What it does.
    pub action: RuleAction,
    /// `from` selector.
    pub source: Option<IpNet>,
    /// `to` selector.
    pub destination: Option<IpNet>,
    /// `iif` selector, a name.
    pub input_interface: Option<String>,
    /// `oif` selector, a name: never matches forwarded packets.
    pub output_interface: Option<String>,
    /// `not`: the selectors' result is inverted.
    pub invert: bool,
    /// `fwmark` and its mask; matched against mark 0.
    pub mark: Option<(u32, u32)>,
    /// `suppress_prefixlength`: results with a prefix of at most this length are a miss.
    pub suppress_prefix_length: Option<u32>,
    /// `suppress_ifgroup` is set.
    pub suppress_interface_group: bool,
    /// `l3mdev`: matches traffic of VRF members only.
    pub l3mdev: bool,
    /// Has a selector that ingress port and destination do not decide (tos, ports, protocol, uid,
    /// tunnel id) or one that this version does not know.
    pub has_other_selector: bool,
}

/// `rtm_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteType {
    /// `RTN_UNICAST`.
    Unicast,
    /// `RTN_LOCAL`.
    Local,
    /// `RTN_BROADCAST`.
    Broadcast,
    /// `RTN_ANYCAST`.
    Anycast,
    /// `RTN_MULTICAST`.
    Multicast,
    /// `RTN_BLACKHOLE`.
    Blackhole,
    /// `RTN_UNREACHABLE`.
    Unreachable,
    /// `RTN_PROHIBIT`.
    Prohibit,
    /// `RTN_THROW`: the walk goes on with the next rule.
    Throw,
    /// A type that this version does not know.
    Unknown(u8),
}

impl RouteType {
    /// `RTN_*` of linux/rtnetlink.h.
    pub const fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Broadcast => 3,
            Self::Anycast => 4,
            Self::Multicast => 5,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Throw => 9,
            Self::Unknown(number) => number,
        }
    }
}

/// One next hop of a route.
#[expect(clippy::struct_excessive_bools, reason = "as many flags as the kernel has")]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteNextHop {
    /// Outgoing interface; 0 when the route has none (blackhole).
    pub ifindex: IfIndex,
    /// Gateway (`RTA_GATEWAY` or `RTA_VIA`), or `None` for an on-link destination.
    pub gateway: Option<IpAddr>,
    /// Weight, 1 to 256 (`rtnh_hops` + 1).
    pub weight: u16,
    /// `RTNH_F_ONLINK`.
    pub on_link: bool,
    /// `RTNH_F_DEAD`: the kernel does not use it.
    pub dead: bool,
    /// `RTNH_F_LINKDOWN`.
    pub link_down: bool,
    /// Has an encapsulation (`RTA_ENCAP`).
    pub encapsulated: bool,
}

impl RouteNextHop {
    /// A plain one with link: weight 1, no flags.
    pub const fn new(ifindex: IfIndex, gateway: Option<IpAddr>) -> Self {
        Self {
            ifindex,
            gateway,
            weight: 1,
            on_link: false,
            dead: false,
            link_down: false,
            encapsulated: false,
        }
    }
}

/// A route of the kernel: its key, and the rest, which many routes have in common and share. Dereferences to the
/// rest; a change of it is made to a copy where others share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Table.
    pub table: u32,
    /// Destination.
    pub prefix: IpNet,
    /// TOS (IPv4); 0 for the usual route.
    pub tos: u8,
    /// Metric (`RTA_PRIORITY`); the lowest wins within a table, prefix and TOS.
    pub metric: u32,
    /// The rest.
    pub body: Arc<RouteBody>,
}

impl Deref for Route {
    type Target = RouteBody;

    fn deref(&self) -> &RouteBody {
        &self.body
    }
}

impl DerefMut for Route {
    fn deref_mut(&mut self) -> &mut RouteBody {
        Arc::make_mut(&mut self.body)
    }
}

/// What a route says besides its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteBody {
    /// `rtm_protocol`: who installed it.
    pub protocol: u8,
    /// Type.
    pub kind: RouteType,
    /// `rtm_scope`.
    pub scope: u8,
    /// Next hops; empty for routes without one.
    pub next_hops: Vec<RouteNextHop>,
    /// Id of a nexthop object (`RTA_NH_ID`), whose members `next_hops` repeats.
    pub nexthop_id: Option<u32>,
    /// Route MTU (`RTAX_MTU`), or `None`.
    pub mtu: Option<u32>,
    /// `RTA_PREFSRC`.
    pub preferred_source: Option<IpAddr>,
    /// IPv6 `from` prefix longer than 0.
    pub source_prefix: Option<IpNet>,
    /// `RTM_F_CLONED` or another attribute that makes the route more than a plain one.
    pub unsupported: bool,
}

/// What tells routes of the kernel apart within a family: IPv4 also keeps several with equal keys
/// (`NLM_F_APPEND`), the first of which is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Table.
    pub table: u32,
    /// Destination.
    pub prefix: IpNet,
    /// TOS.
    pub tos: u8,
    /// Metric.
    pub metric: u32,
}

impl RouteBody {
    /// A route of global scope with nothing but next hops.
    pub const fn new(protocol: u8, kind: RouteType, next_hops: Vec<RouteNextHop>) -> Self {
        Self {
            protocol,
            kind,
            scope: 0,
            next_hops,
            nexthop_id: None,
            mtu: None,
            preferred_source: None,
            source_prefix: None,
            unsupported: false,
        }
    }
}

impl Rule {
    /// A rule for all packets of a family.
    pub const fn new(family: Family, priority: u32, action: RuleAction) -> Self {
        Self {
            family,
            priority,
            action,
            source: None,
            destination: None,
            input_interface: None,
            output_interface: None,
            invert: false,
            mark: None,
            suppress_prefix_length: None,
            suppress_interface_group: false,
            l3mdev: false,
            has_other_selector: false,
        }
    }
}

impl Route {
    /// The route's key.
    pub const fn key(&self) -> RouteKey {
        RouteKey { table: self.table, prefix: self.prefix, tos: self.tos, metric: self.metric }
    }

    /// The same route with other next hops.
    #[must_use]
    pub fn with_next_hops(&self, next_hops: Vec<RouteNextHop>) -> Self {
        let body = Arc::new(RouteBody { next_hops, ..RouteBody::clone(self) });
        Self { body, ..self.clone() }
    }
}

/// Settings of an interface that decide about forwarding (`/proc/sys/net/ipv4/conf`), already
/// combined with `all` the way the kernel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Conf {
    /// `forwarding` of the interface.
    pub forwarding: bool,
    /// Larger of `all` and the interface: 0 off, 1 strict, 2 loose.
    pub rp_filter: u8,
    /// `all` or the interface.
    pub send_redirects: bool,
}

/// Settings of an interface that decide about IPv6 forwarding (`/proc/sys/net/ipv6/conf`), combined with
/// `all`. An interface that cannot do IPv6 (its MTU is below 1280 bytes) has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Conf {
    /// The kernel forwards, and by routes alone: `forwarding` is on for `all` (`ip6_forward`) and for the
    /// interface (without it, redirects are taken from routers there, `rt6_do_redirect`), `disable_ipv6`
    /// is off, and `proxy_ndp` too (`ip6_forward_proxy_check`).
    pub forwarding: bool,
    /// `mtu`, in bytes: what `ip6_forward` compares with.
    pub mtu: u32,
}

/// The forwarding state of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Interfaces.
    pub links: BTreeMap<IfIndex, Link>,
    /// Addresses.
    pub addresses: std::collections::BTreeSet<Address>,
    /// Neighbours.
    pub neighbours: BTreeMap<(IfIndex, IpAddr), Neighbour>,
    /// Rules of both families in the order of the walk.
    pub rules: Vec<Rule>,
    /// Routes.
    pub routes: Routes,
    /// IPv4 settings by interface.
    pub ipv4_conf: BTreeMap<IfIndex, Ipv4Conf>,
    /// IPv6 settings by interface.
    pub ipv6_conf: BTreeMap<IfIndex, Ipv6Conf>,
}

/// What changed in a [`State`]; tells the compiler how much of its work to redo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Everything may differ (first dump, overrun, rules changed).
    pub full: bool,
    /// Links, addresses or settings of these interfaces changed.
    pub interfaces: std::collections::BTreeSet<IfIndex>,
    /// Routes to these prefixes changed, in any table.
    pub prefixes: PrefixSet,
    /// These neighbours changed.
    pub neighbours: std::collections::BTreeSet<(IfIndex, IpAddr)>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.full && self.interfaces.is_empty() && self.prefixes.is_empty() && self.neighbours.is_empty()
    }

    /// A delta that asks for a full recompile.
    pub fn full() -> Self {
        Self { full: true, ..Self::default() }
    }

    /// Adds another delta that came later.
    pub fn merge(&mut self, later: Self) {
        self.full |= later.full;
        self.interfaces.extend(later.interfaces);
        self.prefixes.append(&later.prefixes);
        self.neighbours.extend(later.neighbours);
    }
}
