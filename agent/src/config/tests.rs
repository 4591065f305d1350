use std::path::Path;

use super::model::{
    Bgp, Datapath, Exceeded, LogFormat, NextHopPeer, Peer, PrefixRange, Rule, RuleAction, Services,
};
use super::*;
use crate::netlink::model::Family;

mod difference;
mod policy;
mod properties;
mod values;

/// [`GATEWAY`] with a prefix set and two rules.
fn with_policy() -> String {
    let policy = r#"
[bgp.prefix_sets]
pods = ["10.233.0.0/18", { prefix = "10.233.64.0/18", min = 24, max = 32 }]

[[bgp.peers]]
address = "172.20.0.12"
remote_as = 64513
rules_default = "accept"

[[bgp.peers.rules]]
prefix_set = "pods"
prefixes = [{ prefix = "10.233.64.0/20", min = 26 }]
communities = ["64512:100", "no-export", "*:7"]
large_communities = ["64512:1:*"]
as_path = "65001 * 64512..65534 ?"
next_hops = ["172.20.0.0/25"]
set_local_pref = 200
set_weight = 4294967295

[[bgp.peers.rules]]
action = "reject"

"#;
    GATEWAY.replace("[bgp.import]", &format!("{policy}[bgp.import]"))
}

const GATEWAY: &str = r#"
[datapath]
ports = ["eth0", "eth1"]
accelerate = ["10.233.64.0/18"]

[bgp]
local_as = 64512
router_id = "172.20.0.20"

[[bgp.peers]]
address = "172.20.0.11"
remote_as = 64512

[bgp.import]
prefixes = [{ prefix = "10.233.64.0/18", min = 24, max = 32 }]
next_hops = ["172.20.0.0/24"]
"#;

#[test]
fn a_gateway_needs_few_lines_and_gets_the_defaults() {
    let parsed = parse(GATEWAY);
    assert_eq!(parsed.problems, []);
    let mut bgp = Bgp::new(64512, "172.20.0.20".parse().expect("an address"));
    bgp.peers = vec![Peer::new("172.20.0.11".parse().expect("an address"), 64512)];
    bgp.import.prefixes =
        vec![PrefixRange { prefix: "10.233.64.0/18".parse().expect("a prefix"), min: 24, max: 32 }];
    bgp.import.next_hops = vec!["172.20.0.0/24".parse().expect("a prefix")];
    let expected = Config {
        datapath: Some(Datapath {
            ports: vec!["eth0".to_owned(), "eth1".to_owned()],
            accelerate: vec!["10.233.64.0/18".parse().expect("a prefix")],
            ..Datapath::default()
        }),
        bgp: Some(bgp),
        ..Config::default()
    };
    assert_eq!(parsed.config, expected);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [agent]
        socket = "/tmp/a.sock"
        bpffs = "/tmp/bpf"
        [log]
        format = "json"
        filter = "underpass::bgp=debug,info"
        [datapath]
        ports = ["eth*"]
        accelerate = ["10.233.64.0/18"]
        service_ranges = ["10.233.0.0/18"]
        services = "forward"
        lease = "10s"
        generic = true
        carrier_wait = "2s"
        [kernel]
        table = 254
        protocol = 211
        metric = 0x10
        flush_on_stop = true
        [bgp]
        local_as = 64_512
        router_id = "172.20.0.20"
        listen = ["172.20.0.20", "[::1]:1790"]
        maximum_paths = 4
        maximum_paths_ebgp = 2
        maximum_paths_ibgp = 3
        [[bgp.peers]]
        name = "reflector"
        address = "2001:db8::1"
        port = 1790
        remote_as = 65001
        passive = true
        source_address = "2001:db8::2"
        router_id = "172.20.0.21"
        local_as = 64999
        hold_time = "9s"
        connect_retry = "1500ms"
        connect_retry_max = "1m"
        families = ["ipv6-unicast", "ipv4-unicast"]
        add_path = false
        graceful_restart = false
        stale_time = "0s"
        ttl = 255
        max_prefixes = 7
        max_prefixes_warning = 50
        max_prefixes_exceeded = "restart"
        max_prefixes_restart = "10m"
        next_hop_peer = "refuse"
        [bgp.import]
        prefixes = ["10.233.0.0/18", { prefix = "2001:db8::/32", min = 64 }]
        next_hops = ["172.20.0.0/24", "2001:db8::/64"]
        own_blocks = ["10.233.70.0/26"]
        encapsulated = ["10.233.128.0/18"]
        ippool_files = ["/etc/underpass/pools.yaml"]
        max_paths_per_prefix = 3
    "#;
    let Parsed { config, problems } = parse(text);
    assert_eq!(problems, []);
    assert_eq!(config.agent.socket, Path::new("/tmp/a.sock"));
    assert_eq!(config.agent.bpffs, Path::new("/tmp/bpf"));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.filter, "underpass::bgp=debug,info");
    let datapath = config.datapath.expect("configured");
    assert_eq!(datapath.services, Services::Forward);
    assert_eq!(datapath.service_ranges, ["10.233.0.0/18".parse().expect("a prefix")]);
    assert_eq!(datapath.lease.as_secs(), 10);
    assert!(datapath.generic);
    assert_eq!(datapath.carrier_wait.as_secs(), 2);
    assert_eq!(
        (config.kernel.table, config.kernel.protocol, config.kernel.metric, config.kernel.flush_on_stop),
        (254, 211, 16, true)
    );
    let bgp = config.bgp.expect("configured");
    assert_eq!(bgp.listen, ["172.20.0.20:179", "[::1]:1790"].map(|text| text.parse().expect("an address")));
    assert_eq!((bgp.maximum_paths, bgp.maximum_paths_ebgp, bgp.maximum_paths_ibgp), (4, Some(2), Some(3)));
    let peer = &bgp.peers[0];
    assert_eq!(
        (peer.name.as_str(), peer.port, peer.remote_as, peer.passive),
        ("reflector", 1790, 65001, true)
    );
    assert_eq!(peer.address.to_string(), "2001:db8::1");
    assert_eq!(peer.source_address.map(|address| address.to_string()), Some("2001:db8::2".to_owned()));
    assert_eq!(peer.router_id.map(|id| id.to_string()), Some("172.20.0.21".to_owned()));
    assert_eq!((peer.local_as, peer.ttl, peer.max_prefixes), (Some(64999), Some(255), 7));
    assert_eq!(
        [peer.hold_time, peer.connect_retry, peer.connect_retry_max, peer.stale_time]
            .map(|time| time.as_millis()),
        [9000, 1500, 60_000, 0]
    );
    assert_eq!(peer.families, [Family::Ipv6, Family::Ipv4]);
    assert_eq!((peer.add_path, peer.graceful_restart), (false, false));
    assert_eq!(
        (peer.max_prefixes_warning, peer.max_prefixes_exceeded, peer.max_prefixes_restart.as_secs()),
        (50, Exceeded::Restart, 600)
    );
    assert_eq!(peer.next_hop_peer, NextHopPeer::Refuse);
    let bounds: Vec<_> = bgp.import.prefixes.iter().map(|range| (range.min, range.max)).collect();
    assert_eq!(bounds, [(18, 18), (64, 64)], "a bare prefix is exact, max follows min");
    assert_eq!(bgp.import.own_blocks.len(), 1);
    assert_eq!(bgp.import.ippool_files, [Path::new("/etc/underpass/pools.yaml")]);
    assert_eq!(bgp.import.encapsulated, ["10.233.128.0/18".parse().expect("a prefix")]);
    assert_eq!(bgp.import.max_paths_per_prefix, 3);
}

