//! Rules that the real tools make, read back and judged.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use underpass::guard::bypass::Bypass;
use underpass::guard::judge::{Judgement, judge};
use underpass::guard::model::Scene;
use underpass::guard::reader::Reader;
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;
use underpass_tests::privilege::can_raise_labs;

use super::rig::run;

/// A machine with the ports eth0 and eth1.
fn machine(lab: &Lab, name: &str) -> (Netns, Scene) {
    let netns = lab.add_machines(&[name]).expect("a namespace").remove(0);
    netns.ip("link add eth0 type veth peer name eth1\nlink set eth0 up\nlink set eth1 up\n").expect("ports");
    let index = |port: &str| -> u32 {
        let links: Vec<serde_json::Value> = netns.ip_json(&format!("link show dev {port}")).expect("a link");
        links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok()).expect("an index")
    };
    let ports = BTreeMap::from([(index("eth0"), "eth0".to_owned()), (index("eth1"), "eth1".to_owned())]);
    let ranges = ["10.233.64.0/18", "fd00:10:233::/48"].map(|text| text.parse().expect("a prefix"));
    (netns, Scene { ports, accelerate: ranges.to_vec(), services: Vec::new() })
}

fn judged(netns: &Netns, scene: &Scene, bypass: &[&str]) -> Judgement {
    let bypass: Vec<Bypass> = bypass.iter().map(|entry| entry.parse().expect("an entry")).collect();
    let rules = netns.enter(|| Reader::default().read(scene)).expect("entered");
    assert!(rules.unreadable.is_empty(), "{:?}", rules.unreadable);
    judge(&rules, scene, &bypass)
}

/// Places and texts of what was found and is not named.
fn findings(judgement: &Judgement) -> Vec<String> {
    let open = judgement.findings.iter().filter(|finding| finding.bypassed.is_none());
    open.map(|finding| format!("{}: {}", finding.place, finding.text)).collect()
}

fn restore(netns: &Netns, program: &str, text: &str) {
    let mut child = netns.command(program).stdin(Stdio::piped()).spawn().expect(program);
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    assert!(child.wait().expect("ended").success(), "{program} refuses {text}");
}

/// What kube-proxy (iptables mode) writes, with some services.
fn kube_proxy(services: usize) -> String {
    use std::fmt::Write as _;
    let mut text = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n".to_owned();
    for service in 0..services {
        let _ = writeln!(text, ":KUBE-SVC-{service} - [0:0]\n:KUBE-SEP-{service} - [0:0]");
    }
    text += "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
        -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
        -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n\
        -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
        -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n\
        -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n";
    for service in 0..services {
        let (high, low) = (service / 250, service % 250);
        let _ = writeln!(
            text,
            "-A KUBE-SERVICES -d 10.233.{high}.{low}/32 -p tcp -m comment --comment \"ns/svc{service}\" -m tcp --dport 80 -j KUBE-SVC-{service}\n\
             -A KUBE-SVC-{service} ! -s 10.233.64.0/18 -d 10.233.{high}.{low}/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ\n\
             -A KUBE-SVC-{service} -j KUBE-SEP-{service}\n\
             -A KUBE-SEP-{service} -s 10.233.66.{low}/32 -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{service} -p tcp -m tcp -j DNAT --to-destination 10.233.66.{low}:8080"
        );
    }
    text += "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n\
        *filter\n:KUBE-FORWARD - [0:0]\n:KUBE-FIREWALL - [0:0]\n\
        -A INPUT -j KUBE-FIREWALL\n-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n-A OUTPUT -j KUBE-FIREWALL\n\
        -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
        -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
        -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
        -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
    text
}

