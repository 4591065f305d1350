use std::path::{Path, PathBuf};

use super::super::model::{CrossSubnet, Resources};
use super::super::problem::Severity;
use super::super::read::{Wanted, read};
use super::super::{encapsulated_pools, encapsulated_pools_with, load};
use super::{Machine, Plan, Request, plan};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/calico")
}

/// The resources of the reference cluster.
pub fn reference() -> Resources {
    let (resources, problems) = load(&[fixtures().join("reference")]).expect("resources");
    assert_eq!(problems, []);
    resources
}

/// With its pool and blocks.
pub fn reference_with_pools() -> Resources {
    let (resources, problems) =
        load(&[fixtures().join("reference"), fixtures().join("pools.yaml")]).expect("resources");
    assert_eq!(problems, []);
    resources
}

pub fn request(machine: Machine) -> Request {
    Request {
        machine,
        with_sessions: false,
        cross_subnet: CrossSubnet::Encapsulated,
        router_id: None,
        ports: vec!["eth0".to_owned()],
        secrets: "/secrets".into(),
    }
}

pub fn node(name: &str) -> Request {
    request(Machine::Node(name.to_owned()))
}

pub fn address(address: &str) -> Request {
    request(Machine::Address(address.parse().expect("literal")))
}

pub fn resources(text: &str) -> Resources {
    let (resources, problems) = read(&[(PathBuf::from("f"), text.to_owned())], Wanted::Everything);
    assert!(problems.iter().all(|problem| problem.severity != Severity::Error), "{problems:?}");
    resources
}

fn planned(resources: &Resources, request: &Request) -> Plan {
    plan(resources, request).expect("a plan")
}

#[test]
fn the_reference_files_give_the_sessions_of_the_reference_topology() {
    let resources = reference();
    for (request, expected) in [
        (
            node("node1"),
            vec![
                "node2 172.20.0.12 64512<64512",
                "node3 172.20.0.13 64512<64512",
                "rr1-to-leaf1-peer 172.20.0.254 65009<64512",
            ],
        ),
        (
            node("node2"),
            vec![
                "node1 172.20.0.11 64512<64512",
                "node3 172.20.0.13 64512<64512",
                "rr1-to-leaf1-peer 172.20.0.254 65009<64512",
            ],
        ),
        (node("node3"), vec!["node1 172.20.0.11 64512<64512", "node2 172.20.0.12 64512<64512"]),
        (
            node("node4"),
            vec![
                "node5 173.20.0.12 64513<64513",
                "node6 173.20.0.13 64513<64513",
                "rr2-to-leaf2-peer 173.20.0.254 65010<64513",
            ],
        ),
        (
            node("node5"),
            vec![
                "node4 173.20.0.11 64513<64513",
                "node6 173.20.0.13 64513<64513",
                "rr2-to-leaf2-peer 173.20.0.254 65010<64513",
            ],
        ),
        (node("node6"), vec!["node4 173.20.0.11 64513<64513", "node5 173.20.0.12 64513<64513"]),
        (address("172.20.0.254"), vec!["node1 172.20.0.11 64512<65009", "node2 172.20.0.12 64512<65009"]),
        (address("173.20.0.254"), vec!["node4 173.20.0.11 64513<65010", "node5 173.20.0.12 64513<65010"]),
    ] {
        let plan = planned(&resources, &request);
        let bgp = plan.bgp.expect("sessions");
        let found: Vec<String> = bgp
            .peers
            .iter()
            .map(|peer| {
                let session = &peer.session;
                format!("{} {} {}<{}", peer.name, session.address, session.remote_as, session.local_as)
            })
            .collect();
        assert_eq!(found, expected, "{:?}", request.machine);
        assert_eq!(bgp.local_as, bgp.peers[0].session.local_as);
        assert_eq!(bgp.live, matches!(request.machine, Machine::Address(_)));
    }
}

#[test]
fn without_a_pool_the_pods_ranges_are_missing_and_that_is_said() {
    let plan = planned(&reference(), &address("172.20.0.254"));
    assert!(!plan.datapath.is_complete());
    let import = plan.bgp.expect("sessions").import;
    assert_eq!(
        import.prefixes.iter().map(|range| range.prefix.to_string()).collect::<Vec<_>>(),
        ["10.233.0.0/18"]
    );
    assert_eq!(plan.remarks.len(), 1, "{:?}", plan.remarks);
    assert!(plan.remarks[0].starts_with("No IPPool among the resources"), "{:?}", plan.remarks);
    assert!(plan.remarks[0].ends_with("lie in 10.233.64.0/22, 10.233.68.0/23."), "{:?}", plan.remarks);
}

