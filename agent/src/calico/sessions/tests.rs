use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::model::Resources;
use super::super::problem::Severity;
use super::super::read::{Wanted, read};
use super::{Origin, Session, of_address, of_node};

fn resources(text: &str) -> Resources {
    let (resources, problems) = read(&[(PathBuf::from("f"), text.to_owned())], Wanted::Everything);
    assert!(problems.iter().all(|problem| problem.severity != Severity::Error), "{problems:?}");
    resources
}

/// One node per "NAME ADDRESS AS CLUSTER LABEL", `-` for nothing; an IPv6 address stands behind a comma.
fn nodes(lines: &[&str]) -> String {
    let mut text = String::from("apiVersion: projectcalico.org/v3\nkind: NodeList\nitems:\n");
    for line in lines {
        let [name, addresses, number, cluster, labels] =
            line.split(' ').collect::<Vec<_>>().try_into().expect("five words");
        let (ipv4, ipv6) = addresses.split_once(',').unwrap_or((addresses, ""));
        let or_nothing = |word: &str| if word == "-" { String::new() } else { word.to_owned() };
        let (number, cluster) = (or_nothing(number), or_nothing(cluster));
        let labels = or_nothing(labels).replace('=', ": ");
        let _ = writeln!(
            text,
            "- {{metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{bgp: {{ipv4Address: '{ipv4}', \
             ipv6Address: '{ipv6}', asNumber: {number}, routeReflectorClusterID: '{cluster}'}}}}}}"
        );
    }
    text
}

fn peers(specs: &[(&str, &str)]) -> String {
    let mut text = String::from("---\napiVersion: projectcalico.org/v3\nkind: BGPPeerList\nitems:\n");
    for (name, spec) in specs {
        let _ = writeln!(text, "- {{metadata: {{name: {name}}}, spec: {{{spec}}}}}");
    }
    if specs.is_empty() { String::new() } else { text }
}

fn configuration(spec: &str) -> String {
    format!(
        "---\n{{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {{name: default}}, \
         spec: {{{spec}}}}}\n"
    )
}

/// "ADDRESS PORT THEIR-AS<OUR-AS from SOURCE ORIGIN", "passive" where it waits.
fn lines(sessions: &[Session]) -> Vec<String> {
    let line = |session: &Session| {
        let source = session.source_address.map_or("any".to_owned(), |source| source.to_string());
        let passive = if session.passive { " passive" } else { "" };
        format!(
            "{} {} {}<{} from {source} {:?}{passive}",
            session.address, session.port, session.remote_as, session.local_as, session.origin
        )
    };
    sessions.iter().map(line).collect()
}

fn node_lines(text: &str, node: &str) -> Vec<String> {
    lines(&of_node(&resources(text), node).expect("a node").sessions)
}

fn pair() -> String {
    nodes(&["a 10.0.0.1/24 - - rack=r1", "b 10.0.0.2/24 - - x=y"])
}

const NO_MESH: &str = "nodeToNodeMeshEnabled: false";

#[test]
fn the_mesh_joins_all_nodes_but_reflectors() {
    let text = nodes(&[
        "a 10.0.0.1/24,fd00::1/64 - - -",
        "b 10.0.0.2/24 65001 - -",
        "c 10.0.0.10/24,fd00::a/64 - - -",
        "rr 10.0.0.4/24 - 10.0.0.4 -",
    ]);
    let with = |spec: &str| text.clone() + &configuration(spec);
    for (name, text, node, expected) in [
        (
            "default",
            text.clone(),
            "a",
            vec![
                "10.0.0.2 179 65001<64512 from 10.0.0.1 Mesh passive",
                "10.0.0.10 179 64512<64512 from 10.0.0.1 Mesh passive",
                "fd00::a 179 64512<64512 from fd00::1 Mesh passive",
            ],
        ),
        (
            "own AS; addresses are compared as text",
            text.clone(),
            "b",
            vec![
                "10.0.0.1 179 64512<65001 from 10.0.0.2 Mesh",
                "10.0.0.10 179 64512<65001 from 10.0.0.2 Mesh",
            ],
        ),
        ("a reflector is not in it", text.clone(), "rr", vec![]),
        ("off", with(NO_MESH), "a", vec![]),
        (
            "default AS and port of the configuration",
            with("asNumber: 65000, listenPort: 1179"),
            "b",
            vec![
                "10.0.0.1 1179 65000<65001 from 10.0.0.2 Mesh",
                "10.0.0.10 1179 65000<65001 from 10.0.0.2 Mesh",
            ],
        ),
    ] {
        assert_eq!(node_lines(&text, node), expected, "{name}");
    }
}