/// A route reflector as Calico leaves it (cali-from-wl-dispatch and the like are about other interfaces).
const CALICO: &str = "*raw\n:cali-PREROUTING - [0:0]\n:cali-from-host-endpoint - [0:0]\n\
    -A PREROUTING -m comment --comment \"cali:6gwbT8clXdHdC1b1\" -j cali-PREROUTING\n\
    -A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000\n\
    -A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000\n\
    -A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP\n\
    -A cali-PREROUTING -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint\n\
    -A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT\nCOMMIT\n\
    *filter\n:cali-FORWARD - [0:0]\n:cali-from-wl - [0:0]\n:cali-to-wl - [0:0]\n:cali-hep - [0:0]\n\
    -A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD\n\
    -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
    -A FORWARD -j MARK --set-xmark 0x10000/0x10000\n\
    -A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000\n\
    -A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-hep\n\
    -A cali-FORWARD -i cali+ -j cali-from-wl\n\
    -A cali-FORWARD -o cali+ -j cali-to-wl\n\
    -A cali-FORWARD -j cali-hep\n\
    -A cali-from-wl -j DROP\n\
    -A cali-to-wl -m conntrack --ctstate NEW -j DROP\nCOMMIT\n";

#[test]
fn kube_proxy_and_calico_by_both_iptables() {
    if !can_raise_labs() {
        return;
    }
    let lab = Lab::new().expect("a lab");
    for (name, program, invalid) in [
        ("nft", "iptables-nft-restore", "nft:ip filter/KUBE-FORWARD: -m conntrack counter drop"),
        ("legacy", "iptables-legacy-restore", "iptables:filter/KUBE-FORWARD: -m conntrack -j DROP"),
    ] {
        let (netns, scene) = machine(&lab, name);
        restore(&netns, program, &kube_proxy(20));
        let open = findings(&judged(&netns, &scene, &[]));
        assert_eq!(open.len(), 2, "{program}: the INVALID drop and connection tracking: {open:#?}");
        assert_eq!(open[0], invalid, "{program}");
        assert!(open[1].starts_with("conntrack: "), "{program}: {open:#?}");
        let judgement = judged(&netns, &scene, &["iptables:KUBE-FORWARD", "conntrack"]);
        assert_eq!(findings(&judgement), Vec::<String>::new(), "{program}");
        assert!(judgement.closed().is_empty() && judgement.idle_bypasses.is_empty(), "{judgement:#?}");

        restore(&netns, program, CALICO);
        let open = findings(&judged(&netns, &scene, &[]));
        assert_eq!(open.len(), 1, "{program}: only connection tracking: {open:#?}");
        assert!(open[0].starts_with("conntrack: "), "{program}: {open:#?}");
        // The same node, whose pods' range is that of its workloads' interfaces and the uplinks.
        let everywhere = CALICO.replace("-i cali+ -j cali-from-wl", "-i eth+ -j cali-from-wl");
        restore(&netns, program, &everywhere);
        let open = findings(&judged(&netns, &scene, &[]));
        assert!(open.iter().any(|finding| finding.contains("cali-from-wl")), "{program}: {open:#?}");
    }
}

