//! Requests and reports. The reports are what `-o json` prints: additive changes only, or a new
//! [`SCHEMA`].

mod sessions;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::datapath::facts::DriverFacts;

pub use sessions::{Done, PeerAction, PeerStatus, Peers, Reloaded, ReloadedChange};

/// Version of the reports.
pub const SCHEMA: u32 = 1;

/// What the CLI asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command", deny_unknown_fields)]
pub enum Request {
    /// `underpass status`.
    Status,
    /// `underpass peers`.
    Peers,
    /// `underpass routes`.
    Routes,
    /// `underpass lookup`.
    Lookup {
        /// Destination.
        address: IpAddr,
        /// Source of the probe frame; default is one that passes the source check.
        source: Option<IpAddr>,
        /// Ingress port by name; default is the first managed port.
        interface: Option<String>,
    },
    /// `underpass counters`.
    Counters,
    /// `underpass peer`.
    Peer {
        /// Configured name or address.
        peer: String,
        /// What to do.
        action: PeerAction,
        /// Words for the peer's operator (RFC 9003), with `down` and `reset`.
        #[serde(default)]
        message: String,
    },
    /// `underpass reload`.
    Reload,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "report")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Peers`].
    Peers(Peers),
    /// To [`Request::Routes`].
    Routes(Routes),
    /// To [`Request::Lookup`].
    Lookup(Lookup),
    /// To [`Request::Counters`].
    Counters(Counters),
    /// To [`Request::Peer`]: it was told to the session.
    Done(Done),
    /// To [`Request::Reload`].
    Reloaded(Reloaded),
    /// The request cannot be answered; the text says why and what to do.
    Error {
        /// For the operator.
        message: String,
    },
}

/// `underpass status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Agent's version.
    pub version: String,
    /// ABI of the maps.
    pub abi: u32,
    /// Seconds since the agent started.
    pub uptime_seconds: u64,
    /// XDP side, absent without `[datapath]`.
    pub datapath: Option<DatapathStatus>,
    /// BGP side, absent without `[bgp]`.
    pub bgp: Option<BgpStatus>,
    /// Routes of our own in the kernel, absent without `[bgp]`.
    pub kernel: Option<KernelStatus>,
    /// What the operator should look at, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

/// XDP side of [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatapathStatus {
    /// Kill switch: `true` forwards.
    pub enabled: bool,
    /// Seconds left on the lease.
    pub lease_seconds: u64,
    /// Maps hold what the compiler wants.
    pub synced: bool,
    /// Managed ports.
    pub ports: Vec<PortStatus>,
    /// Prefixes in the table.
    pub prefixes: usize,
    /// Prefixes that packets are forwarded by (the rest are left to the kernel).
    pub prefixes_forwarding: usize,
    /// Targets in use.
    pub targets: usize,
    /// Next-hop rows in use.
    pub next_hops: usize,
    /// Next-hop rows that are live.
    pub next_hops_live: usize,
    /// How often the kernel's state was read anew since the start, because notifications were lost.
    pub resyncs: u64,
    /// Rules of the kernel that could decide about packets.
    #[serde(default)]
    pub rules: RulesStatus,
}

/// Rules of the kernel in [`DatapathStatus`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RulesStatus {
    /// In the order of the packet's way.
    pub findings: Vec<RuleStatus>,
    /// Entries of `datapath.bypass` that name nothing at present.
    pub idle_bypasses: Vec<String>,
    /// How long the last reading of all rules took, in milliseconds.
    pub read_milliseconds: u64,
}

/// A rule of the kernel that could decide about packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// "nft:ip filter/FORWARD", "iptables:filter/FORWARD", "conntrack", "xfrm", "tc:eth0".
    pub place: String,
    /// "handle 5", "rule 3", "policy".
    pub rule: String,
    /// The rule itself.
    pub text: String,
    /// Why it matters.
    pub why: String,
    /// "IPv4" and "IPv6".
    pub families: Vec<String>,
    /// Ports whose packets it is about.
    pub ports: Vec<String>,
    /// Entry of `datapath.bypass` that names it; absent: it keeps the packets in the kernel.
    pub bypassed: Option<String>,
    /// What to do about it.
    pub remedy: String,
}

/// A managed port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a report of independent facts")]
pub struct PortStatus {
    /// Name.
    pub interface: String,
    /// Index.
    pub ifindex: u32,
    /// XDP is attached.
    pub attached: bool,
    /// Where: "native" (in the driver) or "generic" (in the stack); absent when it is not attached.
    pub mode: Option<String>,
    /// Packets from it may be forwarded.
    pub ingress: bool,
    /// Families ("IPv4", "IPv6") whose packets from it a rule of the kernel could decide about: they are
    /// left to the kernel.
    #[serde(default)]
    pub guarded: Vec<String>,
    /// Other ports may redirect to it.
    pub egress: bool,
    /// `XDP_TX` works.
    pub tx: bool,
    /// Why it is not fully usable.
    pub problem: Option<String>,
    /// What restricts nothing and is worth knowing.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What the kernel told about the interface when it was looked at last; absent when it is not attached.
    #[serde(default)]
    pub facts: Option<DriverFacts>,
}

