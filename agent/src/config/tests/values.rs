//! Bad input and what is said about it, as tables.

use super::*;

/// The problems of a text as lines.
fn problems(text: &str) -> Vec<String> {
    parse(text).problems.iter().map(ToString::to_string).collect()
}

/// [`GATEWAY`] with one line replaced, or with lines added after one.
pub(super) fn gateway(line: &str, replacement: &str) -> String {
    assert_eq!(GATEWAY.matches(line).count(), 1, "{line}");
    GATEWAY.replace(line, replacement)
}

/// Name, text, and all problems.
pub(super) type Case = (&'static str, String, &'static [&'static str]);

pub(super) fn check(cases: &[Case]) {
    for (name, text, expected) in cases {
        assert_eq!(problems(text), *expected, "{name}");
    }
}

#[test]
fn keys_and_types() {
    check(&[
        (
            "an empty file",
            String::new(),
            &[
                "1:1: neither [datapath] nor [bgp]: the agent would have nothing to do; `underpass config example` shows both",
            ],
        ),
        (
            "not TOML",
            gateway("[datapath]", "[datapath"),
            &["2:10: not valid TOML: unclosed table, expected `]`"],
        ),
        (
            "a key twice",
            gateway("local_as = 64512", "local_as = 64512\nlocal_as = 1"),
            &["8:1: not valid TOML: duplicate key"],
        ),
        (
            "unknown section",
            gateway("[datapath]", "[datapaths]\n[datapath]"),
            &["2:2: datapaths: unknown key; did you mean `datapath`?"],
        ),
        (
            "unknown key, nothing like it",
            gateway("router_id", "password = \"secret\"\nrouter_id"),
            &[
                "8:1: bgp.password: unknown key; remove it (known here: import, keep_last_known, listen, local_as, maximum_paths, maximum_paths_ebgp, maximum_paths_ibgp, peers, prefix_sets, router_id)",
            ],
        ),
        (
            "misspelt required key of a peer",
            gateway("address =", "adress ="),
            &[
                "10:1: bgp.peers[0].address: missing; set it to an address such as \"172.20.0.11\"",
                "11:1: bgp.peers[0].adress: unknown key; did you mean `address`?",
            ],
        ),
        (
            "wrong types",
            gateway("ports = [\"eth0\", \"eth1\"]", "ports = \"eth0\"\nlease = 60\nservices = true"),
            &[
                "3:9: datapath.ports: expected a list, each element a port's name or a pattern, such as \"eth0\" or \"eth*\", found \"eth0\"",
                "4:9: datapath.lease: the number 60 has no unit; write \"60s\" for seconds",
                "5:12: datapath.services: expected \"pass\" or \"forward\", found true",
            ],
        ),
        (
            "a section that is a value",
            gateway("[bgp.import]", "[bgp.imports]")
                .replace("local_as = 64512", "import = 3\nlocal_as = 64512"),
            &[
                "7:10: bgp.import: expected the table [bgp.import], found the number 3",
                "15:6: bgp.imports: unknown key; did you mean `import`?",
            ],
        ),
        (
            "numbers out of range",
            gateway("remote_as = 64512", "remote_as = -1\nport = 65536\nttl = 1.5"),
            &[
                "12:13: bgp.peers[0].remote_as: expected a number from 0 to 4294967295, found the number -1",
                "13:8: bgp.peers[0].port: expected a number from 0 to 65535, found the number 65536",
                "14:7: bgp.peers[0].ttl: expected a number from 0 to 255, found the number 1.5",
            ],
        ),
        (
            "prefixes",
            gateway("[\"10.233.64.0/18\"]", "[\"10.233.64.1/18\", \"10.0.0.1\", \"pods\", \"0.0.0.0/0\"]"),
            &[
                "4:15: datapath.accelerate[0]: \"10.233.64.1/18\" has host bits set; write \"10.233.64.0/18\"",
                "4:33: datapath.accelerate[1]: \"10.0.0.1\" has no length; write \"10.0.0.1/32\" for the single address",
                "4:45: datapath.accelerate[2]: expected a prefix such as \"10.233.64.0/18\", found \"pods\"",
            ],
        ),
        (
            "rules to bypass",
            gateway(
                "[bgp]",
                "bypass = [\"xfrm\", \"iptables:filter/FORWARD\", \"netfilter\", \"xfrm\"]\n[bgp]",
            ),
            &[
                "6:46: datapath.bypass[2]: expected rules to bypass: \"nft:FAMILY TABLE/CHAIN\", \"iptables:TABLE/CHAIN\" (also \"ip6tables:\"; without a chain, or \"iptables:CHAIN\"), \"conntrack\", \"xfrm\", \"tc:PORT\", or \"all\", found \"netfilter\"",
            ],
        ),
        (
            "a rule to bypass twice",
            gateway("[bgp]", "bypass = [\"xfrm\", \"all\", \"xfrm\"]\n[bgp]"),
            &["6:26: datapath.bypass[2]: \"xfrm\" is listed twice; remove one"],
        ),
        (
            "a range",
            gateway("min = 24", "minimum = 24"),
            &["15:42: bgp.import.prefixes[0].minimum: unknown key; remove it (known here: max, min, prefix)"],
        ),
        (
            "a range without its prefix, and a number in its place",
            gateway("[{ prefix = \"10.233.64.0/18\", min = 24, max = 32 }]", "[{ min = 24 }, 18]"),
            &[
                "15:13: bgp.import.prefixes[0].prefix: missing; set it to a prefix such as \"10.233.64.0/18\"",
                "15:27: bgp.import.prefixes[1]: expected a prefix such as \"10.233.0.0/18\" or a range { prefix = \"10.233.64.0/18\", min = 24, max = 32 }, found the number 18",
            ],
        ),
        (
            "no guards",
            GATEWAY.split("[bgp.import]").next().expect("the first part").to_owned(),
            &[
                "6:1: bgp.import: missing; name what peers may announce with the keys `prefixes` and `next_hops`",
            ],
        ),
        (
            "nothing in required lists",
            gateway("[\"172.20.0.0/24\"]", "[]").replace("[\"eth0\", \"eth1\"]", "[]"),
            &[
                "3:9: datapath.ports: the list is empty; give at least one element: a port's name or a pattern, such as \"eth0\" or \"eth*\"",
                "16:13: bgp.import.next_hops: the list is empty; give at least one element: a prefix such as \"10.233.64.0/18\"",
            ],
        ),
    ]);
}

#[test]
fn agent_log_and_datapath_values() {
    let long = format!("[agent]\nsocket = \"/{}\"\n{GATEWAY}", "s".repeat(107));
    check(&[
        (
            "a relative path",
            format!("[agent]\nsocket = \"underpass.sock\"{GATEWAY}"),
            &[
                "2:10: agent.socket: expected an absolute path such as \"/run/underpass\", found \"underpass.sock\"",
            ],
        ),
        (
            "a path too long for a socket",
            long,
            &["2:10: agent.socket: longer than the 107 bytes that a socket's path can have; shorten it"],
        ),
        (
            "a filter that is none",
            format!("[log]\nfilter = \"a=b=c\"{GATEWAY}"),
            &[
                "2:10: log.filter: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5; write a level (\"info\") or targets (\"underpass::bgp=debug,info\")",
            ],
        ),
        (
            "ports",
            gateway("[\"eth0\", \"eth1\"]", "[\"*\", \"\", \"a-very-long-name\", \"c*\"]"),
            &[
                "3:10: datapath.ports[0]: \"*\" matches the loopback interface; name the uplinks, such as \"eth*\"",
                "3:15: datapath.ports[1]: empty; name a port or a pattern such as \"eth*\"",
                "3:19: datapath.ports[2]: \"a-very-long-name\" is longer than the 15 bytes of an interface's name",
                "3:39: warning: datapath.ports[3]: \"c*\" matches pods' interfaces (cali*), whose packets gain nothing; narrow it",
            ],
        ),
        (
            "ranges that are not to be forwarded",
            gateway(
                "[\"10.233.64.0/18\"]",
                "[\"0.0.0.0/0\", \"128.0.0.0/1\", \"127.0.0.1/32\", \"10.0.0.0/8\", \"10.0.0.0/8\", \"2001:db8::/32\"]",
            ),
            &[
                "4:15: datapath.accelerate[0]: the whole address space: service addresses without a route of their own would follow the default route past kube-proxy; list the ranges to accelerate (pods, hosts)",
                "4:28: datapath.accelerate[1]: 128.0.0.0/1 overlaps 224.0.0.0/3 (multicast and reserved addresses), which is never forwarded; narrow it",
                "4:43: datapath.accelerate[2]: 127.0.0.1/32 overlaps 127.0.0.0/8 (loopback), which is never forwarded; narrow it",
                "4:73: datapath.accelerate[4]: 10.0.0.0/8 is listed twice; remove one",
            ],
        ),
        (
            "a lease too short",
            gateway("[bgp]", "lease = \"4s\"\n[bgp]"),
            &[
                "6:9: datapath.lease: 4s is outside of 5s to 1h: shorter ones expire while the agent is busy, longer ones let a dead agent's table live on; the default is \"60s\"",
            ],
        ),
    ]);
}

#[test]
fn kernel_values() {
    let kernel = |text: &str| format!("{GATEWAY}[kernel]\n{text}\n");
    check(&[
        (
            "BIRD's protocol",
            kernel("protocol = 12"),
            &[
                "18:12: kernel.protocol: 12 belongs to BIRD, which takes such routes for its own and removes them; take a number that nobody uses, the default is 210",
            ],
        ),
        (
            "metric of other daemons",
            kernel("metric = 0"),
            &[
                "18:10: kernel.metric: 0 is the metric of BIRD's and static routes: ours would keep theirs out; the default is 200",
            ],
        ),
        (
            "table local",
            kernel("table = 255"),
            &["18:9: kernel.table: 255 is the kernel's table of local addresses; the default is 254 (main)"],
        ),
        ("no table", kernel("table = 0"), &["18:9: kernel.table: 0 is no table; the default is 254 (main)"]),
        (
            "a table of its own",
            kernel("table = 300"),
            &[
                "18:9: warning: kernel.table: table 300 is only used with rules of yours: `lookup main suppress_prefixlength 0` and after it `lookup 300`; the default is 254 (main)",
            ],
        ),
        (
            "without BGP",
            "[datapath]\nports = [\"eth0\"]\naccelerate = [\"10.0.0.0/8\"]\n[kernel]\nmetric = 5\n"
                .to_owned(),
            &[
                "4:2: warning: kernel: has no effect without [bgp]: this agent has no routes of its own; remove the section",
            ],
        ),
    ]);
    for protocol in [0, 1, 2, 3, 4, 11, 12, 80, 186] {
        assert!(parse(&kernel(&format!("protocol = {protocol}"))).is_refused(), "protocol {protocol}");
    }
    for protocol in [210, 100, 255] {
        assert_eq!(problems(&kernel(&format!("protocol = {protocol}"))), [""; 0], "protocol {protocol}");
    }
}

#[test]
fn speaker_values() {
    check(&[
        (
            "reserved AS numbers",
            gateway("local_as = 64512", "local_as = 23456").replace("remote_as = 64512", "remote_as = 0"),
            &[
                "7:12: bgp.local_as: 23456 is no AS of a speaker: AS_TRANS stands for AS numbers of four octets (RFC 6793); private ones start at 64512",
                "12:13: bgp.peers[0].remote_as: 0 is no AS of a speaker: RFC 7607 forbids it; private ones start at 64512",
            ],
        ),
        (
            "an identifier that is none",
            gateway("\"172.20.0.20\"", "\"0.0.0.0\""),
            &[
                "8:13: bgp.router_id: 0.0.0.0 is no BGP identifier; use an address of this machine that no other speaker uses",
            ],
        ),
        (
            "paths and listeners",
            gateway(
                "router_id",
                "maximum_paths = 0\nlisten = [\"10.0.0.1\", \"10.0.0.1:179\", \"10.0.0.1:0\"]\nrouter_id",
            ),
            &[
                "8:17: bgp.maximum_paths: 0 is outside of 1 to 256; the default is 16",
                "9:23: bgp.listen[1]: 10.0.0.1:179 is listed twice; remove one",
                "9:39: bgp.listen[2]: port 0 is no port to be dialled; leave it out for 179",
            ],
        ),
        (
            "the same peer twice",
            gateway(
                "[bgp.import]",
                "[[bgp.peers]]\naddress = \"172.20.0.11\"\nremote_as = 64512\n[bgp.import]",
            ),
            &["15:11: bgp.peers[1].address: 172.20.0.11 is the address of bgp.peers[0] too; remove one"],
        ),
        (
            "the same name twice",
            gateway(
                "[bgp.import]",
                "[[bgp.peers]]\naddress = \"172.20.0.12\"\nname = \"172.20.0.11\"\nremote_as = 64512\n[bgp.import]",
            ),
            &[
                "16:8: bgp.peers[1].name: \"172.20.0.11\" is the name of bgp.peers[0] too; logs need distinct ones",
            ],
        ),
        (
            "a passive peer that nobody listens to",
            gateway("remote_as", "passive = true\nremote_as"),
            &[
                "12:11: bgp.peers[0].passive: a passive peer dials us, and `bgp.listen` is empty; set it, such as [\"172.20.0.20\"]",
            ],
        ),
    ]);
}

#[test]
fn peer_values() {
    let peer = |text: &str| gateway("remote_as = 64512", &format!("remote_as = 64512\n{text}"));
    check(&[
        (
            "a hold time that RFC 4271 refuses",
            peer("hold_time = \"2s\""),
            &[
                "13:13: bgp.peers[0].hold_time: 2s is refused by RFC 4271 §4.2; give at least \"3s\", or \"0s\" for none",
            ],
        ),
        (
            "no hold time",
            peer("hold_time = \"0s\""),
            &[
                "13:13: warning: bgp.peers[0].hold_time: no hold time: a peer that dies silently is never noticed, and its routes stay",
            ],
        ),
        (
            "a hold time that the OPEN message cannot hold",
            peer("hold_time = \"3500ms\""),
            &[
                "13:13: bgp.peers[0].hold_time: 3500ms does not fit the OPEN message: whole seconds, at most 65535; the default is \"90s\"",
            ],
        ),
        (
            "pauses",
            peer("connect_retry = \"500ms\"\nconnect_retry_max = \"100ms\""),
            &[
                "13:17: bgp.peers[0].connect_retry: 500ms is less than 1s, which would flood the peer; the default is \"5s\"",
                "14:21: bgp.peers[0].connect_retry_max: 100ms is less than connect_retry (500ms); raise it",
            ],
        ),
        (
            "graceful restart without time",
            peer("stale_time = \"0s\""),
            &[
                "13:14: bgp.peers[0].stale_time: 0s keeps no paths over the peer's restart; set graceful_restart = false instead",
            ],
        ),
        (
            "numbers that leave nothing",
            peer("ttl = 0\nport = 0\nmax_prefixes = 0\nname = \"\""),
            &[
                "13:7: bgp.peers[0].ttl: a TTL of 0 reaches nobody; 1 is for a neighbour on the segment, 255 for any distance",
                "14:8: bgp.peers[0].port: port 0 cannot be dialled; leave the key out for 179",
                "15:16: bgp.peers[0].max_prefixes: 0 accepts nothing; the default is 20000",
                "16:8: bgp.peers[0].name: empty; leave the key out to use the address",
            ],
        ),
        (
            "an address of another family",
            peer("source_address = \"2001:db8::1\""),
            &[
                "13:18: bgp.peers[0].source_address: 2001:db8::1 and the peer's 172.20.0.11 are of different families; give one of the same",
            ],
        ),
        (
            "the peer's own address",
            peer("source_address = \"172.20.0.11\""),
            &[
                "13:18: bgp.peers[0].source_address: 172.20.0.11 is the peer's address; give one of this machine",
            ],
        ),
        (
            "a peer that is a group",
            gateway("\"172.20.0.11\"", "\"224.0.0.5\""),
            &["11:11: bgp.peers[0].address: 224.0.0.5 is no address of a peer; give its unicast address"],
        ),
        (
            "a link-local peer",
            gateway("\"172.20.0.11\"", "\"fe80::1\""),
            &[
                "11:11: bgp.peers[0].address: fe80::1 is link-local: say on which interface, such as `interface = \"eth0\"`",
            ],
        ),
        (
            "families",
            peer("families = [\"ipv4-unicast\", \"ipv4-unicast\", \"evpn\"]"),
            &[
                "13:45: bgp.peers[0].families[2]: expected \"ipv4-unicast\" or \"ipv6-unicast\", found \"evpn\"",
            ],
        ),
        (
            "no families",
            peer("families = []"),
            &[
                "13:12: bgp.peers[0].families: empty; the default is [\"ipv4-unicast\"]",
                "16:13: warning: bgp.import.prefixes[0]: no peer offers \"ipv4-unicast\": the range has no effect; add the family to a peer",
            ],
        ),
    ]);
}

#[test]
fn import_values() {
    let range = |text: &str| gateway("{ prefix = \"10.233.64.0/18\", min = 24, max = 32 }", text);
    check(&[
        (
            "min above max",
            range("{ prefix = \"10.233.64.0/18\", min = 28, max = 26 }"),
            &["15:58: bgp.import.prefixes[0].max: min 28 is greater than max 26; swap or raise them"],
        ),
        (
            "longer than an address",
            range("{ prefix = \"10.233.64.0/18\", min = 28, max = 64 }"),
            &[
                "15:58: bgp.import.prefixes[0].max: 64 is longer than the 32 bits of an address of 10.233.64.0/18",
            ],
        ),
        (
            "shorter than the prefix",
            range("{ prefix = \"10.233.64.0/18\", min = 16, max = 32 }"),
            &[
                "15:48: bgp.import.prefixes[0].min: 16 is shorter than 10.233.64.0/18 itself, so nothing can match; give 18 to 32",
            ],
        ),
        (
            "the default route",
            range("\"0.0.0.0/0\""),
            &[
                "15:13: warning: bgp.import.prefixes[0]: accepts a default route from any peer; raise max when that is not meant",
            ],
        ),
        ("everything but the default route", range("{ prefix = \"0.0.0.0/0\", max = 32 }"), &[]),
        (
            "a family that nobody offers",
            range("\"10.233.64.0/18\", \"2001:db8::/32\""),
            &[
                "15:31: warning: bgp.import.prefixes[1]: no peer offers \"ipv6-unicast\": the range has no effect; add the family to a peer",
            ],
        ),
        (
            "a family without ranges",
            gateway(
                "remote_as = 64512",
                "remote_as = 64512\nfamilies = [\"ipv4-unicast\", \"ipv6-unicast\"]",
            ),
            &[
                "16:12: bgp.import.prefixes: no IPv6 range, so that nothing of \"ipv6-unicast\" is accepted; add one or drop the family",
            ],
        ),
        (
            "a family without next hops",
            gateway("[\"172.20.0.0/24\"]", "[\"2001:db8::/64\"]"),
            &[
                "16:13: bgp.import.next_hops: no IPv4 network, so that nothing of \"ipv4-unicast\" is accepted; add the underlay's IPv4 network",
            ],
        ),
        (
            "a range in an encapsulated pool",
            gateway("next_hops", "encapsulated = [\"10.233.0.0/16\"]\nnext_hops"),
            &[
                "15:13: warning: bgp.import.prefixes[0]: inside of the encapsulated pool 10.233.0.0/16, so that nothing is accepted; remove one of them",
            ],
        ),
        (
            "no paths",
            gateway("next_hops", "max_paths_per_prefix = 0\nnext_hops"),
            &["16:24: bgp.import.max_paths_per_prefix: 0 accepts nothing; the default is 32"],
        ),
    ]);
}
