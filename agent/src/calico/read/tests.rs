use std::path::PathBuf;
use std::time::Duration;

use super::super::model::{Encapsulation, Local, NextHopMode, Remote, Resources, SecretKey};
use super::super::problem::Severity;
use super::super::selector;
use super::{Wanted, read};

fn read_text(text: &str) -> (Resources, Vec<String>) {
    let (resources, problems) = read(&[(PathBuf::from("f"), text.to_owned())], Wanted::Everything);
    (resources, problems.iter().map(ToString::to_string).collect())
}

/// The resources of text that nothing is wrong with.
fn clean(text: &str) -> Resources {
    let (resources, problems) = read_text(text);
    assert_eq!(problems, Vec::<String>::new(), "{text}");
    resources
}

const PEER: &str = "{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: p}, spec: ";

#[test]
fn every_field_of_a_peer_is_read() {
    let resources = clean(
        "apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: {name: rack1, annotations: {x: y}}
spec:
  nodeSelector: rack == '1'
  peerIP: '[fd20::fe]:1179'
  asNumber: '1.10'
  localASNumber: 65001
  password: {secretKeyRef: {name: bgp, key: rack1}}
  sourceAddress: None
  maxRestartTime: 2m
  keepaliveTime: 20s
  numAllowedLocalASNumbers: 1
  ttlSecurity: 2
  reachableBy: fd20::1
  nextHopMode: Self
  reversePeering: Manual
",
    );
    let peer = &resources.peers["rack1"];
    assert_eq!(peer.local, Local::Selected(selector::parse("rack == '1'").expect("a selector")));
    assert_eq!(peer.remote, Remote::Address("fd20::fe".parse().expect("literal"), Some(1179)));
    assert_eq!((peer.as_number, peer.local_as), (Some(65546), Some(65001)));
    assert_eq!(peer.password, Some(SecretKey { name: "bgp".to_owned(), key: "rack1".to_owned() }));
    assert!(!peer.from_node_address && !peer.reverse);
    assert_eq!(peer.restart_time, Some(Duration::from_mins(2)));
    assert_eq!(peer.keepalive_time, Some(Duration::from_secs(20)));
    assert_eq!((peer.allowed_local_as, peer.ttl_security), (Some(1), Some(2)));
    assert_eq!(peer.next_hop, NextHopMode::Own);
}

#[test]
fn a_peer_says_whom_it_is_for_in_one_way() {
    for (spec, local, remote) in [
        ("{peerIP: 10.0.0.1, asNumber: 1}", "All", "10.0.0.1"),
        ("{node: n, peerIP: 10.0.0.1, asNumber: 1}", "Node", "10.0.0.1"),
        ("{nodeSelector: '', node: '', peerSelector: all()}", "All", "Selected"),
        ("{nodeSelector: has(a), peerSelector: all()}", "Selected", "Selected"),
    ] {
        let resources = clean(&format!("{PEER}{spec}}}"));
        let peer = &resources.peers["p"];
        assert!(format!("{:?}", peer.local).starts_with(local), "{spec}: {peer:?}");
        assert!(format!("{:?}", peer.remote).contains(remote), "{spec}: {peer:?}");
    }
}

