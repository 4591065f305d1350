//! The configuration as data, with its defaults.
//!
//! The defaults live here and nowhere else: the reader, `underpass config example` and
//! `docs/configuration.md` are tested against them.

mod policy;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::datapath::Engine;
use crate::guard::bypass::Bypass;
use crate::netlink::model::{Family, TABLE_MAIN};

pub use policy::{Exceeded, NextHopPeer, PrefixRange, Rule, RuleAction};

/// Whole configuration file. The default is an empty file: neither XDP nor BGP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// `[log]`.
    pub log: Log,
    /// `[datapath]`; `None`: no XDP on this machine.
    pub datapath: Option<Datapath>,
    /// `[bgp]`; `None`: no sessions of our own.
    pub bgp: Option<Bgp>,
    /// `[kernel]`: routes of our own, used only with `[bgp]`.
    pub kernel: Kernel,
}

impl Config {
    /// This configuration with what a running agent can take on of another one. What needs a restart stays,
    /// and differs again when the two are compared.
    #[must_use]
    pub fn take_on(&self, new: &Self) -> Self {
        Self {
            agent: self.agent.clone(),
            log: self.log.clone(),
            datapath: in_both(self.datapath.as_ref(), new.datapath.as_ref()),
            bgp: in_both(self.bgp.as_ref(), new.bgp.as_ref()),
            kernel: Kernel { flush_on_stop: new.kernel.flush_on_stop, ..self.kernel.clone() },
        }
    }

    /// `datapath.service_ranges`; none without `[datapath]`.
    pub fn service_ranges(&self) -> &[IpNet] {
        self.datapath.as_ref().map_or(&[][..], |datapath| &datapath.service_ranges)
    }
}

/// The new section where both have one; else it stays as it is, missing or not.
fn in_both<T: Clone>(old: Option<&T>, new: Option<&T>) -> Option<T> {
    old.map(|old| new.unwrap_or(old).clone())
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// CLI socket.
    pub socket: PathBuf,
    /// bpffs folder below which `v<ABI>/` is made.
    pub bpffs: PathBuf,
}

impl Default for Agent {
    fn default() -> Self {
        Self { socket: "/run/underpass/underpass.sock".into(), bpffs: "/sys/fs/bpf/underpass".into() }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Format.
    pub format: LogFormat,
    /// `tracing` filter, "info" or "`underpass::bgp=debug,info`".
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".to_owned() }
    }
}

/// `datapath.services`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// kube-proxy terminates services here: service ranges are left to the kernel.
    Pass,
    /// No kube-proxy here: service ranges are forwarded like any other.
    Forward,
}

/// `[datapath]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datapath {
    /// Name patterns of the ports that XDP is attached to.
    pub ports: Vec<String>,
    /// Ranges that may be forwarded by XDP.
    pub accelerate: Vec<IpNet>,
    /// Service ranges (`ClusterIP`, external and load-balancer ranges).
    pub service_ranges: Vec<IpNet>,
    /// Which table holds the prefixes; the tries of the kernel are the reference.
    pub fib: Engine,
    /// What happens to service ranges.
    pub services: Services,
    /// How long the program forwards without a sign of life from the agent.
    pub lease: Duration,
    /// Ports without native XDP may run the program in generic mode, where that is exact.
    pub generic: bool,
    /// How long a port is waited for, after its program was attached, before the next is attached.
    pub carrier_wait: Duration,
    /// Rules of the kernel that need not be asked about packets that XDP forwards.
    pub bypass: Vec<Bypass>,
}

/// The optional keys at their defaults; `ports` and `accelerate` have none and are empty.
impl Default for Datapath {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            accelerate: Vec::new(),
            service_ranges: Vec::new(),
            fib: Engine::Flat,
            services: Services::Pass,
            lease: Duration::from_mins(1),
            generic: false,
            carrier_wait: Duration::from_secs(10),
            bypass: Vec::new(),
        }
    }
}