#[test]
fn peers_are_found_as_calico_finds_them() {
    let pair = pair();
    let case = |specs: &[(&str, &str)]| pair.clone() + &peers(specs) + &configuration(NO_MESH);
    for (name, specs, of_a, of_b) in [
        (
            "a peer of all nodes",
            vec![("g", "peerIP: 10.0.0.254, asNumber: 65009")],
            vec!["10.0.0.254 179 65009<64512 from 10.0.0.1 Peer(\"g\")"],
            vec!["10.0.0.254 179 65009<64512 from 10.0.0.2 Peer(\"g\")"],
        ),
        (
            "of one node, with a port",
            vec![("n", "node: a, peerIP: '10.0.0.254:1179', asNumber: 65009")],
            vec!["10.0.0.254 1179 65009<64512 from 10.0.0.1 Peer(\"n\")"],
            vec![],
        ),
        (
            "of selected nodes, with another own AS and no source",
            vec![(
                "s",
                "nodeSelector: rack == 'r1', peerIP: 10.0.0.254, asNumber: 65009, localASNumber: 65100, sourceAddress: None",
            )],
            vec!["10.0.0.254 179 65009<65100 from any Peer(\"s\")"],
            vec![],
        ),
        (
            "the other end gets the session too",
            vec![("s", "nodeSelector: has(rack), peerSelector: x == 'y'")],
            vec!["10.0.0.2 179 64512<64512 from 10.0.0.1 Peer(\"s\")"],
            vec!["10.0.0.1 179 64512<64512 from 10.0.0.2 Reverse(\"s\")"],
        ),
        (
            "and knows the AS that this end shows",
            vec![("s", "nodeSelector: has(rack), peerSelector: x == 'y', localASNumber: 65100")],
            vec!["10.0.0.2 179 64512<65100 from 10.0.0.1 Peer(\"s\")"],
            vec!["10.0.0.1 179 65100<64512 from 10.0.0.2 Reverse(\"s\")"],
        ),
        (
            "unless it is told not to",
            vec![("s", "nodeSelector: has(rack), peerSelector: x == 'y', reversePeering: Manual")],
            vec!["10.0.0.2 179 64512<64512 from 10.0.0.1 Peer(\"s\")"],
            vec![],
        ),
        (
            "a node named by address and AS",
            vec![("s", "node: a, peerIP: 10.0.0.2, asNumber: 64512")],
            vec!["10.0.0.2 179 64512<64512 from 10.0.0.1 Peer(\"s\")"],
            vec!["10.0.0.1 179 64512<64512 from 10.0.0.2 Reverse(\"s\")"],
        ),
        (
            "an AS that is not the node's names nobody",
            vec![("s", "node: a, peerIP: 10.0.0.2, asNumber: 65000")],
            vec!["10.0.0.2 179 65000<64512 from 10.0.0.1 Peer(\"s\")"],
            vec![],
        ),
        (
            "a port that is not the node's names nobody",
            vec![("s", "node: a, peerIP: '10.0.0.2:1179', asNumber: 64512")],
            vec!["10.0.0.2 1179 64512<64512 from 10.0.0.1 Peer(\"s\")"],
            vec![],
        ),
        (
            "of two nodes of one global peering the smaller dials",
            vec![("g", "peerIP: 10.0.0.2, asNumber: 64512")],
            vec!["10.0.0.2 179 64512<64512 from 10.0.0.1 Peer(\"g\") passive"],
            vec!["10.0.0.1 179 64512<64512 from 10.0.0.2 Reverse(\"g\")"],
        ),
        (
            "never with itself",
            vec![
                ("all", "nodeSelector: all(), peerSelector: all()"),
                ("own", "peerIP: 10.0.0.1, asNumber: 64512"),
            ],
            vec!["10.0.0.2 179 64512<64512 from 10.0.0.1 Peer(\"all\")"],
            vec!["10.0.0.1 179 64512<64512 from 10.0.0.2 Peer(\"own\")"],
        ),
        (
            "all nodes first, then by name; the first holds",
            vec![
                ("a", "node: a, peerIP: 10.0.0.254, asNumber: 1"),
                ("b", "node: a, peerIP: 10.0.0.254, asNumber: 2"),
                ("c", "nodeSelector: all(), peerIP: 10.0.0.253, asNumber: 3"),
                ("d", "node: b, peerIP: 10.0.0.253, asNumber: 4"),
                ("e", "peerIP: 10.0.0.254, asNumber: 5"),
            ],
            vec![
                "10.0.0.253 179 3<64512 from 10.0.0.1 Peer(\"c\")",
                "10.0.0.254 179 5<64512 from 10.0.0.1 Peer(\"e\")",
            ],
            vec![
                "10.0.0.253 179 3<64512 from 10.0.0.2 Peer(\"c\")",
                "10.0.0.254 179 5<64512 from 10.0.0.2 Peer(\"e\")",
            ],
        ),
        (
            "a peer in a family that the node has no address of",
            vec![("v6", "peerIP: 'fd00::fe', asNumber: 65009")],
            vec![],
            vec![],
        ),
        (
            "an AS that is not given is the default",
            vec![("g", "node: a, peerIP: 10.0.0.254")],
            vec!["10.0.0.254 179 64512<64512 from 10.0.0.1 Peer(\"g\")"],
            vec![],
        ),
    ] {
        let text = case(&specs);
        assert_eq!(node_lines(&text, "a"), of_a, "{name}: a");
        assert_eq!(node_lines(&text, "b"), of_b, "{name}: b");
    }
}