/// BGP side of [`Status`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BgpStatus {
    /// Our AS.
    pub local_as: u32,
    /// Our identifier.
    pub router_id: Ipv4Addr,
    /// Configured peers.
    pub peers: usize,
    /// Peers in Established.
    pub established: usize,
    /// Prefixes with a selected path.
    pub prefixes: usize,
    /// Paths accepted.
    pub paths: usize,
    /// Paths refused by the import guards, by reason.
    pub filtered: std::collections::BTreeMap<String, u64>,
}

/// Kernel target of [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelStatus {
    /// Table.
    pub table: u32,
    /// Protocol number.
    pub protocol: u8,
    /// Routes wanted.
    pub desired: usize,
    /// Routes read back as wanted.
    pub synced: usize,
    /// Routes being written.
    pub pending: usize,
    /// Routes that the kernel refused or that a foreign route keeps out.
    pub errors: usize,
}

/// `underpass routes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Sorted by prefix: every prefix that the RIB selected or that lies in an `accelerate` range.
    pub routes: Vec<RouteStatus>,
}

/// One prefix in all three places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Prefix.
    pub prefix: IpNet,
    /// Next hops that the RIB selected; absent when no peer announces the prefix.
    pub rib: Option<Vec<IpAddr>>,
    /// "synced", "pending" or "error: ..."; absent without a RIB route.
    pub rib_state: Option<String>,
    /// The kernel's route that wins for the prefix (from the first managed port, or table main).
    pub kernel: Option<KernelRoute>,
    /// What XDP does with packets to the prefix; absent without `[datapath]`.
    pub xdp: Option<XdpRoute>,
    /// Whether RIB, kernel and XDP say the same (XDP may use fewer next hops or leave it to the kernel).
    pub agree: bool,
}

/// A kernel route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelRoute {
    /// "unicast", "blackhole", "local", ...
    pub kind: String,
    /// Table.
    pub table: u32,
    /// "bird", "underpass", "static", "kernel", or the number.
    pub protocol: String,
    /// Metric.
    pub metric: u32,
    /// Next hops.
    pub next_hops: Vec<NextHopView>,
}

/// A next hop for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NextHopView {
    /// Gateway; absent for an on-link destination.
    pub gateway: Option<IpAddr>,
    /// Outgoing interface.
    pub interface: String,
    /// Neighbour's MAC, "aa:bb:cc:dd:ee:ff"; absent while unresolved.
    pub mac: Option<String>,
    /// Row is live (XDP side only; `true` for kernel routes that are not dead).
    pub live: bool,
}

/// What XDP does with a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct XdpRoute {
    /// "forward" or "pass".
    pub verdict: String,
    /// Label of the reason for a "pass".
    pub reason: Option<String>,
    /// Target id.
    pub target: u32,
    /// Next hops of a "forward".
    pub next_hops: Vec<NextHopView>,
}

/// `underpass lookup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lookup {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Destination asked for.
    pub address: IpAddr,
    /// Source of the probe frame.
    pub source: IpAddr,
    /// Ingress port.
    pub interface: String,
    /// Prefix of the compiled table that matched.
    pub prefix: Option<IpNet>,
    /// What the live program answered.
    pub xdp: XdpAnswer,
    /// What the kernel answered (`RTM_GETROUTE` with the ingress interface).
    pub kernel: KernelAnswer,
    /// XDP does what the kernel would, or leaves the packet to it.
    pub agree: bool,
}

/// The probe's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct XdpAnswer {
    /// "tx", "redirect" or "pass".
    pub verdict: String,
    /// Label of the reason.
    pub reason: String,
    /// Target id.
    pub target: u32,
    /// All next hops of the target.
    pub next_hops: Vec<NextHopView>,
    /// The one that this flow takes.
    pub chosen: Option<NextHopView>,
    /// Egress port of a forwarded packet.
    pub interface: Option<String>,
}

/// The kernel's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelAnswer {
    /// "unicast", "local", ... or "error".
    pub kind: String,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Egress interface.
    pub interface: Option<String>,
    /// The kernel's error text ("Network is unreachable").
    pub error: Option<String>,
}

/// `underpass counters`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Non-zero counters, by port and reason.
    pub counters: Vec<CounterRow>,
}

/// One counter, summed over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// Port, or "(other)" for packets that came in on no managed port.
    pub interface: String,
    /// "forwarded" or "passed".
    pub verdict: String,
    /// Label of the reason.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
