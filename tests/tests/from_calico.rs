//! `underpass config from-calico` as its users see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use underpass::calico::{self, CrossSubnet, plan};
use underpass_tests::agent;
use underpass_tests::topology::{Node, RACKS, Rack};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calico").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// Exit code, standard output, standard error.
fn from_calico(arguments: &[&str]) -> (Option<i32>, String, String) {
    let binary: PathBuf = agent::program().expect("the program");
    let output = Command::new(binary)
        .args(["config", "from-calico"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("started");
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// The configuration of the reference cluster's first leaf.
const LEAF: &str =
    "# Underpass for 172.20.0.254, a peer of Calico nodes, from Calico's resources (docs/calico.md).

# Calico's resources do not name interfaces: check `ports`.
[datapath]
ports = [\"swp1\", \"swp2\"]
accelerate = [\"10.233.64.0/18\"]
service_ranges = [\"10.233.0.0/18\"]

[bgp]
local_as = 65009
router_id = \"2.2.2.2\"
listen = [\"172.20.0.254\"]

# BGPPeer rr1-to-leaf1-peer; a route reflector, cluster id 172.20.0.11
[[bgp.peers]]
name = \"node1\"
address = \"172.20.0.11\"
remote_as = 64512
source_address = \"172.20.0.254\"

# BGPPeer rr1-to-leaf1-peer; a route reflector, cluster id 172.20.0.12
[[bgp.peers]]
name = \"node2\"
address = \"172.20.0.12\"
remote_as = 64512
source_address = \"172.20.0.254\"

[bgp.import]
prefixes = [{ prefix = \"10.233.64.0/18\", min = 26, max = 32 }, \"10.233.0.0/18\"]
next_hops = [\"172.20.0.0/24\", \"173.20.0.0/24\"]
";

#[test]
fn a_leaf_gets_its_whole_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("underpass.toml");
    let file = file.to_str().expect("UTF-8");
    let (reference, pools) = (fixture("reference"), fixture("pools.yaml"));
    let arguments = [
        &reference,
        &pools,
        "--address",
        "172.20.0.254",
        "--router-id",
        "2.2.2.2",
        "--port",
        "swp1",
        "--port",
        "swp2",
    ];
    assert_eq!(from_calico(&arguments), (Some(0), LEAF.to_owned(), String::new()));

    let write = [&arguments[..], &["--write", file]].concat();
    assert_eq!(from_calico(&write), (Some(0), String::new(), String::new()));
    assert_eq!(fs::read_to_string(file).expect("written"), LEAF);
    fs::write(file, "mine").expect("written");
    let refused = format!("error: {file} is there already; --force replaces it\n");
    assert_eq!(from_calico(&write), (Some(2), String::new(), refused));
    assert_eq!(fs::read_to_string(file).expect("kept"), "mine");
    assert_eq!(from_calico(&[&write[..], &["--force"]].concat()), (Some(0), String::new(), String::new()));
    assert_eq!(fs::read_to_string(file).expect("replaced"), LEAF);

    let binary = agent::program().expect("the program");
    let check = Command::new(binary).args(["-c", file, "config", "check"]).output().expect("started");
    assert_eq!((check.status.code(), &check.stdout[..]), (Some(0), &b"ok\n"[..]));
}

/// Address and AS of the peers of a machine.
fn sessions(machine: plan::Machine) -> Vec<(String, u32)> {
    let (resources, problems) = calico::load(&[fixture("reference")]).expect("resources");
    assert_eq!(problems, []);
    let request = plan::Request {
        machine,
        with_sessions: true,
        cross_subnet: CrossSubnet::Encapsulated,
        router_id: None,
        ports: Vec::new(),
        secrets: PathBuf::new(),
    };
    let bgp = plan::plan(&resources, &request).expect("a plan").bgp.expect("sessions");
    bgp.peers.iter().map(|peer| (peer.session.address.to_string(), peer.session.remote_as)).collect()
}

/// What the lab's BIRD and FRR are configured with by hand, and the resources by Calico's rules: the same.
#[test]
fn the_resources_give_the_sessions_of_the_lab() {
    for rack in RACKS {
        for node in rack.nodes {
            let found = sessions(plan::Machine::Node(node.name.to_owned()));
            assert_eq!(found, of_lab(rack, node), "{}", node.name);
        }
        let reflectors = rack.nodes.iter().filter(|node| node.reflector);
        let expected: Vec<(String, u32)> =
            reflectors.map(|node| (node.address.to_string(), rack.node_as)).collect();
        assert_eq!(sessions(plan::Machine::Address(rack.gateway.into())), expected, "{}", rack.leaf);
    }
}

fn of_lab(rack: &Rack, node: &Node) -> Vec<(String, u32)> {
    let nodes = rack.ibgp_peers(node).map(|peer| (peer.address.to_string(), rack.node_as));
    let leaf = node.reflector.then(|| (rack.gateway.to_string(), rack.leaf_as));
    nodes.chain(leaf).collect()
}

#[test]
fn json_has_the_same_as_data() {
    let (code, out, error) =
        from_calico(&[&fixture("reference"), &fixture("pools.yaml"), "--node", "node1", "-o", "json"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["machine"], json!({ "node": "node1" }));
    assert_eq!((&report["bgp"]["live"], &report["bgp"]["local_as"]), (&json!(false), &json!(64512)));
    let peers = report["bgp"]["peers"].as_array().expect("a list");
    let sessions: Vec<Value> = peers
        .iter()
        .map(|peer| json!([peer["name"], peer["session"]["address"], peer["session"]["remote_as"]]))
        .collect();
    assert_eq!(
        sessions,
        [
            json!(["node2", "172.20.0.12", 64512]),
            json!(["node3", "172.20.0.13", 64512]),
            json!(["rr1-to-leaf1-peer", "172.20.0.254", 65009]),
        ]
    );
    assert_eq!(report["datapath"]["accelerate"], json!(["10.233.64.0/18"]));
    assert_eq!(
        (&report["problems"], &report["remarks"], &report["schema"]),
        (&json!([]), &json!([]), &json!(1))
    );
}

#[test]
fn what_cannot_be_used_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("peer.yaml");
    let peer = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: p}\nspec:\n";
    let path = file.to_str().expect("UTF-8");
    let reference = fixture("reference");
    for (spec, code, error) in [
        (
            "  peerSelector: all()\n  nodeSelector: rack = '1'\n",
            2,
            ":6:17: BGPPeer p: spec.nodeSelector: in the selector \"rack = '1'\", column 6: a single `=`; write `==`",
        ),
        (
            "  peerSelector: has(rr-id)\n  peerip: 10.0.0.1\n",
            0,
            ":6:3: warning: BGPPeer p: spec.peerip: unknown field",
        ),
    ] {
        fs::write(&file, format!("{peer}{spec}")).expect("written");
        let (found, out, message) = from_calico(&[path, &reference, "--node", "node3"]);
        assert_eq!(found, Some(code), "{message}");
        assert!(message.contains(&format!("{path}{error}")), "{message}");
        assert_eq!(out.is_empty(), code != 0, "{out}");
    }
    for (arguments, error) in [
        (vec![reference.as_str()], "--node <NAME>|--address <ADDR>"),
        (vec![&reference, "--node", "node1", "--address", "10.0.0.1"], "cannot be used with"),
        (vec![&reference, "--address", "172.20.0.254", "--with-sessions"], "cannot be used with"),
        (vec![&reference, "--node", "node1", "--force"], "--write"),
        (vec!["--node", "node1"], "<PATH>"),
        (
            vec![&reference, "--node", "node9"],
            "no Node \"node9\" among the resources; there are node1, node2",
        ),
        (
            vec![&reference, "--address", "172.20.0.11"],
            "172.20.0.11 is the Calico node \"node1\"; use `--node node1`",
        ),
        (
            vec![&reference, "--address", "10.0.0.1"],
            "peers outside of the cluster: 172.20.0.254, 173.20.0.254",
        ),
        (vec!["/nonexistent", "--node", "node1"], "cannot read /nonexistent"),
    ] {
        let (code, out, message) = from_calico(&arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {message}");
        assert!(message.contains(error), "{arguments:?}: {message}");
    }
}
