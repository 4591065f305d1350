//! The reference cluster: one spine, two racks with a leaf and three nodes each, Calico with two route
//! reflectors per rack, no overlay, and a gateway beside the cluster.
//!
//! ```text
//!            client ── spine (AS 65008) ─┬─ leaf01 (65009) ── rack1: node1 RR, node2 RR, node3 (64512), gw1 ── gwclient
//!                                        └─ leaf02 (65010) ── rack2: node4 RR, node5 RR, node6 (64513)
//! ```

pub mod agents;
pub mod calico;
pub mod switch;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Pods' range.
pub const POD_RANGE: &str = "10.233.64.0/18";
/// `ClusterIP` range, advertised by every node.
pub const SERVICE_RANGE: &str = "10.233.0.0/18";
/// Clients behind the spine.
pub const CLIENT_NET: &str = "192.168.100.0/24";
/// The client behind the spine.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);
/// Clients behind gw1.
pub const GATEWAY_CLIENT_NET: &str = "192.168.200.0/24";
/// The client behind gw1.
pub const GATEWAY_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 10);
/// gw1 on rack 1's segment.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 20);
/// The spine's AS.
pub const SPINE_AS: u32 = 65008;

/// A rack: a segment with a leaf and nodes.
#[derive(Clone, Copy, Debug)]
pub struct Rack {
    /// Namespace of the bridge.
    pub name: &'static str,
    /// Name of the leaf.
    pub leaf: &'static str,
    /// The leaf's address on the segment.
    pub gateway: Ipv4Addr,
    /// The leaf's AS.
    pub leaf_as: u32,
    /// The leaf's BGP identifier.
    pub leaf_id: Ipv4Addr,
    /// The spine's address on the link to the leaf.
    pub spine_address: Ipv4Addr,
    /// The leaf's address on the link to the spine.
    pub uplink_address: Ipv4Addr,
    /// The nodes' AS.
    pub node_as: u32,
    /// The nodes.
    pub nodes: &'static [Node],
}

/// A Kubernetes node.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Name.
    pub name: &'static str,
    /// Address on the rack's segment, a /24.
    pub address: Ipv4Addr,
    /// Route reflector, with its own address as cluster id.
    pub reflector: bool,
    /// IPAM blocks of the node.
    pub blocks: &'static [&'static str],
    /// Pods.
    pub pods: &'static [Pod],
}

/// A pod.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    /// Name of its namespace.
    pub name: &'static str,
    /// Its address, a /32.
    pub address: Ipv4Addr,
    /// Its veth on the node.
    pub interface: &'static str,
}

/// The racks.
pub const RACKS: &[Rack] = &[
    Rack {
        name: "rack1",
        leaf: "leaf01",
        gateway: Ipv4Addr::new(172, 20, 0, 254),
        leaf_as: 65009,
        leaf_id: Ipv4Addr::new(2, 2, 2, 2),
        spine_address: Ipv4Addr::new(100, 0, 0, 1),
        uplink_address: Ipv4Addr::new(100, 0, 0, 2),
        node_as: 64512,
        nodes: &[
            Node {
                name: "node1",
                address: Ipv4Addr::new(172, 20, 0, 11),
                reflector: true,
                blocks: &["10.233.64.0/26"],
                pods: &[Pod { name: "pod1", address: Ipv4Addr::new(10, 233, 64, 2), interface: "cali1a" }],
            },
            Node {
                name: "node2",
                address: Ipv4Addr::new(172, 20, 0, 12),
                reflector: true,
                blocks: &["10.233.65.0/26"],
                pods: &[Pod { name: "pod2", address: Ipv4Addr::new(10, 233, 65, 2), interface: "cali2a" }],
            },
            Node {
                name: "node3",
                address: Ipv4Addr::new(172, 20, 0, 13),
                reflector: false,
                blocks: &["10.233.66.0/26", "10.233.66.64/26"],
                pods: &[
                    Pod { name: "pod3", address: Ipv4Addr::new(10, 233, 66, 2), interface: "cali3a" },
                    Pod { name: "pod3b", address: Ipv4Addr::new(10, 233, 66, 66), interface: "cali3b" },
                ],
            },
        ],
    },
    Rack {
        name: "rack2",
        leaf: "leaf02",
        gateway: Ipv4Addr::new(173, 20, 0, 254),
        leaf_as: 65010,
        leaf_id: Ipv4Addr::new(3, 3, 3, 3),
        spine_address: Ipv4Addr::new(100, 0, 0, 5),
        uplink_address: Ipv4Addr::new(100, 0, 0, 6),
        node_as: 64513,
        nodes: &[
            Node {
                name: "node4",
                address: Ipv4Addr::new(173, 20, 0, 11),
                reflector: true,
                blocks: &["10.233.67.0/26"],
                pods: &[Pod { name: "pod4", address: Ipv4Addr::new(10, 233, 67, 2), interface: "cali4a" }],
            },
            Node {
                name: "node5",
                address: Ipv4Addr::new(173, 20, 0, 12),
                reflector: true,
                blocks: &["10.233.68.0/26"],
                pods: &[Pod { name: "pod5", address: Ipv4Addr::new(10, 233, 68, 2), interface: "cali5a" }],
            },
            Node {
                name: "node6",
                address: Ipv4Addr::new(173, 20, 0, 13),
                reflector: false,
                blocks: &["10.233.69.0/26"],
                pods: &[Pod { name: "pod6", address: Ipv4Addr::new(10, 233, 69, 2), interface: "cali6a" }],
            },
        ],
    },
];