#[test]
fn what_is_wrong_is_told_with_file_place_and_field() {
    let mut failed = Vec::new();
    let peer = |spec: &str| format!("{PEER}{spec}}}");
    let pool = |spec: &str| {
        format!("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: p}}\nspec: {spec}")
    };
    for (text, expected) in [
        (peer("{peerIP: 10.0.0.1, asNumber: true}"), "f:1:107: BGPPeer p: spec.asNumber: expected an AS number"),
        (peer("{peerIP: 10.0.0.1, asNumber: 1.10}"), "write \"1.10\""),
        (peer("{peerIP: 10.0.0.1, asNumber: 0}"), "expected an AS number"),
        (peer("{peerIP: leaf01, asNumber: 1}"), "spec.peerIP: expected an address"),
        (peer("{peerIP: 10.0.0.1}"), "warning: BGPPeer p: spec.asNumber: missing"),
        (peer("{asNumber: 1}"), "spec.peerIP: missing"),
        (peer("{peerSelector: all(), peerIP: 10.0.0.1, asNumber: 1}"), "spec.peerSelector: excludes `peerIP`"),
        (peer("{peerSelector: all(), asNumber: 1}"), "spec.asNumber: excludes `peerSelector`"),
        (peer("{node: n, nodeSelector: all(), peerSelector: all()}"), "spec.nodeSelector: excludes `node`"),
        (peer("{peerSelector: \"a = 'b'\"}"), "in the selector \"a = 'b'\", column 3: a single `=`"),
        (peer("{node: 5, peerSelector: all()}"), "spec.node: expected text, found the number 5; put it in quotes"),
        (peer("{peerSelector: all(), nextHopMode: keep}"), "spec.nextHopMode: expected Auto, Self or Keep"),
        (peer("{peerSelector: all(), reversePeering: never}"), "expected Auto or Manual"),
        (peer("{peerSelector: all(), sourceAddress: 10.0.0.2}"), "expected UseNodeIP or None"),
        (peer("{peerSelector: all(), maxRestartTime: 120}"), "spec.maxRestartTime: expected text"),
        (peer("{peerSelector: all(), maxRestartTime: 2d}"), "spec.maxRestartTime: expected a duration"),
        (peer("{peerSelector: all(), ttlSecurity: 300}"), "expected a number from 0 to 255"),
        (peer("{peerSelector: all(), ttlSecurity: '1'}"), "expected a number from 0 to 255"),
        (peer("{peerSelector: all(), password: x}"), "spec.password: expected a mapping"),
        (peer("{peerSelector: all(), password: {secretKeyRef: {name: a}}}"), "spec.password.secretKeyRef.key: missing"),
        (peer("{peerSelector: all(), password: {secretKeyRef: {name: ../a, key: b}}}"), "secretKeyRef.name: expected letters"),
        (peer("{peerSelector: all(), filters: x}"), "spec.filters: expected a list"),
        (peer("{peerSelector: all(), filters: [a]}"), "note: BGPPeer p: spec.filters: what BGPFilters do"),
        (peer("{peerSelector: all(), peerIp: 10.0.0.1}"), "warning: BGPPeer p: spec.peerIp: unknown field"),
        (peer("{peerSelector: all()}, speck: 1"), "warning: BGPPeer p: speck: unknown field"),
        (peer("{localWorkloadSelector: all()}"), "note: BGPPeer p: spec.localWorkloadSelector: sessions with workloads"),
        (peer("[]"), "BGPPeer p: spec: expected a mapping, found a list"),
        (pool("{}"), "f:4:7: IPPool p: spec.cidr: missing"),
        (pool("{cidr: 10.0.0.1/8}"), "spec.cidr: expected a prefix without host bits"),
        (pool("{cidr: 10.0.0.0/8, blockSize: 33}"), "spec.blockSize: 33 is no length of a block"),
        (pool("{cidr: 10.0.0.0/28, blockSize: 26}"), "spec.blockSize: 26 is no length of a block"),
        (pool("{cidr: 'fd00::/64', blockSize: 64}"), "spec.blockSize: 64 is no length of a block"),
        (pool("{cidr: 10.0.0.0/8, ipipMode: On}"), "spec.ipipMode: expected text, found the boolean On"),
        (pool("{cidr: 10.0.0.0/8, ipipMode: Ever}"), "spec.ipipMode: expected Always, CrossSubnet or Never"),
        (pool("{cidr: 10.0.0.0/8, disabled: 1}"), "spec.disabled: expected true or false, found the number 1"),
        (pool("{cidr: 10.0.0.0/8, ipip: {enabled: true}}"), "spec.ipip: a field of Calico 2"),
        ("- a".to_owned(), "f:1:1: expected a resource, found a list"),
        ("a: [".to_owned(), "not valid YAML"),
        ("kind: BGPPeer".to_owned(), "warning: neither kind nor apiVersion, or only one"),
        ("{apiVersion: v1, kind: Secret, metadata: {name: s}}".to_owned(), "note: Secret s: this kind decides"),
        ("{apiVersion: apps/v1, kind: Node, metadata: {name: s}}".to_owned(), "note: Node s: this kind decides"),
        ("{apiVersion: projectcalico.org/v4, kind: BGPPeer}".to_owned(), "BGPPeer: apiVersion projectcalico.org/v4 is not known"),
        ("{apiVersion: projectcalico.org/v3, kind: BGPPeer}".to_owned(), "BGPPeer: metadata.name: missing"),
        ("{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: \"a\\nb\"}}".to_owned(), "is no name of a resource"),
        ("{apiVersion: v1, kind: List, items: 5}".to_owned(), "items: expected a list, found the number 5"),
        ("{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: other}, spec: {}}".to_owned(), "warning: BGPConfiguration other: metadata: Calico knows"),
        ("{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n, labels: {a: 1}}}".to_owned(), "Node n: metadata.labels.a: expected text, found the number 1"),
        ("{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n}, spec: {bgp: {ipv4Address: 'fd00::1'}}}".to_owned(), "spec.bgp.ipv4Address: expected an address"),
        ("{apiVersion: v1, kind: Node, metadata: {name: n, annotations: {projectcalico.org/ASNumber: x}}}".to_owned(), "metadata.annotations: the annotation projectcalico.org/ASNumber cannot be \"x\""),
    ] {
        let (_, problems) = read_text(&text);
        if problems.len() != 1 || !problems[0].contains(expected) {
            failed.push(format!("{text}\n  expected {expected}\n  found {problems:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_bad_resource_is_not_taken_for_a_good_one() {
    let (resources, problems) =
        read(&[(PathBuf::from("f"), format!("{PEER}{{peerSelector: \"a =\"}}}}"))], Wanted::Everything);
    assert_eq!(problems.iter().map(|problem| problem.severity).collect::<Vec<_>>(), [Severity::Error]);
    assert!(resources.peers.is_empty());
}

#[test]
fn the_same_resource_twice_is_refused_with_both_places() {
    let peer = format!("{PEER}{{peerSelector: all()}}}}\n");
    let (resources, problems) = read(
        &[(PathBuf::from("one"), peer.clone()), (PathBuf::from("two"), format!("---\n{peer}"))],
        Wanted::Everything,
    );
    assert_eq!(resources.peers.len(), 1);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["two:2:1: BGPPeer p: defined at one:1 already; keep the one that holds"]);
}

#[test]
fn the_configuration_has_calicos_defaults() {
    let configuration = clean("").configuration;
    assert!(configuration.mesh);
    assert_eq!(configuration.as_number, 64512);
    let resources = clean(
        "{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: default}, spec: {asNumber: 65000,
  nodeToNodeMeshEnabled: false, listenPort: 1179, nodeMeshMaxRestartTime: 90s,
  nodeMeshPassword: {secretKeyRef: {name: mesh, key: k}}, bindMode: NodeIP, communities: [],
  serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: 'fd96::/108'}], serviceExternalIPs: [{cidr: 192.0.2.0/24}],
  serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}, {cidr: 192.0.2.0/24}]}}