#[test]
fn pools_and_service_ranges_become_ranges_and_guards() {
    let plan = planned(&reference_with_pools(), &node("node1"));
    assert_eq!(plan.remarks, Vec::<String>::new());
    assert_eq!(plan.datapath.accelerate, ["10.233.64.0/18".parse().expect("literal")]);
    assert_eq!(plan.datapath.service_ranges, ["10.233.0.0/18".parse().expect("literal")]);
    let import = plan.bgp.expect("sessions").import;
    let ranges: Vec<(String, u8, u8)> =
        import.prefixes.iter().map(|range| (range.prefix.to_string(), range.min, range.max)).collect();
    assert_eq!(ranges, [("10.233.64.0/18".to_owned(), 26, 32), ("10.233.0.0/18".to_owned(), 18, 18)]);
    assert_eq!(
        import.next_hops,
        ["172.20.0.0/24".parse().expect("literal"), "173.20.0.0/24".parse().expect("literal")]
    );
    assert_eq!(import.own_blocks, ["10.233.64.0/26".parse().expect("literal")]);
    assert_eq!(import.encapsulated, []);
    let leaf = planned(&reference_with_pools(), &address("172.20.0.254"));
    assert_eq!(leaf.bgp.expect("sessions").import.own_blocks, [], "a leaf has none");
}

const POOLS: &str = "apiVersion: projectcalico.org/v3
kind: IPPoolList
items:
- {metadata: {name: plain}, spec: {cidr: 10.1.0.0/16}}
- {metadata: {name: ipip}, spec: {cidr: 10.2.0.0/16, ipipMode: Always}}
- {metadata: {name: cross}, spec: {cidr: 10.3.0.0/16, vxlanMode: CrossSubnet}}
- {metadata: {name: off}, spec: {cidr: 10.4.0.0/16, disabled: true}}
- {metadata: {name: off-ipip}, spec: {cidr: 10.5.0.0/16, disabled: true, ipipMode: Always}}
- {metadata: {name: quiet}, spec: {cidr: 10.6.0.0/16, disableBGPExport: true}}
- {metadata: {name: lb}, spec: {cidr: 10.7.0.0/16, allowedUses: [LoadBalancer]}}
- {metadata: {name: tunnels}, spec: {cidr: 10.8.0.0/16, allowedUses: [Tunnel]}}
- {metadata: {name: six}, spec: {cidr: 'fd10::/64', blockSize: 122}}
---
apiVersion: projectcalico.org/v3
kind: NodeList
items:
- {metadata: {name: a}, spec: {bgp: {ipv4Address: 192.0.2.1/24, ipv6Address: 'fd20::1/64'}}}
- {metadata: {name: b}, spec: {bgp: {ipv4Address: 198.51.100.1/24, ipv6Address: 'fd20::2/64'}}}
";

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_encapsulated_disabled_or_not_for_pods_is_kept_out() {
    for (cross_subnet, accelerate, encapsulated) in [
        (
            CrossSubnet::Encapsulated,
            vec!["10.1.0.0/16", "10.6.0.0/16", "fd10::/64"],
            vec!["10.2.0.0/16", "10.3.0.0/16", "10.5.0.0/16"],
        ),
        (
            CrossSubnet::Native,
            vec!["10.1.0.0/16", "10.3.0.0/16", "10.6.0.0/16", "fd10::/64"],
            vec!["10.2.0.0/16", "10.5.0.0/16"],
        ),
    ] {
        let plan = planned(&resources(POOLS), &Request { cross_subnet, ..node("a") });
        assert_eq!(texts(&plan.datapath.accelerate), accelerate);
        assert_eq!(texts(&plan.datapath.service_ranges), ["10.7.0.0/16"]);
        let import = plan.bgp.expect("the mesh").import;
        assert_eq!(texts(&import.encapsulated), encapsulated);
        let announced: Vec<String> = import.prefixes.iter().map(|range| range.prefix.to_string()).collect();
        let mut expected: Vec<&str> =
            accelerate.iter().copied().filter(|range| *range != "10.6.0.0/16").collect();
        expected.insert(expected.len() - 1, "10.4.0.0/16");
        assert_eq!(announced, expected);
        assert_eq!(plan.remarks.len(), encapsulated.len() + 4, "{:?}", plan.remarks);
    }
}

