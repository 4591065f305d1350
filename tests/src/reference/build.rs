//! Namespaces, links and addresses of the reference lab.

use std::fmt::Write as _;

use anyhow::Result;

use crate::lab::Lab;
use crate::netns;
use crate::topology::{
    self, CLIENT, CLIENT_NET, GATEWAY, GATEWAY_CLIENT, GATEWAY_CLIENT_NET, Node, RACKS, Rack,
};
use crate::xdp::PassProgram;

/// Sysctls of everything that forwards. Set before the interfaces are made, which inherit `default`.
const ROUTER: &[(&str, &str)] = &[("ipv4.ip_forward", "1"), ("ipv4.conf.all.rp_filter", "0")];
/// Debian's default on nodes and gateways: a packet is taken when there is any route to its source.
const LOOSE: (&str, &str) = ("ipv4.conf.default.rp_filter", "2");
/// Switches do not filter, and hash flows on addresses and ports.
const SWITCH: &[(&str, &str)] =
    &[("ipv4.conf.default.rp_filter", "0"), ("ipv4.fib_multipath_hash_policy", "1")];

/// The MAC address that Calico gives its end of every pod's veth.
const CALI_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// The gateway that pods have; the node answers ARP for it.
const POD_GATEWAY: &str = "169.254.1.1";

/// Builds it all.
pub fn network(lab: &Lab) -> Result<()> {
    add_machines(lab)?;
    netns::ip(&cables(lab))?;
    for rack in RACKS {
        segment(lab, rack)?;
    }
    for (rack, node) in topology::nodes() {
        node_addresses(lab, rack, node)?;
    }
    switches(lab)?;
    gateway_and_clients(lab)?;
    let pass = PassProgram::load(lab)?;
    for rack in RACKS {
        for port in rack_ports(rack) {
            pass.attach(&lab.netns(rack.name), port)?;
        }
    }
    pass.attach(&lab.netns("gwclient"), "eth0")
}

fn add_machines(lab: &Lab) -> Result<()> {
    let nodes = topology::nodes().map(|(_, node)| node.name);
    let pods = topology::pods().map(|(_, pod)| pod.name);
    let racks = RACKS.iter().flat_map(|rack| [rack.name, rack.leaf]);
    let rest = ["spine", "gw1", "client", "gwclient"];
    let all: Vec<_> = nodes.chain(pods).chain(racks).chain(rest).collect();
    lab.add_machines(&all)?;
    for (_, node) in topology::nodes() {
        let netns = lab.netns(node.name);
        netns.sysctl(ROUTER)?;
        netns.sysctl(&[LOOSE])?;
    }
    lab.netns("gw1").sysctl(ROUTER)?;
    lab.netns("gw1").sysctl(&[LOOSE])?;
    for switch in ["spine"].into_iter().chain(RACKS.iter().map(|rack| rack.leaf)) {
        lab.netns(switch).sysctl(ROUTER)?;
        lab.netns(switch).sysctl(SWITCH)?;
    }
    Ok(())
}

/// All veths, with both ends made where they belong: none ever appears on the machine itself.
fn cables(lab: &Lab) -> String {
    let mut text = String::new();
    let mut cable = |a: (&str, &str), b: (&str, &str)| {
        let (netns_a, netns_b) = (lab.netns(a.0), lab.netns(b.0));
        let _ = writeln!(
            text,
            "link add name {} netns {} type veth peer name {} netns {}",
            a.1,
            netns_a.name(),
            b.1,
            netns_b.name()
        );
    };
    for rack in RACKS {
        cable(("spine", rack.leaf), (rack.leaf, "spine"));
        cable((rack.leaf, "rack"), (rack.name, rack.leaf));
        for node in rack.nodes {
            cable((node.name, "eth0"), (rack.name, node.name));
            for pod in node.pods {
                cable((pod.name, "eth0"), (node.name, pod.interface));
            }
        }
    }
    cable(("gw1", "eth0"), (RACKS[0].name, "gw1"));
    cable(("gw1", "eth1"), ("gwclient", "eth0"));
    cable(("spine", "clients"), ("client", "eth0"));
    text
}

