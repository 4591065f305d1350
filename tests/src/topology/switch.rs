//! bgpd's configuration of the spine and the leafs.

use std::fmt::Write as _;

use super::{CLIENT_NET, GATEWAY_CLIENT_NET, RACKS, Rack, SPINE_AS};

/// What both kinds of switches have. No policy on eBGP sessions, equal AS paths of different
/// neighbours share traffic, two seconds between attempts to connect.
fn common(local_as: u32, router_id: &str, neighbors: &[(String, u32)]) -> String {
    let mut text = format!(
        "router bgp {local_as}\n bgp router-id {router_id}\n no bgp ebgp-requires-policy\n \
         bgp bestpath as-path multipath-relax\n"
    );
    for (address, remote_as) in neighbors {
        let _ =
            write!(text, " neighbor {address} remote-as {remote_as}\n neighbor {address} timers connect 2\n");
    }
    text.push_str(" address-family ipv4 unicast\n  maximum-paths 16\n");
    text
}

/// The spine: a session with each leaf, and the clients' network.
pub fn spine() -> String {
    let neighbors: Vec<_> =
        RACKS.iter().map(|rack| (rack.uplink_address.to_string(), rack.leaf_as)).collect();
    let mut text = common(SPINE_AS, "1.1.1.1", &neighbors);
    let _ = write!(text, "  network {CLIENT_NET}\n exit-address-family\n");
    text
}

/// A leaf: sessions with the spine and the rack's reflectors. It announces its segment; rack 1's leaf
/// also announces the clients behind gw1, to which it has a static route.
///
/// FRR would receive ADD-PATH by default and keep the reflectors' paths twice, hence
/// `disable-addpath-rx`.
pub fn leaf(rack: &Rack) -> String {
    let reflectors: Vec<_> = rack.reflectors().map(|node| node.address.to_string()).collect();
    let mut neighbors = vec![(rack.spine_address.to_string(), SPINE_AS)];
    neighbors.extend(reflectors.iter().map(|address| (address.clone(), rack.node_as)));
    let mut text = common(rack.leaf_as, &rack.leaf_id.to_string(), &neighbors);
    for address in &reflectors {
        let _ = writeln!(text, "  neighbor {address} disable-addpath-rx");
    }
    let _ = writeln!(text, "  network {}", rack.subnet());
    if rack.leaf == RACKS[0].leaf {
        let _ = writeln!(text, "  network {GATEWAY_CLIENT_NET}");
    }
    text.push_str(" exit-address-family\n");
    text
}