#[test]
fn policy_is_read() {
    let Parsed { config, problems } = parse(&with_policy());
    assert_eq!(problems, []);
    let bgp = config.bgp.expect("configured");
    let bounds: Vec<_> = bgp.prefix_sets["pods"].iter().map(|range| (range.min, range.max)).collect();
    assert_eq!(bounds, [(18, 18), (24, 32)]);
    assert_eq!((bgp.peers[0].rules.len(), bgp.peers[0].rules_default), (0, None));
    let peer = &bgp.peers[1];
    assert_eq!(peer.rules_default, Some(RuleAction::Accept));
    let expected = Rule {
        prefixes: vec![PrefixRange { prefix: "10.233.64.0/20".parse().expect("a prefix"), min: 26, max: 26 }],
        prefix_set: Some("pods".to_owned()),
        communities: ["64512:100", "no-export", "*:7"].map(|text| text.parse().expect("a pattern")).into(),
        large_communities: vec!["64512:1:*".parse().expect("a pattern")],
        as_path: Some("65001 * 64512..65534 ?".parse().expect("a mask")),
        next_hops: vec!["172.20.0.0/25".parse().expect("a prefix")],
        action: RuleAction::Accept,
        set_local_pref: Some(200),
        set_weight: Some(u32::MAX),
    };
    assert_eq!(peer.rules, [expected, Rule { action: RuleAction::Reject, ..Rule::default() }]);
    assert!(!peer.rules[0].is_unconditional() && peer.rules[1].is_unconditional());
}