/// `[kernel]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Route table.
    pub table: u32,
    /// `rtm_protocol` of our routes.
    pub protocol: u8,
    /// Metric of our routes.
    pub metric: u32,
    /// `true`: stopping removes our routes; default is to leave them in place.
    pub flush_on_stop: bool,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { table: TABLE_MAIN, protocol: 210, metric: 200, flush_on_stop: false }
    }
}

/// `[bgp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// Our AS.
    pub local_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Addresses to accept connections on; empty: only dial.
    pub listen: Vec<SocketAddr>,
    /// `[[bgp.peers]]`.
    pub peers: Vec<Peer>,
    /// `[bgp.import]`.
    pub import: Import,
    /// `[bgp.prefix_sets]`: ranges by name, for rules.
    pub prefix_sets: BTreeMap<String, Vec<PrefixRange>>,
    /// Most equal-cost next hops per prefix.
    pub maximum_paths: usize,
    /// The same for paths of peers of another AS; `None` is `maximum_paths`.
    pub maximum_paths_ebgp: Option<usize>,
    /// The same for paths of peers of our AS; `None` is `maximum_paths`.
    pub maximum_paths_ibgp: Option<usize>,
    /// How long the last known routes stay when every peer of an AS is lost; zero: not at all.
    pub keep_last_known: Duration,
}

impl Bgp {
    /// A speaker without peers and with the optional keys at their defaults.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            router_id,
            listen: Vec::new(),
            peers: Vec::new(),
            import: Import::default(),
            prefix_sets: BTreeMap::new(),
            maximum_paths: 16,
            maximum_paths_ebgp: None,
            maximum_paths_ibgp: None,
            keep_last_known: Duration::from_hours(1),
        }
    }

    /// Our AS on the session with a peer.
    pub fn local_as_of(&self, peer: &Peer) -> u32 {
        peer.local_as.unwrap_or(self.local_as)
    }

    /// Our BGP identifier on the session with a peer.
    pub fn router_id_of(&self, peer: &Peer) -> Ipv4Addr {
        peer.router_id.unwrap_or(self.router_id)
    }

    /// Whether a peer is of another AS than ours on the session with it.
    pub fn is_external(&self, peer: &Peer) -> bool {
        peer.remote_as != self.local_as_of(peer)
    }
}

/// Where the password of a session is (TCP-MD5, RFC 2385); never the password itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// `password_file`: the first line of this file.
    File(PathBuf),
    /// `password_env`: this environment variable of the agent.
    Environment(String),
}

