use std::net::IpAddr;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::plan::tests::{address, node, reference, reference_with_pools, resources};
use super::super::plan::{Machine, Request, plan};
use super::super::read::{Wanted, read};
use super::text;
use crate::config::{self, Severity};

/// The errors of a text as a configuration; findings about keys are told by key and message.
fn errors(text: &str) -> Vec<String> {
    let problems = config::parse(text).problems;
    problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect()
}

#[test]
fn what_is_live_is_a_configuration_without_a_problem() {
    let with_sessions = |name: &str| Request { with_sessions: true, ..node(name) };
    for request in [
        node("node1"),
        node("node6"),
        with_sessions("node1"),
        with_sessions("node3"),
        address("172.20.0.254"),
        address("173.20.0.254"),
    ] {
        let text = text(&plan(&reference_with_pools(), &request).expect("a plan"));
        assert_eq!(config::parse(&text).problems, [], "{text}");
    }
    // Without pools the leaf's sessions are all that is complete.
    let text = text(&plan(&reference(), &address("172.20.0.254")).expect("a plan"));
    let parsed = config::parse(&text);
    assert_eq!(parsed.problems, [], "{text}");
    assert_eq!(parsed.config.datapath, None);
    assert!(text.contains("\n#accelerate = []\n"), "{text}");
}

#[test]
fn the_agent_reads_what_is_meant() {
    let text = text(&plan(&reference_with_pools(), &address("172.20.0.254")).expect("a plan"));
    let config = config::parse(&text).config;
    let datapath = config.datapath.expect("live");
    assert_eq!(datapath.ports, ["eth0"]);
    assert_eq!(datapath.accelerate, ["10.233.64.0/18".parse().expect("literal")]);
    assert_eq!(datapath.service_ranges, ["10.233.0.0/18".parse().expect("literal")]);
    let bgp = config.bgp.expect("live");
    assert_eq!((bgp.local_as, bgp.router_id.to_string()), (65009, "172.20.0.254".to_owned()));
    assert_eq!(bgp.listen, ["172.20.0.254:179".parse().expect("literal")]);
    let own: IpAddr = "172.20.0.254".parse().expect("literal");
    for (peer, (name, address)) in bgp.peers.iter().zip([("node1", "172.20.0.11"), ("node2", "172.20.0.12")])
    {
        assert_eq!((peer.name.as_str(), peer.address.to_string()), (name, address.to_owned()));
        assert_eq!((peer.remote_as, peer.port, peer.source_address), (64512, 179, Some(own)));
        assert_eq!((peer.local_as, peer.ttl, peer.passive), (None, None, false));
    }
    assert_eq!(bgp.peers.len(), 2);
    let ranges: Vec<(String, u8, u8)> =
        bgp.import.prefixes.iter().map(|range| (range.prefix.to_string(), range.min, range.max)).collect();
    assert_eq!(ranges, [("10.233.64.0/18".to_owned(), 26, 32), ("10.233.0.0/18".to_owned(), 18, 18)]);
    assert_eq!(bgp.import.next_hops.len(), 2);
}

#[test]
fn on_a_calico_node_the_sessions_are_commented_out_and_it_is_said_why() {
    let plan = plan(&reference_with_pools(), &node("node1")).expect("a plan");
    let commented = text(&plan);
    assert_eq!(config::parse(&commented).config.bgp, None);
    assert!(commented.contains("Calico's BIRD runs on node1 and has these sessions already"), "{commented}");
    // The part commented out is a configuration too.
    let uncommented: String = commented
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let parsed = config::parse(&uncommented);
    assert_eq!(parsed.problems, [], "{uncommented}");
    assert_eq!(parsed.config.bgp.expect("uncommented").peers.len(), 3);
}

const ODD: &str = "apiVersion: projectcalico.org/v3
kind: IPPoolList
items:
- {metadata: {name: plain}, spec: {cidr: 10.1.0.0/16}}
- {metadata: {name: ipip}, spec: {cidr: 10.2.0.0/16, ipipMode: Always}}
- {metadata: {name: six}, spec: {cidr: 'fd10::/64'}}
--- {apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: default}, spec: {listenPort: 1179}}
--- {apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: a}, spec: {bgp: {ipv4Address: 192.0.2.1/24, ipv6Address: 'fd20::1/64'}}}
--- {apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: b}, spec: {bgp: {ipv4Address: 192.0.2.2/24, ipv6Address: 'fd20::2/64', asNumber: 65001}}}
---
apiVersion: projectcalico.org/v3
kind: BGPPeerList
items:
- metadata: {name: leaf}
  spec:
    peerIP: '192.0.2.254:1180'
    asNumber: 65009
    password: {secretKeyRef: {name: bgp, key: leaf}}
    ttlSecurity: 1
    maxRestartTime: 90s
    keepaliveTime: 40s
    numAllowedLocalASNumbers: 1
    nextHopMode: Keep
- {metadata: {name: leaf6}, spec: {peerIP: 'fd20::fe', asNumber: 65009, localASNumber: 65100, nextHopMode: Self, maxRestartTime: 1.5s}}
";