#[test]
fn rules_of_every_shape() {
    if !can_raise_labs() {
        return;
    }
    let lab = Lab::new().expect("a lab");
    // Commands, and the places that are found (without conntrack), in order.
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("empty", &[], &[]),
        (
            "nft-harmless",
            &[
                "nft add table inet t",
                "nft add chain inet t forward { type filter hook forward priority 0; policy accept; }",
                "nft add chain inet t empty",
                "nft add chain inet t input { type filter hook input priority 0; policy drop; }",
                "nft add rule inet t input tcp dport 22 drop",
                "nft add rule inet t forward counter comment \"seen\"",
                "nft add rule inet t forward iif lo drop",
                "nft add rule inet t forward iifname docker0 drop",
                "nft add rule inet t forward oifname \"cali*\" drop",
                "nft add rule inet t forward ip daddr 192.168.0.0/16 drop",
                "nft add rule inet t forward ip daddr 10.96.0.0/12 reject",
                "nft add rule inet t forward ip6 daddr fd00:20::/32 drop",
                "nft add rule inet t forward fib daddr type local drop",
                "nft add rule inet t forward meta mark & 0xff == 0x1 drop",
                "nft add rule inet t forward ip saddr 127.0.0.0/8 drop",
                "nft add rule inet t forward jump empty",
                "nft add rule inet t forward meta nfproto ipv4 accept",
                "nft add rule inet t forward meta nfproto ipv6 return",
                "nft add rule inet t forward drop",
            ],
            &[],
        ),
        (
            "nft-policy",
            &[
                "nft add table ip6 t",
                "nft add chain ip6 t forward { type filter hook forward priority 0; policy drop; }",
            ],
            &["nft:ip6 t/forward"],
        ),
        (
            "nft-dormant",
            &[
                "nft add table ip t { flags dormant; }",
                "nft add chain ip t forward { type filter hook forward priority 0; policy drop; }",
            ],
            &[],
        ),
        (
            "nft-set",
            &[
                "nft add table ip t",
                "nft add chain ip t forward { type filter hook forward priority 0; }",
                "nft add rule ip t forward ip daddr { 10.1.0.0/16, 10.2.0.0/16 } drop",
            ],
            &["nft:ip t/forward"],
        ),
        (
            "nft-map",
            &[
                "nft add table ip kube-proxy",
                "nft add chain ip kube-proxy services",
                "nft add chain ip kube-proxy nat { type nat hook prerouting priority dstnat; }",
                "nft add map ip kube-proxy ips { type ipv4_addr . inet_proto . inet_service : verdict; }",
                "nft add rule ip kube-proxy nat jump services",
                "nft add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @ips",
            ],
            &["nft:ip kube-proxy/services"],
        ),
        (
            "nft-masquerade",
            &[
                "nft add table ip nat",
                "nft add chain ip nat post { type nat hook postrouting priority srcnat; }",
                "nft add rule ip nat post ip saddr 172.17.0.0/16 oifname != docker0 masquerade",
                "nft add rule ip nat post oifname wan0 masquerade",
            ],
            &["nft:ip nat/post"],
        ),
        (
            "nft-dnat-elsewhere",
            &[
                "nft add table ip nat",
                "nft add chain ip nat pre { type nat hook prerouting priority dstnat; }",
                "nft add rule ip nat pre ip daddr 10.233.0.1 tcp dport 443 dnat to 172.20.0.11:6443",
                "nft add rule ip nat pre ip daddr 10.0.0.0/8 tcp dport 443 dnat to 172.20.0.11:6443",
            ],
            &["nft:ip nat/pre"],
        ),
        (
            "nft-mss",
            &[
                "nft add table inet t",
                "nft add chain inet t forward { type filter hook forward priority mangle; }",
                "nft add rule inet t forward tcp flags syn tcp option maxseg size set 1360",
            ],
            &["nft:inet t/forward"],
        ),
        (
            "nft-notrack",
            &[
                "nft add table ip raw",
                "nft add chain ip raw pre { type filter hook prerouting priority raw; }",
                "nft add rule ip raw pre notrack",
            ],
            &[],
        ),
        (
            "nft-mark",
            &[
                "nft add table ip m",
                "nft add chain ip m pre { type filter hook prerouting priority mangle; }",
                "nft add rule ip m pre tcp dport 80 meta mark set 1",
            ],
            &["nft:ip m/pre"],
        ),
        (
            "nft-netdev",
            &[
                "nft add table netdev t",
                "nft add chain netdev t in { type filter hook ingress device eth0 priority 0; policy drop; }",
                "nft add chain netdev t other { type filter hook ingress device lo priority 0; policy drop; }",
            ],
            &["nft:netdev t/in"],
        ),
        (
            "nft-arp-bridge",
            &[
                "nft add table arp t",
                "nft add chain arp t in { type filter hook input priority 0; policy drop; }",
                "nft add table bridge t",
                "nft add chain bridge t forward { type filter hook forward priority 0; policy drop; }",
            ],
            &[],
        ),
        (
            "legacy6",
            &[
                "ip6tables-legacy -A FORWARD -d fd00:10:233:1::/64 -i eth0 -j DROP",
                "ip6tables-legacy -A FORWARD -d fd00:20::/32 -j DROP",
            ],
            &["ip6tables:filter/FORWARD"],
        ),
        (
            "legacy-docker",
            &[
                "iptables-legacy -P FORWARD DROP",
                "iptables-legacy -t nat -N DOCKER",
                "iptables-legacy -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
                "iptables-legacy -t nat -A DOCKER -p tcp --dport 80 -j DNAT --to 172.17.0.2",
                "iptables-legacy -A FORWARD -o docker0 -j DROP",
            ],
            &["iptables:filter/FORWARD"],
        ),
        (
            "legacy-mss",
            &[
                "iptables-legacy -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            ],
            &["iptables:mangle/FORWARD"],
        ),
        ("legacy-notrack", &["iptables-legacy -t raw -A PREROUTING -j CT --notrack"], &[]),
        (
            "legacy-goto",
            &[
                "iptables-legacy -N OUT",
                "iptables-legacy -A OUT -j RETURN",
                "iptables-legacy -A FORWARD -g OUT",
                "iptables-legacy -A FORWARD -j DROP",
            ],
            &[],
        ),
        (
            "xfrm-in",
            &[
                "ip xfrm policy add src 0.0.0.0/0 dst 10.233.64.0/18 dir in action block",
                "ip xfrm policy add src 0.0.0.0/0 dst 192.168.0.0/16 dir out action block",
            ],
            &[],
        ),
        ("xfrm-default", &["ip xfrm policy setdefault fwd block"], &["xfrm"]),
        (
            "tc-arp",
            &[
                "tc qdisc add dev eth0 clsact",
                "tc filter add dev eth0 ingress protocol arp pref 1 u32 match u32 0 0 action mirred egress redirect dev lo",
            ],
            &[],
        ),
        (
            "tc-egress",
            &[
                "tc qdisc add dev eth1 clsact",
                "tc filter add dev eth1 egress protocol all pref 1 u32 match u32 0 0 action mirred egress redirect dev lo",
            ],
            &["tc:eth1"],
        ),
        ("tc-shaper", &["tc qdisc add dev eth1 root tbf rate 1mbit burst 10k latency 50ms"], &["tc:eth1"]),
        ("tc-elsewhere", &["tc qdisc add dev lo root tbf rate 1mbit burst 10k latency 50ms"], &[]),
    ];
    for (name, commands, places) in cases {
        let (netns, scene) = machine(&lab, name);

        run(&lab, name, commands);
        let judgement = judged(&netns, &scene, &[]);
        let found: Vec<&str> = judgement
            .findings
            .iter()
            .map(|finding| finding.place.as_str())
            .filter(|place| *place != "conntrack")
            .collect();
        assert_eq!(found, *places, "{name}: {:#?}", judgement.findings);
    }
}