--- {apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: node.n1}, spec: {listenPort: 1180}}",
    );
    let configuration = resources.configuration;
    assert!(!configuration.mesh);
    assert_eq!((configuration.as_number, configuration.listen_port), (65000, Some(1179)));
    assert_eq!(configuration.mesh_restart_time, Some(Duration::from_secs(90)));
    assert_eq!(configuration.mesh_password.map(|at| at.name), Some("mesh".to_owned()));
    let ranges: Vec<String> = configuration.service_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/12", "fd96::/108", "192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(resources.listen_ports.into_iter().collect::<Vec<_>>(), [("n1".to_owned(), 1180)]);
}

#[test]
fn kubernetes_nodes_have_calicos_fields_as_annotations() {
    let kubernetes = "apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {rack: '1', empty: ''}
  annotations:
    projectcalico.org/IPv4Address: 10.0.0.1/24
    projectcalico.org/IPv6Address: fd00::1/64
    projectcalico.org/ASNumber: '65001'
    projectcalico.org/RouteReflectorClusterID: 10.0.0.1
    projectcalico.org/IPv4IPIPTunnelAddr: 10.233.64.1
    other.example/x: ''
spec: {podCIDR: 10.233.64.0/24, podCIDRs: [10.233.64.0/24], unschedulable: true}
status: {addresses: []}
";
    let calico = "apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1, labels: {rack: '1', empty: ''}}
spec: {bgp: {ipv4Address: 10.0.0.1/24, ipv6Address: fd00::1/64, asNumber: 65001, routeReflectorClusterID: 10.0.0.1}}
status: {podCIDRs: [10.233.64.0/24]}
";
    let expected = clean(calico);
    assert_eq!(clean(kubernetes), expected);
    let other_as = kubernetes.replace("65001", "65002");
    assert_eq!(
        clean(&format!("{other_as}---\n{calico}")).nodes,
        expected.nodes,
        "Calico's comes later and holds"
    );
    let (resources, problems) = read_text(&format!("{calico}---\n{other_as}"));
    assert_eq!(resources.nodes, expected.nodes, "Calico's comes first and holds");
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn pools_have_calicos_defaults() {
    let resources = clean(
        "apiVersion: projectcalico.org/v3
kind: IPPoolList
items:
- {metadata: {name: a}, spec: {cidr: 10.0.0.0/8}}
- {metadata: {name: b}, spec: {cidr: 'fd00::/48', vxlanMode: CrossSubnet, ipipMode: ''}}
- {metadata: {name: c}, spec: {cidr: 10.1.0.0/16, ipipMode: always, disabled: true, allowedUses: [LoadBalancer]}}
- {metadata: {name: d}, spec: {cidr: 10.2.0.0/16, blockSize: 28, disableBGPExport: true, allowedUses: [Workload, Tunnel]}}",
    );
    let pool = |name: &str| resources.pools[name].clone();
    assert_eq!((pool("a").block_size, pool("b").block_size, pool("d").block_size), (26, 122, 28));
    assert_eq!((pool("a").ipip, pool("a").vxlan), (Encapsulation::Never, Encapsulation::Never));
    assert_eq!((pool("b").ipip, pool("b").vxlan), (Encapsulation::Never, Encapsulation::CrossSubnet));
    assert_eq!((pool("c").ipip, pool("c").disabled), (Encapsulation::Always, true));
    assert_eq!((pool("a").for_workloads, pool("a").for_load_balancers), (true, false));
    assert_eq!((pool("c").for_workloads, pool("c").for_load_balancers), (false, true));
    assert!(pool("d").for_workloads && pool("d").export_disabled && !pool("d").disabled);
}

#[test]
fn blocks_are_those_that_are_confirmed() {
    let resources = clean(
        "apiVersion: crd.projectcalico.org/v1
kind: BlockAffinityList
items:
- {metadata: {name: a}, spec: {cidr: 10.0.0.0/26, node: n1, state: confirmed, deleted: 'false', type: host}}
- {metadata: {name: b}, spec: {cidr: 10.0.0.64/26, node: n1, state: pending, deleted: 'false'}}
- {metadata: {name: c}, spec: {cidr: 10.0.0.128/26, node: n1, state: confirmed, deleted: true}}",
    );
    let blocks: Vec<String> =
        resources.blocks.iter().map(|block| format!("{} {}", block.node, block.cidr)).collect();
    assert_eq!(blocks, ["n1 10.0.0.0/26"]);
}

#[test]
fn when_only_pools_are_wanted_nothing_else_is_judged() {
    let text = format!(
        "{PEER}{{peerSelector: 5}}}}\n--- {{apiVersion: v1, kind: Secret, metadata: {{name: s}}}}
--- {{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {{name: a}}, spec: {{cidr: 10.0.0.0/8}}}}"
    );
    let (resources, problems) = read(&[(PathBuf::from("f"), text)], Wanted::Pools);
    assert_eq!(problems, []);
    assert_eq!(resources.pools.len(), 1);
}