/// `[[bgp.peers]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name for logs and tables; default is the address.
    pub name: String,
    /// Peer's address.
    pub address: IpAddr,
    /// Peer's TCP port.
    pub port: u16,
    /// Peer's AS.
    pub remote_as: u32,
    /// `false`: administratively down until somebody brings the session up.
    pub enabled: bool,
    /// Never dial, wait for the peer.
    pub passive: bool,
    /// Our address on the session; default is the kernel's choice.
    pub source_address: Option<IpAddr>,
    /// The session stays on this interface.
    pub interface: Option<String>,
    /// Signs the session's segments.
    pub password: Option<PasswordSource>,
    /// Our BGP identifier on this session; default is `bgp.router_id`.
    pub router_id: Option<Ipv4Addr>,
    /// Our AS on this session; default is `bgp.local_as`.
    pub local_as: Option<u32>,
    /// Hold time offered, 0 or at least 3 s.
    pub hold_time: Duration,
    /// Least hold time accepted from the peer; `None` is what RFC 4271 asks for: 0, or at least 3 s.
    pub min_hold_time: Option<Duration>,
    /// How long the peer may take nothing of what we send (RFC 9687); at least twice the hold time holds.
    pub send_hold_time: Duration,
    /// How long sent data may stay unacknowledged; `None` is a little more than the send hold time.
    pub tcp_user_timeout: Option<Duration>,
    /// First pause before dialling again; doubles up to `connect_retry_max`, jittered.
    pub connect_retry: Duration,
    /// Longest pause before dialling again.
    pub connect_retry_max: Duration,
    /// Families offered.
    pub families: Vec<Family>,
    /// Receive several paths per prefix (RFC 7911).
    pub add_path: bool,
    /// Receive messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// Take IPv6 next hops for IPv4 prefixes (RFC 8950).
    pub extended_next_hop: bool,
    /// Graceful-restart helper: keep the peer's paths while it restarts (RFC 4724).
    pub graceful_restart: bool,
    /// Longest time that stale paths are kept, whatever the peer offers.
    pub stale_time: Duration,
    /// Whether this peer's routes stay for `bgp.keep_last_known` when it is the last of its AS to be lost;
    /// `None` is yes for a peer of our own AS.
    pub keep_last_known: Option<bool>,
    /// TTL of outgoing packets; `None` is 1 for a peer of another AS, 64 otherwise.
    pub ttl: Option<u8>,
    /// Most hops to the peer: what has come farther is dropped, and we send with TTL 255 (RFC 5082).
    pub ttl_security: Option<u8>,
    /// Most prefix-paths accepted from the peer.
    pub max_prefixes: usize,
    /// Part of `max_prefixes`, in percent, from which on the operator is warned.
    pub max_prefixes_warning: u8,
    /// What follows when the peer sends more.
    pub max_prefixes_exceeded: Exceeded,
    /// How long the session stays down after [`Exceeded::Restart`].
    pub max_prefixes_restart: Duration,
    /// Whether the peer may be the next hop of what it announces.
    pub next_hop_peer: NextHopPeer,
    /// `[[bgp.peers.rules]]`, the first that matches decides.
    pub rules: Vec<Rule>,
    /// What follows when there are rules and none matches; `None` rejects.
    pub rules_default: Option<RuleAction>,
}

impl Peer {
    /// A peer with the optional keys at their defaults, named after its address.
    pub fn new(address: IpAddr, remote_as: u32) -> Self {
        Self {
            name: address.to_string(),
            address,
            port: 179,
            remote_as,
            enabled: true,
            passive: false,
            source_address: None,
            interface: None,
            password: None,
            router_id: None,
            local_as: None,
            hold_time: Duration::from_secs(90),
            min_hold_time: None,
            send_hold_time: Duration::from_mins(8),
            tcp_user_timeout: None,
            connect_retry: Duration::from_secs(5),
            connect_retry_max: Duration::from_mins(5),
            families: vec![Family::Ipv4],
            add_path: true,
            extended_messages: true,
            extended_next_hop: false,
            graceful_restart: true,
            stale_time: Duration::from_mins(5),
            keep_last_known: None,
            ttl: None,
            ttl_security: None,
            max_prefixes: 20_000,
            max_prefixes_warning: 80,
            max_prefixes_exceeded: Exceeded::Discard,
            max_prefixes_restart: Duration::from_mins(5),
            next_hop_peer: NextHopPeer::Accept,
            rules: Vec::new(),
            rules_default: None,
        }
    }
}

/// `[bgp.import]`: what a peer may tell us at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Accepted prefixes. Nothing is accepted outside of them.
    pub prefixes: Vec<PrefixRange>,
    /// Networks in which next hops must lie (the underlay).
    pub next_hops: Vec<IpNet>,
    /// Blocks of this machine: never learned, nor anything inside of them.
    pub own_blocks: Vec<IpNet>,
    /// Pools whose packets are encapsulated: never learned, nor anything inside of them.
    pub encapsulated: Vec<IpNet>,
    /// Files or folders with Calico's `IPPool` resources, whose encapsulated pools [`super::load`] adds to
    /// `encapsulated`.
    pub ippool_files: Vec<PathBuf>,
    /// Most paths kept per prefix and peer.
    pub max_paths_per_prefix: usize,
}

/// Accepts nothing; the optional keys are at their defaults.
impl Default for Import {
    fn default() -> Self {
        Self {
            prefixes: Vec::new(),
            next_hops: Vec::new(),
            own_blocks: Vec::new(),
            encapsulated: Vec::new(),
            ippool_files: Vec::new(),
            max_paths_per_prefix: 32,
        }
    }
}