#[test]
fn a_node_listens_where_its_configuration_says() {
    let text = pair()
        + &peers(&[("s", "node: a, peerIP: 10.0.0.2, asNumber: 64512")])
        + &configuration("nodeToNodeMeshEnabled: false, listenPort: 1179")
        + "--- {apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {name: node.b}, spec: {listenPort: 1180}}";
    assert_eq!(node_lines(&text, "a"), ["10.0.0.2 1180 64512<64512 from 10.0.0.1 Peer(\"s\")"]);
    assert_eq!(node_lines(&text, "b"), ["10.0.0.1 1179 64512<64512 from 10.0.0.2 Reverse(\"s\")"]);
    assert_eq!(of_node(&resources(&text), "b").expect("a node").sessions[0].own_port, 1180);
}

#[test]
fn a_session_has_what_its_peer_says() {
    let text = pair()
        + &peers(&[(
            "s",
            "nodeSelector: has(rack), peerSelector: x == 'y', password: {secretKeyRef: {name: n, key: k}}, \
             maxRestartTime: 60s, keepaliveTime: 20s, numAllowedLocalASNumbers: 2, ttlSecurity: 1, nextHopMode: Keep",
        )])
        + &configuration(NO_MESH);
    let resources = resources(&text);
    for node in ["a", "b"] {
        let sessions = of_node(&resources, node).expect("a node").sessions;
        let [session] = &sessions[..] else { panic!("{node}: {sessions:?}") };
        assert_eq!(session.password.as_ref().map(|at| (at.name.as_str(), at.key.as_str())), Some(("n", "k")));
        assert_eq!(session.restart_time.map(|time| time.as_secs()), Some(60));
        assert_eq!(session.keepalive_time.map(|time| time.as_secs()), Some(20));
        assert_eq!((session.allowed_local_as, session.ttl_security), (Some(2), Some(1)));
        assert_eq!(session.next_hop, super::NextHopMode::Keep);
    }
    let mesh = pair()
        + &configuration("nodeMeshPassword: {secretKeyRef: {name: m, key: k}}, nodeMeshMaxRestartTime: 90s");
    let sessions = of_node(&self::resources(&mesh), "a").expect("a node").sessions;
    assert_eq!(sessions[0].password.as_ref().map(|at| at.name.as_str()), Some("m"));
    assert_eq!(sessions[0].restart_time.map(|time| time.as_secs()), Some(90));
}