#[test]
fn pools_of_calico_are_added_to_those_that_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, pools) = (folder.path().join("underpass.toml"), folder.path().join("pools.yaml"));
    let pool = |name: &str, cidr: &str, mode: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: {name}\nspec:\n  cidr: {cidr}\n  \
             ipipMode: {mode}\n"
        )
    };
    let two = [pool("native", "10.233.64.0/18", "Never"), pool("tunnel", "10.233.128.0/18", "Always")];
    std::fs::write(&pools, two.join("---\n")).expect("writable");
    let import = format!("[bgp.import]\nencapsulated = [\"10.66.0.0/16\"]\nippool_files = [{pools:?}]");
    std::fs::write(&path, GATEWAY.replace("[bgp.import]", &import)).expect("writable");
    let (config, _) = load(&path).expect("accepted");
    let expected = ["10.66.0.0/16", "10.233.128.0/18"].map(|text| text.parse().expect("a prefix"));
    assert_eq!(config.bgp.expect("configured").import.encapsulated, expected);

    std::fs::remove_file(&pools).expect("removable");
    let error = load(&path).expect_err("a guard that cannot be read").to_string();
    assert!(error.contains(":16:16: bgp.import.ippool_files: ") && error.contains("pools.yaml"), "{error}");
}

#[test]
fn a_refused_file_still_tells_where_the_agent_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("underpass.toml");
    std::fs::write(&path, "[agent]\nsocket = \"/tmp/other.sock\"\nbogus = 1\n").expect("writable");
    let error = load(&path).expect_err("refused").to_string();
    let name = path.display();
    assert_eq!(
        error,
        format!(
            "{name}:1:1: neither [datapath] nor [bgp]: the agent would have nothing to do; `underpass config \
             example` shows both\n{name}:3:1: agent.bogus: unknown key; remove it (known here: bpffs, socket)"
        )
    );
    assert_eq!(load_agent(&path).expect("readable").socket, Path::new("/tmp/other.sock"));
    let error = load(&folder.path().join("missing.toml")).expect_err("missing").to_string();
    assert!(error.contains("missing.toml: No such file") && error.contains("config example"), "{error}");
}

#[test]
fn the_example_shows_the_defaults() {
    let printed = parse(EXAMPLE);
    assert_eq!(printed.problems, []);
    let datapath = Datapath {
        ports: vec!["eth0".to_owned()],
        accelerate: vec!["10.233.64.0/18".parse().expect("a prefix")],
        ..Datapath::default()
    };
    assert_eq!(printed.config, Config { datapath: Some(datapath), ..Config::default() });

    let full = parse(&example_in_full());
    assert_eq!(full.problems, []);
    let required_only = r#"
        [bgp]
        local_as = 64512
        router_id = "172.20.0.20"
        [[bgp.peers]]
        address = "172.20.0.11"
        remote_as = 64512
        [bgp.import]
        prefixes = ["10.233.0.0/18", { prefix = "10.233.64.0/18", min = 24, max = 32 }]
        next_hops = ["172.20.0.0/24", "173.20.0.0/24"]
    "#;
    let expected = parse(required_only).config;
    assert_eq!(full.config, Config { datapath: printed.config.datapath, ..expected });
}

/// Every key that the reader asks a full document for, one with rules and prefix sets.
fn all_keys() -> Vec<String> {
    let mut known = read::read(&example_in_full()).known;
    known.extend(read::read(&with_policy()).known);
    assert!(
        known.contains("bgp.peers[].hold_time") && known.contains("bgp.import.prefixes[].min"),
        "{known:?}"
    );
    known.into_iter().collect()
}

#[test]
fn the_example_has_every_key() {
    for key in all_keys() {
        let table = format!("[{}]", key.replace("[]", ""));
        let name = key.rsplit('.').next().expect("not empty");
        let shown = [format!("\n{name} ="), format!("\n#{name} ="), format!("\n# {name} ="), table]
            .iter()
            .any(|form| EXAMPLE.contains(form));
        let inline = EXAMPLE.contains(&format!(" {name} = "));
        assert!(shown || inline, "{key} is not in the example");
    }
}

#[test]
fn the_documentation_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&path).expect("docs/configuration.md");
    for key in all_keys() {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", &key));
        // A table is a heading, or a key of the table above it; a key is a row below its table.
        let heading = |table: &str| match table.strip_suffix("[]") {
            Some(list) if table.starts_with("bgp.prefix_sets.") || list.ends_with(".prefixes") => {
                "`[bgp.import.prefixes]`".to_owned()
            }
            Some(list) => format!("`[[{}]]`", list.replace("[]", "")),
            None => format!("`[{table}]`"),
        };
        let is_heading = |title: &str, table: &str| title.ends_with(&heading(table));
        let mut sections =
            text.split("\n## ").map(|section| section.split_once('\n').unwrap_or((section, "")));
        let documented = sections.any(|(title, body)| {
            is_heading(title, &key) || (is_heading(title, table) && body.contains(&format!("\n| `{name}` |")))
        });
        assert!(documented, "{key} is not in docs/configuration.md");
    }
}
