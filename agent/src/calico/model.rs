//! Calico's resources as data: what of them decides sessions, ranges and guards.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use super::selector::{Labels, Selector};

/// AS of a node when neither it nor the `BGPConfiguration` names one.
pub const DEFAULT_AS: u32 = 64512;
/// TCP port of BGP.
pub const BGP_PORT: u16 = 179;

/// All resources that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `BGPConfiguration` "default".
    pub configuration: Configuration,
    /// `listenPort` of the `BGPConfiguration` "node.NAME", by node.
    pub listen_ports: BTreeMap<String, u16>,
    /// `BGPPeer`, by name.
    pub peers: BTreeMap<String, BgpPeer>,
    /// `Node`, by name.
    pub nodes: BTreeMap<String, Node>,
    /// `IPPool`, by name.
    pub pools: BTreeMap<String, Pool>,
    /// `BlockAffinity`: the blocks that a node holds for its pods.
    pub blocks: Vec<Block>,
}

/// `BGPConfiguration`. The default is what Calico does without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `nodeToNodeMeshEnabled`.
    pub mesh: bool,
    /// `asNumber`.
    pub as_number: u32,
    /// `listenPort`.
    pub listen_port: Option<u16>,
    /// `nodeMeshPassword`.
    pub mesh_password: Option<SecretKey>,
    /// `nodeMeshMaxRestartTime`.
    pub mesh_restart_time: Option<Duration>,
    /// `serviceClusterIPs`, `serviceExternalIPs`, `serviceLoadBalancerIPs`, in this order.
    pub service_ranges: Vec<IpNet>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            mesh: true,
            as_number: DEFAULT_AS,
            listen_port: None,
            mesh_password: None,
            mesh_restart_time: None,
            service_ranges: Vec::new(),
        }
    }
}

/// A key of a Kubernetes Secret, where a password is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretKey {
    /// Name of the Secret, in the namespace of Calico's pods.
    pub name: String,
    /// Key in it.
    pub key: String,
}

/// A node, from Calico's `Node` or from the annotations of Kubernetes'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Labels, for selectors.
    pub labels: Labels,
    /// Address of its BGP sessions and the network that it is in.
    pub ipv4: Option<Ipv4Net>,
    /// The same in IPv6.
    pub ipv6: Option<Ipv6Net>,
    /// AS, if it is not that of the `BGPConfiguration`.
    pub as_number: Option<u32>,
    /// Cluster id of a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// `podCIDRs`, which Calico's IPAM does not use.
    pub pod_cidrs: Vec<IpNet>,
}

impl Node {
    /// The address that sessions of the other address's family use.
    pub fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses().find(|address| address.is_ipv4() == other.is_ipv4())
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        let ipv6 = self.ipv6.map(|net| IpAddr::V6(net.addr()));
        ipv4.into_iter().chain(ipv6)
    }

    /// Whether an address is one of its own.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// The networks of its addresses, IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> + use<> {
        let ipv4 = self.ipv4.map(|net| IpNet::V4(net.trunc()));
        let ipv6 = self.ipv6.map(|net| IpNet::V6(net.trunc()));
        ipv4.into_iter().chain(ipv6)
    }
}

/// `BGPPeer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpPeer {
    /// The nodes that it is for.
    pub local: Local,
    /// Whom they have sessions with.
    pub remote: Remote,
    /// AS of the peer, with an address.
    pub as_number: Option<u32>,
    /// AS of the nodes on these sessions, if it is not their own.
    pub local_as: Option<u32>,
    /// Where the password is.
    pub password: Option<SecretKey>,
    /// `sourceAddress: UseNodeIP`: sessions are from the node's address.
    pub from_node_address: bool,
    /// How long the node asks its peers to wait for its restart.
    pub restart_time: Option<Duration>,
    /// Pause between keepalives.
    pub keepalive_time: Option<Duration>,
    /// Own AS numbers allowed in paths received.
    pub allowed_local_as: Option<u32>,
    /// Hops that the peer may be away (RFC 5082).
    pub ttl_security: Option<u8>,
    /// What the nodes say the next hop is.
    pub next_hop: NextHopMode,
    /// `reversePeering: Auto`: Calico nodes on the other end get the session too.
    pub reverse: bool,
    /// Names of `BGPFilter` resources.
    pub filters: Vec<String>,
}

/// The nodes that a `BGPPeer` is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// All ("global" peer).
    All,
    /// `node`.
    Node(String),
    /// `nodeSelector`.
    Selected(Selector),
}

/// The other end of a `BGPPeer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// `peerIP`, with its port.
    Address(IpAddr, Option<u16>),
    /// `peerSelector`.
    Selected(Selector),
}

/// `nextHopMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextHopMode {
    /// Itself towards another AS, unchanged within one.
    #[default]
    Auto,
    /// Itself.
    #[serde(rename = "self")]
    Own,
    /// Unchanged.
    Keep,
}

/// `IPPool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Range.
    pub cidr: IpNet,
    /// Length of the blocks that nodes announce.
    pub block_size: u8,
    /// `ipipMode`.
    pub ipip: Encapsulation,
    /// `vxlanMode`.
    pub vxlan: Encapsulation,
    /// No new addresses are taken from it; those given out stay.
    pub disabled: bool,
    /// Its blocks are not announced.
    pub export_disabled: bool,
    /// `allowedUses` has "Workload": pods have addresses of it.
    pub for_workloads: bool,
    /// `allowedUses` has "`LoadBalancer`": services have addresses of it.
    pub for_load_balancers: bool,
}

/// When packets to a pool are put into others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encapsulation {
    /// Never.
    #[default]
    Never,
    /// Between nodes of different networks.
    CrossSubnet,
    /// Always.
    Always,
}

/// What to make of pools that are encapsulated between networks only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrossSubnet {
    /// They count as encapsulated: right wherever the machine is in another network than some node.
    #[default]
    Encapsulated,
    /// They count as not encapsulated: right on a machine in the one network that all nodes are in.
    Native,
}

impl Pool {
    /// Whether packets to its addresses travel in others, so that its routes must not be used natively.
    pub fn is_encapsulated(&self, cross_subnet: CrossSubnet) -> bool {
        [self.ipip, self.vxlan].iter().any(|mode| match mode {
            Encapsulation::Never => false,
            Encapsulation::Always => true,
            Encapsulation::CrossSubnet => cross_subnet == CrossSubnet::Encapsulated,
        })
    }
}

/// A confirmed `BlockAffinity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Whose block it is.
    pub node: String,
    /// Block.
    pub cidr: IpNet,
}

/// Length of a block when the pool does not say.
pub fn default_block_size(cidr: &IpNet) -> u8 {
    match cidr {
        IpNet::V4(_) => 26,
        IpNet::V6(_) => 122,
    }
}