#[test]
fn what_is_merged_or_left_out_is_said() {
    for (name, specs, mesh, remark) in [
        (
            "mesh and peer",
            vec![("s", "node: a, peerSelector: has(x)")],
            "",
            "by the mesh and by the BGPPeer s",
        ),
        (
            "mesh and peer on another port",
            vec![("s", "node: a, peerIP: '10.0.0.2:1179', asNumber: 64512")],
            "",
            "by the mesh and by the BGPPeer s",
        ),
        (
            "two ports",
            vec![("s", "peerIP: 10.0.0.254, asNumber: 1"), ("t", "peerIP: '10.0.0.254:1179', asNumber: 1")],
            NO_MESH,
            "10.0.0.254 is a peer on port 179 and on port 1179: only the first is kept",
        ),
        ("no address", vec![("s", "peerIP: 'fd00::1', asNumber: 1")], NO_MESH, "a has no IPv6 address"),
    ] {
        let sessions =
            of_node(&resources(&(pair() + &peers(&specs) + &configuration(mesh))), "a").expect("a node");
        assert_eq!(sessions.remarks.len(), 1, "{name}: {:?}", sessions.remarks);
        assert!(sessions.remarks[0].text.contains(remark), "{name}: {:?}", sessions.remarks);
        assert!(sessions.sessions.len() <= 1, "{name}: {:?}", sessions.sessions);
        assert!(sessions.sessions.iter().all(|session| session.origin != Origin::Mesh), "{name}");
    }
}

