//! What the kernel's rules say, as far as it matters for packets in transit. No I/O.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::netlink::model::{Family, IfIndex};

/// Whose rules a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// nftables, of a table family ("ip", "ip6", "inet", "netdev"); also what iptables-nft writes.
    Nft(&'static str),
    /// Legacy iptables.
    Iptables,
    /// Legacy ip6tables.
    Ip6tables,
}

/// Where a base chain is on the way of a packet in transit; the order is the packet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// `ingress` of a device, before everything else.
    Ingress,
    /// Before the route lookup.
    Prerouting,
    /// After it.
    Forward,
    /// Before the packet leaves.
    Postrouting,
    /// `egress` of a device.
    Egress,
    /// Input, output, or no IP at all: packets in transit do not come by.
    Elsewhere,
}

/// What makes a chain a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Place.
    pub hook: Hook,
    /// Chains of a hook run from the lowest on.
    pub priority: i32,
    /// Packets that reach the end are dropped.
    pub drops: bool,
    /// Devices of [`Hook::Ingress`] and [`Hook::Egress`]; a name that ends in `*` is a prefix.
    pub devices: Vec<String>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// `None`: only reached by jumps.
    pub base: Option<Base>,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whose.
    pub owner: Owner,
    /// Name.
    pub name: String,
    /// By name.
    pub chains: BTreeMap<String, Chain>,
}

impl Table {
    /// Whether packets of a family come by.
    pub fn concerns(&self, family: Family) -> bool {
        match self.owner {
            Owner::Nft("ip") | Owner::Iptables => family == Family::Ipv4,
            Owner::Nft("ip6") | Owner::Ip6tables => family == Family::Ipv6,
            Owner::Nft(other) => matches!(other, "inet" | "netdev"),
        }
    }
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// "handle 5" in nftables, "rule 3" in iptables.
    pub id: String,
    /// For people.
    pub text: String,
    /// Matches and effects in their order.
    pub steps: Vec<Step>,
    /// The rule's mere existence makes the kernel track connections (`nf_ct_netns_get`).
    pub tracks: bool,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The rest is for packets that match.
    Match(Match),
    /// What happens to them.
    Effect(Effect),
}

/// A condition; the flag of those that have one inverts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Name of the interface that the packet came in on.
    Input(Name, bool),
    /// Name of the interface that it leaves by.
    Output(Name, bool),
    /// As [`Match::Input`], by index.
    InputIndex(IfIndex, bool),
    /// As [`Match::Output`], by index.
    OutputIndex(IfIndex, bool),
    /// Source address.
    Source(Range, bool),
    /// Destination address.
    Destination(Range, bool),
    /// IPv4 or IPv6.
    Family(Family, bool),
    /// `mark & mask == value`.
    Mark {
        /// Bits that are looked at.
        mask: u32,
        /// What they have to be.
        value: u32,
        /// Or have not.
        invert: bool,
    },
    /// Every packet in transit.
    Always,
    /// None of them.
    Never,
    /// Nothing that can be proved either way.
    Maybe,
}

/// What a rule does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// On to the next base chain.
    Accept,
    /// Back to the chain that jumped here.
    Return,
    /// Into another chain and back.
    Jump(String),
    /// Into another chain for good.
    Goto(String),
    /// `mark = (mark & keep) ^ xor`.
    Mark {
        /// Bits that stay.
        keep: u32,
        /// Bits that flip then.
        xor: u32,
    },
    /// Anything that the packet would not get by XDP: "drops it", "translates addresses".
    Decides(String),
    /// As [`Effect::Decides`], and what it does to the mark is not known either.
    Unknown(String),
    /// Nothing that a packet could notice (a counter).
    Harmless,
}

/// A name, or the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Text.
    pub text: String,
    /// Names that begin like this match as well.
    pub prefix: bool,
}

impl Name {
    /// Whether an interface's name matches.
    pub fn matches(&self, name: &str) -> bool {
        if self.prefix { name.starts_with(&self.text) } else { name == self.text }
    }
}

/// Addresses from `first` to `last`, as numbers (an IPv4 address in the low 32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Family.
    pub family: Family,
    /// First.
    pub first: u128,
    /// Last, included.
    pub last: u128,
}

impl Range {
    /// All addresses of a prefix.
    pub fn of(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(prefix) => Self {
                family: Family::Ipv4,
                first: u32::from(prefix.network()).into(),
                last: u32::from(prefix.broadcast()).into(),
            },
            IpNet::V6(prefix) => {
                Self { family: Family::Ipv6, first: prefix.network().into(), last: prefix.broadcast().into() }
            }
        }
    }

    /// Addresses that agree with big-endian `address` in the first `bits` bits.
    pub fn prefix(address: &[u8], bits: u32) -> Option<Self> {
        let (family, width): (_, u32) = match address.len() {
            4 => (Family::Ipv4, 32),
            16 => (Family::Ipv6, 128),
            _ => return None,
        };
        let number = address.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        let host = u128::MAX.checked_shr(128 - width.checked_sub(bits)?).unwrap_or(0);
        Some(Self { family, first: number & !host, last: number | host })
    }

    /// Whether the two have an address in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// Whether all of `other` is inside.
    pub fn contains(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.first && other.last <= self.last
    }
}

/// An XFRM policy that packets in transit meet (`fwd`, `out`), or a blocking default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Family; `None`: both.
    pub family: Option<Family>,
    /// Destination of its selector.
    pub destination: Option<Range>,
    /// Interface of its selector.
    pub interface: Option<IfIndex>,
    /// For people.
    pub text: String,
}

/// A filter, program or queueing discipline of traffic control on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Port.
    pub port: IfIndex,
    /// For packets that leave by the port, else for those that come in.
    pub egress: bool,
    /// Only for this family.
    pub family: Option<Family>,
    /// For people: "ingress filter u32 pref 49152 protocol ip".
    pub text: String,
}

/// A source of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// nftables.
    Nft,
    /// Legacy iptables.
    Iptables,
    /// Legacy ip6tables.
    Ip6tables,
    /// XFRM policies.
    Xfrm,
    /// Traffic control.
    Tc,
}

/// Everything that was read at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// nftables and iptables.
    pub tables: Vec<Table>,
    /// XFRM.
    pub policies: Vec<Policy>,
    /// tc.
    pub filters: Vec<Filter>,
    /// What could not be read, and why.
    pub unreadable: BTreeMap<Source, String>,
}

/// Which packets XDP could forward: what rules are judged against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Managed ports by name.
    pub ports: BTreeMap<IfIndex, String>,
    /// `datapath.accelerate`.
    pub accelerate: Vec<IpNet>,
    /// Ranges inside of it that are left to the kernel (`datapath.service_ranges`).
    pub services: Vec<IpNet>,
}