#[test]
fn ten_thousand_rules_are_read_and_judged_in_time() {
    if !can_raise_labs() {
        return;
    }
    let lab = Lab::new().expect("a lab");
    for (name, program) in [("nft", "iptables-nft-restore"), ("legacy", "iptables-legacy-restore")] {
        let (netns, scene) = machine(&lab, name);
        restore(&netns, program, &kube_proxy(2000));
        let (first, again, open) = netns
            .enter(|| {
                let mut reader = Reader::default();
                let start = Instant::now();
                let rules = reader.read(&scene);
                let judgement = judge(&rules, &scene, &[]);
                let first = start.elapsed();
                let count: usize = rules
                    .tables
                    .iter()
                    .flat_map(|table| table.chains.values())
                    .map(|chain| chain.rules.len())
                    .sum();
                assert!(count > 10_000, "{count} rules");
                let start = Instant::now();
                let _ = judge(&reader.read(&scene), &scene, &[]);
                (first, start.elapsed(), findings(&judgement))
            })
            .expect("entered");
        println!("{program}: 10,000 rules: {} ms, once more {} ms", first.as_millis(), again.as_millis());
        assert_eq!(open.len(), 2, "{open:#?}");
        assert!(first.as_secs() < 3, "{first:?} is too long to close in time");
    }
}