#[test]
fn a_peer_outside_sees_the_sessions_from_its_side() {
    let text = nodes(&["a 10.0.0.1/24,fd00::1/64 65001 10.0.0.1 rack=r1", "b 10.0.0.2/24 - - rack=r2"])
        + &peers(&[
            ("leaf", "peerIP: '10.0.0.254:1179', asNumber: 65009, ttlSecurity: 1"),
            (
                "leaf6",
                "nodeSelector: rack == 'r1', peerIP: 'fd00::fe', asNumber: 65010, localASNumber: 65100",
            ),
        ])
        + &configuration("nodeToNodeMeshEnabled: false, listenPort: 1180");
    let resources = resources(&text);
    let sessions = |address: &str| of_address(&resources, address.parse().expect("literal"));
    let leaf = sessions("10.0.0.254").expect("a peer").sessions;
    assert_eq!(
        lines(&leaf),
        [
            "10.0.0.1 1180 65001<65009 from 10.0.0.254 Peer(\"leaf\")",
            "10.0.0.2 1180 64512<65009 from 10.0.0.254 Peer(\"leaf\")",
        ]
    );
    assert!(leaf.iter().all(|session| session.own_port == 1179 && session.ttl_security == Some(1)));
    assert_eq!(leaf.iter().map(|session| session.cluster_id.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(
        lines(&sessions("fd00::fe").expect("a peer").sessions),
        ["fd00::1 1180 65100<65010 from fd00::fe Peer(\"leaf6\")"]
    );
    for (address, message) in [
        ("10.0.0.1", "10.0.0.1 is the Calico node \"a\"; use `--node a`"),
        (
            "10.0.0.253",
            "no Calico node has a session with 10.0.0.253; peers outside of the cluster: 10.0.0.254, fd00::fe",
        ),
    ] {
        assert_eq!(sessions(address).expect_err(address).to_string(), message);
    }
    let error = of_node(&resources, "c").expect_err("no such node").to_string();
    assert_eq!(error, "no Node \"c\" among the resources; there are a, b");
}

fn any_cluster() -> impl Strategy<Value = String> {
    let node = (0..3u8, any::<bool>(), any::<bool>(), any::<bool>());
    let selector = prop_oneof![
        Just("all()"),
        Just("l == 'v0'"),
        Just("l != 'v1'"),
        Just("has(rr)"),
        Just("!has(rr)"),
        Just("l in {'v0', 'v2'}"),
    ];
    let peer = (prop::option::of(selector.clone()), selector);
    (prop::collection::vec(node, 1..7), prop::collection::vec(peer, 0..4), any::<bool>()).prop_map(
        |(nodes, peers, mesh)| {
            let mut text = String::from("apiVersion: projectcalico.org/v3\nkind: NodeList\nitems:\n");
            for (index, (label, ipv6, reflector, own_as)) in nodes.iter().enumerate() {
                let index = index + 1;
                let (mut labels, mut bgp) =
                    (format!("l: v{label}"), format!("ipv4Address: 10.0.0.{index}/24"));
                if *reflector {
                    labels += ", rr: ''";
                    let _ = write!(bgp, ", routeReflectorClusterID: 10.0.0.{index}");
                }
                if *ipv6 {
                    let _ = write!(bgp, ", ipv6Address: 'fd00::{index}/64'");
                }
                if *own_as {
                    let _ = write!(bgp, ", asNumber: {}", 65000 + index);
                }
                let _ = writeln!(
                    text,
                    "- {{metadata: {{name: n{index}, labels: {{{labels}}}}}, spec: {{bgp: {{{bgp}}}}}}}"
                );
            }
            let specs: Vec<(String, String)> = peers
                .iter()
                .enumerate()
                .map(|(index, (local, remote))| {
                    let local = local.map_or(String::new(), |local| format!("nodeSelector: \"{local}\", "));
                    (format!("p{index}"), format!("{local}peerSelector: \"{remote}\""))
                })
                .collect();
            let specs: Vec<(&str, &str)> =
                specs.iter().map(|(name, spec)| (name.as_str(), spec.as_str())).collect();
            text + &self::peers(&specs) + &configuration(&format!("nodeToNodeMeshEnabled: {mesh}"))
        },
    )
}

proptest! {
    #[test]
    fn sessions_exist_on_both_ends_and_agree(text in any_cluster()) {
        let resources = resources(&text);
        let mut by_ends: BTreeMap<(IpAddr, IpAddr), Session> = BTreeMap::new();
        for name in resources.nodes.keys() {
            let sessions = of_node(&resources, name).expect("a node").sessions;
            prop_assert!(sessions.is_sorted_by_key(|session| (session.address.is_ipv6(), session.address)));
            for session in sessions {
                let own = session.source_address.expect("the node's address");
                prop_assert_ne!(own, session.address);
                prop_assert_eq!(own.is_ipv4(), session.address.is_ipv4());
                prop_assert!(by_ends.insert((own, session.address), session).is_none());
            }
        }
        for ((own, other), session) in &by_ends {
            let back = by_ends.get(&(*other, *own));
            prop_assert!(back.is_some(), "{} has a session with {}, which has none", own, other);
            let back = back.expect("checked");
            prop_assert_eq!((session.local_as, session.remote_as), (back.remote_as, back.local_as));
            prop_assert!(!(session.passive && back.passive), "nobody dials between {} and {}", own, other);
        }
    }
}
