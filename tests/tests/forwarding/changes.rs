//! Neighbours and routes that change while traffic flows.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use underpass::api::model::RouteStatus;
use underpass_tests::reference::ReferenceLab;
use underpass_tests::topology::{self, RACKS, calico};
use underpass_tests::traffic::udp::{self, Stream};
use underpass_tests::wait;

use super::{Counts, FLOWS, LAB, SOON, lookup, target, wait_forwards};

/// Agents by which packets reach node3, with the port they come in on and whose packets they are.
const WAYS_TO_NODE3: [(&str, &str, &str, &str); 3] = [
    ("node1", "eth0", "client", "pod3"),
    ("node2", "eth0", "client", "pod3"),
    ("gw1", "eth1", "gwclient", "pod3b"),
];

#[test]
fn traffic_follows_a_neighbour_to_its_new_address() {
    const NEW: &str = "02:00:00:00:33:99";
    let Some(lab) = LAB.take() else { return };
    let node3 = lab.netns("node3");
    // As after a failover: the new address is announced by gratuitous ARP.
    node3.sysctl(&[("ipv4.conf.eth0.arp_notify", "1")]).expect("node3 announces its address");
    for (agent, port, from, to) in WAYS_TO_NODE3 {
        wait_forwards(&lab, agent, port, from, to);
    }
    let old = mac_of_node3(&lab, WAYS_TO_NODE3[0]).expect("known");
    for address in [NEW, &old] {
        let before = Counts::of(&lab, "gw1");
        let report = thread::scope(|scope| {
            let (from, to) = (lab.netns("gwclient"), lab.netns("pod3b"));
            let stream = Stream { count: 1500, gap: Duration::from_millis(1), ..Stream::default() };
            let traffic = scope.spawn(move || udp::send(&from, &to, target("pod3b", 7000), stream));
            wait::until("traffic flows", SOON, || {
                ensure!(before.added(&lab, "gw1").forwarded() >= 100, "not yet");
                Ok(())
            })
            .expect("forwarded by XDP");
            node3.ip(&format!("link set eth0 address {address}\n")).expect("another MAC");
            traffic.join().expect("no panic").expect("traffic")
        });
        assert_eq!((report.corrupt, report.duplicates), (0, 0), "{report:?}");
        let lost = report.sent - report.received;
        assert!(lost < 1000, "{lost} datagrams, as many milliseconds, until traffic went on");
        for way in WAYS_TO_NODE3 {
            wait::until(&format!("{} has the new row", way.0), SOON, || {
                let mac = mac_of_node3(&lab, way)?;
                ensure!(mac == address, "still {mac}");
                Ok(())
            })
            .expect("rows follow");
            check_forwarded(&lab, way);
        }
    }
}

#[test]
fn a_withdrawn_route_is_gone_from_rib_kernel_and_xdp() {
    let Some(lab) = LAB.take() else { return };
    let (rack, node3) = topology::node("node3").expect("a node");
    let block: IpNet = node3.blocks[1].parse().expect("a block");
    let agents = ["node1", "node2", "node4", "gw1"];

    wait_routes(&lab, &agents, block, is_forwarded);
    let gateway = WAYS_TO_NODE3[2];
    check_forwarded(&lab, gateway);
    let config = calico::config(rack, node3, calico::Options::default());
    let without = config.replace(&format!("  route {block} blackhole;\n"), "");
    assert_ne!(without, config, "the block is announced because of its blackhole");
    lab.bird("node3").reconfigure(&without).expect("BIRD takes the configuration");
    wait_routes(&lab, &agents, block, |route| {
        ensure!(route.is_none(), "{route:?}");
        Ok(())
    });
    for agent in agents {
        let kernel = lab.netns(agent).route(block).map(|route| route.next_hops);
        assert!(kernel.is_err(), "{agent} has {kernel:?} in its kernel");
        let answer =
            lab.agent(agent).client().lookup(super::address("pod3b"), None, None).expect("an answer");
        assert!(answer.agree, "{agent}: {answer:?}");
        assert_ne!(answer.prefix, Some(block), "{agent}: {answer:?}");
        assert!(!answer.xdp.next_hops.iter().any(is_node3), "{agent}: {answer:?}");
    }
    // The node's other block is none of their business.
    wait_routes(&lab, &agents, node3.blocks[0].parse().expect("a block"), is_forwarded);
    check_forwarded(&lab, WAYS_TO_NODE3[0]);

    lab.bird("node3").reconfigure(&config).expect("BIRD takes the configuration");
    wait_routes(&lab, &agents, block, is_forwarded);
    check_forwarded(&lab, gateway);
}

/// The MAC that an agent uses on the way.
fn mac_of_node3(lab: &ReferenceLab, (agent, port, from, to): (&str, &str, &str, &str)) -> Result<String> {
    let lookup = lookup(lab, agent, port, from, to)?;
    ensure!(lookup.agree, "{lookup:?}");
    match lookup.xdp.chosen.and_then(|chosen| chosen.mac) {
        Some(mac) => Ok(mac),
        None => anyhow::bail!("unknown"),
    }
}

/// XDP forwards on the way, and everything arrives.
fn check_forwarded(lab: &ReferenceLab, (agent, port, from, to): (&str, &str, &str, &str)) {
    wait_forwards(lab, agent, port, from, to);
    let before = Counts::of(lab, agent);
    let report = udp::send(
        &lab.netns(from),
        &lab.netns(to),
        target(to, 7000),
        Stream { flows: FLOWS, ..Stream::default() },
    );
    report.expect("traffic").check_intact().expect("everything arrives");
    let added = before.added(lab, agent);
    assert!(added.forwarded() > 0, "{agent} forwards: {added:?}");
}

/// Waits until each agent has the prefix as `wanted`, with RIB, kernel and XDP in agreement on all prefixes.
fn wait_routes(
    lab: &ReferenceLab,
    agents: &[&str],
    prefix: IpNet,
    wanted: impl Fn(Option<&RouteStatus>) -> Result<()>,
) {
    for agent in agents {
        wait::until(&format!("{agent} has {prefix} as wanted"), SOON, || {
            let routes = lab.agent(agent).client().routes()?.routes;
            let differing = routes.iter().find(|route| !route.agree);
            ensure!(differing.is_none(), "RIB, kernel and XDP differ: {differing:?}");
            wanted(routes.iter().find(|route| route.prefix == prefix))
        })
        .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn is_forwarded(route: Option<&RouteStatus>) -> Result<()> {
    let forwarded = route.is_some_and(|route| {
        let live = route
            .xdp
            .as_ref()
            .is_some_and(|xdp| xdp.verdict == "forward" && xdp.next_hops.iter().all(|hop| hop.live));
        live && route.kernel.is_some()
    });
    ensure!(forwarded, "{route:?}");
    Ok(())
}

fn is_node3(hop: &underpass::api::model::NextHopView) -> bool {
    RACKS[0].nodes.iter().any(|node| node.name == "node3" && hop.gateway == Some(node.address.into()))
}
