//! A node's BIRD 1.6 configuration, as Calico's confd renders it for this cluster.
//!
//! Stock BIRD lacks Calico's `krt_tunnel`; the cluster has no overlay, where Calico would not set it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{GATEWAY, Node, POD_RANGE, RACKS, Rack, SERVICE_RANGE};

/// What differs between labs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `nextHopMode: Keep` on the peering with the leaf: no hairpin through the reflectors.
    pub next_hop_keep: bool,
}

/// The whole configuration of `node`.
pub fn config(rack: &Rack, node: &Node, options: Options) -> String {
    let mut text = format!(
        "router id {};\n{}{}{}",
        node.address,
        own_routes(node),
        filters(),
        protocols_and_template(rack)
    );
    for peer in rack.ibgp_peers(node) {
        let reflects = node.reflector;
        text.push_str(&session(node, peer.address, rack.node_as, "", reflects));
    }
    if node.reflector {
        let keep = if options.next_hop_keep { "  next hop keep;\n" } else { "" };
        text.push_str(&session(node, rack.gateway, rack.leaf_as, keep, false));
        if rack.leaf == RACKS[0].leaf {
            text.push_str(&session(node, GATEWAY, rack.node_as, "", true));
        }
    }
    text
}

/// `bird_aggr.cfg`: the node's blocks and the service range as blackholes, and what of them goes out.
fn own_routes(node: &Node) -> String {
    let mut text = String::from("protocol static {\n");
    for block in node.blocks.iter().chain([&SERVICE_RANGE]) {
        let _ = writeln!(text, "  route {block} blackhole;");
    }
    text.push_str("}\n");
    // Only whole blocks leave the node, and the pods' /32 inside of them never do.
    text.push_str("function own_blocks()\n{\n");
    for block in node.blocks {
        let _ = writeln!(text, "  if ( net = {block} ) then accept;");
        let _ = writeln!(text, "  if ( net ~ {block} ) then reject;");
    }
    text.push_str("}\n");
    text
}

/// `bird_ipam.cfg`: what goes to the peers and what goes to the kernel.
fn filters() -> String {
    format!(
        "filter calico_export_to_bgp_peers
{{
  own_blocks();
  if ( net = {SERVICE_RANGE} ) then accept;
  if ( net ~ {POD_RANGE} ) then accept;
  reject;
}}
filter calico_kernel_programming
{{
  if ( net ~ {SERVICE_RANGE} ) then reject;
  accept;
}}
"
    )
}

/// The parts of `bird.cfg` that every node has.
fn protocols_and_template(rack: &Rack) -> String {
    format!(
        "protocol kernel {{
  learn;
  persist;
  scan time 2;
  import all;
  export filter calico_kernel_programming;
  graceful restart;
  merge paths on;
}}
protocol device {{
  scan time 2;
}}
protocol direct {{
  interface -\"cali*\", -\"kube-ipvs*\", \"*\";
}}
template bgp bgp_template {{
  local as {};
  gateway recursive;
  import all;
  export filter calico_export_to_bgp_peers;
  add paths on;
  graceful restart;
  connect delay time 2;
  connect retry time 5;
  error wait time 5,30;
}}
",
        rack.node_as
    )
}

/// A peer. `reflects`: the peer is a client of this route reflector.
fn session(node: &Node, peer: Ipv4Addr, peer_as: u32, extra: &str, reflects: bool) -> String {
    let name = peer.to_string().replace('.', "_");
    let cluster =
        if reflects { format!("  rr client;\n  rr cluster id {};\n", node.address) } else { String::new() };
    format!(
        "protocol bgp Peer_{name} from bgp_template {{
  neighbor {peer} as {peer_as};
  source address {};
  multihop;
  ttl security off;
{cluster}{extra}}}
",
        node.address
    )
}