#[test]
fn every_key_of_a_peer_is_written() {
    let resources = resources(ODD);
    let plan_of = |request: &Request| text(&plan(&resources, request).expect("a plan"));
    let leaf = plan_of(&address("192.0.2.254"));
    let table: toml::Table = leaf.parse().unwrap_or_else(|error| panic!("{error}: {leaf}"));
    let expected = "[[bgp.peers]]
# BGPPeer leaf
# password: key \"leaf\" of the Secret \"bgp\" in the namespace of Calico's pods; put it into the file
# keepaliveTime 40s on Calico's side
# numAllowedLocalASNumbers 1: Calico's side takes paths with its own AS; Underpass refuses loops
# nextHopMode Keep: Calico's side passes next hops on unchanged
name = \"b\"
address = \"192.0.2.2\"
port = 1179
remote_as = 65001
source_address = \"192.0.2.254\"
password_file = \"/secrets/bgp/leaf\"
ttl_security = 1
hold_time = \"120s\"
stale_time = \"90s\"
";
    assert_eq!(table["bgp"]["peers"][1], expected.parse::<toml::Table>().expect("TOML")["bgp"]["peers"][0]);
    for comment in expected.lines().filter(|line| line.starts_with('#')) {
        assert!(leaf.contains(&format!("\n{comment}\n")), "{comment}: {leaf}");
    }
    assert_eq!(table["bgp"]["listen"], toml::Value::from(vec!["192.0.2.254:1180"]));
    assert_eq!(table["bgp"]["import"]["encapsulated"], toml::Value::from(vec!["10.2.0.0/16"]));

    let leaf6 =
        plan_of(&Request { router_id: Some("192.0.2.254".parse().expect("literal")), ..address("fd20::fe") });
    let table: toml::Table = leaf6.parse().unwrap_or_else(|error| panic!("{error}: {leaf6}"));
    assert_eq!(
        table["bgp"]["peers"][0],
        "[p]\nname = 'a'\naddress = 'fd20::1'\nport = 1179\nremote_as = 65100\nsource_address = 'fd20::fe'\n\
         families = ['ipv6-unicast']\nstale_time = '1500ms'\n"
            .parse::<toml::Table>()
            .expect("TOML")["p"]
    );

    let own = plan_of(&Request { with_sessions: true, ..node("a") });
    let table: toml::Table = own.parse().unwrap_or_else(|error| panic!("{error}: {own}"));
    let peers = table["bgp"]["peers"].as_array().expect("a list");
    let names: Vec<&str> = peers.iter().filter_map(|peer| peer["name"].as_str()).collect();
    assert_eq!(names, ["b", "leaf", "b fd20::2", "leaf6"]);
    assert_eq!(peers[0]["passive"], toml::Value::from(true), "the mesh is dialled by one end");
    assert_eq!(peers[3]["local_as"], toml::Value::from(65100));
}

#[test]
fn nothing_is_wrong_with_the_rest() {
    let resources = resources(ODD);
    let own = Request { with_sessions: true, ..node("b") };
    for request in [own, node("a"), address("192.0.2.254"), address("fd20::fe")] {
        let text = text(&plan(&resources, &request).expect("a plan"));
        assert_eq!(errors(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_node_without_blocks_is_told_where_they_are() {
    for (resources, expected) in [(reference(), 1), (reference_with_pools(), 0)] {
        let text = text(&plan(&resources, &node("node1")).expect("a plan"));
        assert_eq!(text.matches("own_blocks: no BlockAffinity of node1").count(), expected, "{text}");
        assert_eq!(text.matches("\n#own_blocks = [\"10.233.64.0/26\"]\n").count(), 1 - expected, "{text}");
    }
    let leaf = text(&plan(&reference(), &address("172.20.0.254")).expect("a plan"));
    assert!(!leaf.contains("own_blocks"), "a leaf has none: {leaf}");
}

#[test]
fn comments_are_broken_between_words_and_strings_are_toml() {
    let mut comment = String::new();
    super::comment(&mut comment, &["word"; 50].join(" "));
    assert!(
        comment.lines().count() > 1
            && comment.lines().all(|line| line.starts_with("# ") && line.len() <= 110)
    );
    for text in ["plain", "with \"quotes\"", "back\\slash", "bell\u{7}", "ü"] {
        let table: toml::Table = format!("key = {}", super::string(text)).parse().expect("TOML");
        assert_eq!(table["key"].as_str(), Some(text));
    }
}

/// Text with a piece of it cut out, doubled or replaced by what means something in YAML.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(""),
        Just("'"),
        Just("\""),
        Just("{"),
        Just("]"),
        Just(": "),
        Just("\n- "),
        Just("\n"),
        Just("&a *a"),
        Just("!x"),
        Just("null"),
        Just("-1"),
        Just("99999999999"),
        Just("::"),
        Just("\u{7}"),
        Just("ü"),
        Just("/128"),
        Just("0.0.0.0"),
    ];
    prop::collection::vec((0..text.len(), 0..12usize, piece), 1..4).prop_map(move |cuts| {
        let mut text = text.to_owned();
        for (start, length, piece) in cuts {
            let start = text.floor_char_boundary(start);
            let end = text.floor_char_boundary(start + length).max(start);
            text.replace_range(start..end, piece);
        }
        text
    })
}

proptest! {
    #[test]
    fn damaged_resources_are_refused_or_give_toml(text in damaged(ODD)) {
        let (resources, _) = read(&[(PathBuf::from("f"), text)], Wanted::Everything);
        let machines = resources.nodes.keys().map(|name| Machine::Node(name.clone()));
        let leafs = ["192.0.2.254", "fd20::fe"].map(|leaf| Machine::Address(leaf.parse().expect("literal")));
        for machine in machines.chain(leafs) {
            let request = Request { with_sessions: true, ..super::super::plan::tests::request(machine) };
            if let Ok(plan) = plan(&resources, &request) {
                let text = self::text(&plan);
                prop_assert!(text.parse::<toml::Table>().is_ok(), "{}", text);
            }
        }
    }
}