/// Names of a rack's ports, which are those of the machines behind them.
fn rack_ports(rack: &Rack) -> Vec<&'static str> {
    let gateway = (rack.name == RACKS[0].name).then_some("gw1");
    rack.nodes.iter().map(|node| node.name).chain([rack.leaf]).chain(gateway).collect()
}

/// The rack's segment: a bridge, forwarding from the first moment.
fn segment(lab: &Lab, rack: &Rack) -> Result<()> {
    let mut text =
        String::from("link add segment type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
    for port in rack_ports(rack) {
        let _ = writeln!(text, "link set {port} master segment up");
    }
    text.push_str("link set segment up\n");
    lab.netns(rack.name).ip(&text)
}

/// A node's uplink, default route and pods.
fn node_addresses(lab: &Lab, rack: &Rack, node: &Node) -> Result<()> {
    let netns = lab.netns(node.name);
    let mut text = format!(
        "address add {}/24 broadcast + dev eth0\nlink set eth0 up\nroute add default via {}\n",
        node.address, rack.gateway
    );
    for pod in node.pods {
        let _ = write!(
            text,
            "link set {0} address {CALI_MAC} up\nroute add {1}/32 dev {0} scope link\n",
            pod.interface, pod.address
        );
    }
    netns.ip(&text)?;
    for pod in node.pods {
        let proxy_arp = format!("ipv4.conf.{}.proxy_arp", pod.interface);
        let proxy_delay = format!("ipv4.neigh.{}.proxy_delay", pod.interface);
        netns.sysctl(&[(proxy_arp.as_str(), "1"), (proxy_delay.as_str(), "0")])?;
        lab.netns(pod.name).ip(&format!(
            "address add {}/32 dev eth0\nlink set eth0 up\nroute add {POD_GATEWAY} dev eth0 scope link\n\
             route add default via {POD_GATEWAY} dev eth0\n",
            pod.address
        ))?;
    }
    Ok(())
}

/// The spine and the leafs.
fn switches(lab: &Lab) -> Result<()> {
    let mut spine = String::new();
    for rack in RACKS {
        let _ = writeln!(spine, "address add {}/30 dev {}", rack.spine_address, rack.leaf);
        let _ = writeln!(spine, "link set {} up", rack.leaf);
        let mut leaf = format!(
            "address add {}/30 dev spine\nlink set spine up\n\
             address add {}/24 broadcast + dev rack\nlink set rack up\n",
            rack.uplink_address, rack.gateway
        );
        if rack.name == RACKS[0].name {
            let _ = writeln!(leaf, "route add {GATEWAY_CLIENT_NET} via {GATEWAY}");
        }
        lab.netns(rack.leaf).ip(&leaf)?;
    }
    let gateway = first_host(CLIENT_NET);
    let _ = writeln!(spine, "address add {gateway} broadcast + dev clients\nlink set clients up");
    lab.netns("spine").ip(&spine)
}

fn gateway_and_clients(lab: &Lab) -> Result<()> {
    let inside = first_host(GATEWAY_CLIENT_NET);
    lab.netns("gw1").ip(&format!(
        "address add {GATEWAY}/24 broadcast + dev eth0\nlink set eth0 up\n\
         address add {inside} broadcast + dev eth1\nlink set eth1 up\nroute add default via {}\n",
        RACKS[0].gateway
    ))?;
    for (name, address, net) in
        [("client", CLIENT, CLIENT_NET), ("gwclient", GATEWAY_CLIENT, GATEWAY_CLIENT_NET)]
    {
        let gateway = first_host(net);
        let gateway = gateway.split('/').next().unwrap_or_default();
        lab.netns(name).ip(&format!(
            "address add {address}/24 broadcast + dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"
        ))?;
    }
    Ok(())
}

/// The first address of a /24, with its length: "192.168.100.1/24".
fn first_host(net: &str) -> String {
    net.replace(".0/24", ".1/24")
}