#[test]
fn the_guard_of_encapsulated_pools_reads_files_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pools.yml");
    std::fs::write(&file, POOLS).expect("written");
    let all = ["10.2.0.0/16", "10.3.0.0/16", "10.5.0.0/16"];
    assert_eq!(texts(&encapsulated_pools(&[&file]).expect("pools")), all);
    assert_eq!(texts(&encapsulated_pools(&[folder.path()]).expect("pools")), all);
    let native = encapsulated_pools_with(&[&file], CrossSubnet::Native).expect("pools");
    assert_eq!(texts(&native), ["10.2.0.0/16", "10.5.0.0/16"]);
    assert_eq!(encapsulated_pools(&[fixtures().join("pools.yaml")]).expect("pools"), []);
    for (path, message) in [
        (fixtures().join("reference"), "no IPPool in"),
        (fixtures().join("absent.yaml"), "cannot read"),
        (fixtures().join("reference").join("absent"), "cannot read"),
        (fixtures(), ""),
    ] {
        let result = encapsulated_pools(&[&path]);
        if message.is_empty() {
            assert_eq!(result.expect("pools"), [], "a folder's own files, not those of folders in it");
        } else {
            let error = result.expect_err("no pools").to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
    let empty = tempfile::tempdir().expect("a folder");
    let error = encapsulated_pools(&[empty.path()]).expect_err("no files").to_string();
    assert!(error.starts_with("no .yaml, .yml or .json file in"), "{error}");
}

#[test]
fn sessions_of_a_family_without_ranges_are_of_no_use() {
    let text = POOLS.replace("- {metadata: {name: six}, spec: {cidr: 'fd10::/64', blockSize: 122}}\n", "");
    let plan = planned(&resources(&text), &Request { with_sessions: true, ..node("a") });
    let bgp = plan.bgp.expect("the mesh");
    let useful: Vec<(String, bool)> = bgp.peers.iter().map(|peer| (peer.name.clone(), peer.useful)).collect();
    assert_eq!(useful, [("b".to_owned(), true), ("b fd20::2".to_owned(), false)]);
    assert_eq!(texts(&bgp.import.next_hops), ["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!(texts(&bgp.listen), ["192.0.2.1:179"]);
    assert!(plan.remarks.iter().any(|remark| remark.starts_with("fd20::2: no range of its family")));
}

#[test]
fn an_identifier_must_come_from_somewhere() {
    let text = POOLS.replace("ipv4Address: 192.0.2.1/24, ", "");
    let resources = resources(&text);
    let without = planned(&resources, &Request { with_sessions: true, ..node("a") });
    assert!(!without.bgp.as_ref().expect("the mesh").live);
    assert!(without.remarks.iter().any(|remark| remark.contains("--router-id")), "{:?}", without.remarks);
    let id = Some("192.0.2.9".parse().expect("literal"));
    let with = planned(&resources, &Request { with_sessions: true, router_id: id, ..node("a") });
    let bgp = with.bgp.expect("the mesh");
    assert_eq!((bgp.live, bgp.router_id), (true, id));
}

#[test]
fn timers_and_ttl_fit_calicos_side() {
    let peers = "---
apiVersion: projectcalico.org/v3
kind: BGPPeerList
items:
- {metadata: {name: far}, spec: {node: a, peerIP: 203.0.113.1, asNumber: 65009, keepaliveTime: 40s}}
- {metadata: {name: guarded}, spec: {node: a, peerIP: 203.0.113.2, asNumber: 65009, ttlSecurity: 2, keepaliveTime: 30s}}
- {metadata: {name: any}, spec: {node: a, peerIP: 203.0.113.4, asNumber: 65009, ttlSecurity: 255}}
- {metadata: {name: inside}, spec: {node: a, peerIP: 203.0.113.3, asNumber: 64512, keepaliveTime: 9h}}
- {metadata: {name: near}, spec: {node: a, peerIP: 192.0.2.254, asNumber: 65009}}
";
    let plan = planned(&resources(&(POOLS.to_owned() + peers)), &node("a"));
    for (name, ttl, hold) in [
        ("far", Some(64), Some(120)),
        ("guarded", None, None),
        ("any", Some(255), None),
        ("inside", None, Some(65535)),
        ("near", None, None),
    ] {
        let bgp = plan.bgp.as_ref().expect("sessions");
        let peer = bgp.peers.iter().find(|peer| peer.name == name).expect(name);
        assert_eq!((peer.ttl, peer.hold_time.map(|hold| hold.as_secs())), (ttl, hold), "{name}");
    }
}

#[test]
fn a_single_node_has_no_session() {
    let text = "{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: a}, spec: {bgp: {ipv4Address: 10.0.0.1}}}";
    assert_eq!(planned(&resources(text), &node("a")).bgp, None);
}