impl Rack {
    /// The segment.
    pub fn subnet(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.gateway, 24).trunc()
    }

    /// The route reflectors.
    pub fn reflectors(&self) -> impl Iterator<Item = &'static Node> {
        self.nodes.iter().filter(|node| node.reflector)
    }

    /// The nodes that `node` has an iBGP session with: everybody with the reflectors.
    pub fn ibgp_peers(&self, node: &Node) -> impl Iterator<Item = &'static Node> {
        let (own, reflector) = (node.address, node.reflector);
        self.nodes.iter().filter(move |peer| peer.address != own && (reflector || peer.reflector))
    }
}

/// All nodes with their racks.
pub fn nodes() -> impl Iterator<Item = (&'static Rack, &'static Node)> {
    RACKS.iter().flat_map(|rack| rack.nodes.iter().map(move |node| (rack, node)))
}

/// The node of that name with its rack.
pub fn node(name: &str) -> Option<(&'static Rack, &'static Node)> {
    nodes().find(|(_, node)| node.name == name)
}

/// All pods with their nodes.
pub fn pods() -> impl Iterator<Item = (&'static Node, &'static Pod)> {
    nodes().flat_map(|(_, node)| node.pods.iter().map(move |pod| (node, pod)))
}

/// The address of the pod of that name.
pub fn pod_address(name: &str) -> Option<Ipv4Addr> {
    pods().find(|(_, pod)| pod.name == name).map(|(_, pod)| pod.address)
}

/// The peers whose sessions a machine's daemon must have, sorted.
pub fn expected_peers(machine: &str) -> Vec<Ipv4Addr> {
    let mut peers: Vec<Ipv4Addr> = match machine {
        "spine" => RACKS.iter().map(|rack| rack.uplink_address).collect(),
        "gw1" => RACKS[0].reflectors().map(|node| node.address).collect(),
        _ => match (node(machine), RACKS.iter().find(|rack| rack.leaf == machine)) {
            (Some((rack, node)), _) => {
                let leaf = node.reflector.then_some(rack.gateway);
                rack.ibgp_peers(node).map(|peer| peer.address).chain(leaf).collect()
            }
            (None, Some(rack)) => {
                let spine = std::iter::once(rack.spine_address);
                rack.reflectors().map(|node| node.address).chain(spine).collect()
            }
            (None, None) => Vec::new(),
        },
    };
    peers.sort_unstable();
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_those_of_the_reference() {
        let cases: &[(&str, &[&str])] = &[
            ("node1", &["172.20.0.12", "172.20.0.13", "172.20.0.254"]),
            ("node3", &["172.20.0.11", "172.20.0.12"]),
            ("node5", &["173.20.0.11", "173.20.0.13", "173.20.0.254"]),
            ("leaf01", &["100.0.0.1", "172.20.0.11", "172.20.0.12"]),
            ("leaf02", &["100.0.0.5", "173.20.0.11", "173.20.0.12"]),
            ("spine", &["100.0.0.2", "100.0.0.6"]),
            ("gw1", &["172.20.0.11", "172.20.0.12"]),
            ("client", &[]),
        ];
        for (machine, expected) in cases {
            let expected: Vec<Ipv4Addr> =
                expected.iter().map(|text| text.parse().expect("an address")).collect();
            assert_eq!(expected_peers(machine), expected, "{machine}");
        }
    }

    #[test]
    fn pods_are_inside_of_their_nodes_blocks() {
        for (node, pod) in pods() {
            let inside =
                |block: &&'static str| block.parse::<Ipv4Net>().expect("a block").contains(&pod.address);
            assert!(node.blocks.iter().any(inside), "{}", pod.name);
        }
    }
}
