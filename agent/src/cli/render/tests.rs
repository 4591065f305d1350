use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;
use crate::api::model::{
    BgpStatus, CounterRow, DatapathStatus, KernelAnswer, KernelStatus, Lookup, PortStatus, RuleStatus,
    RulesStatus, Status, XdpAnswer,
};

fn hop(gateway: &str, live: bool) -> NextHopView {
    NextHopView {
        gateway: Some(gateway.parse().expect("an address")),
        interface: "eth0".to_owned(),
        mac: live.then(|| "02:00:00:00:00:13".to_owned()),
        live,
    }
}

fn full_status() -> Status {
    Status {
        schema: 1,
        version: "0.1.0".to_owned(),
        abi: 1,
        uptime_seconds: 3723,
        datapath: Some(DatapathStatus {
            enabled: true,
            lease_seconds: 58,
            synced: true,
            ports: vec![
                PortStatus {
                    interface: "eth0".to_owned(),
                    ifindex: 2,
                    attached: true,
                    mode: Some("native".to_owned()),
                    ingress: true,
                    guarded: vec!["IPv4".to_owned()],
                    egress: true,
                    tx: true,
                    problem: None,
                    ..PortStatus::default()
                },
                PortStatus {
                    interface: "eth1".to_owned(),
                    ifindex: 13,
                    problem: Some("another XDP program is attached".to_owned()),
                    ..PortStatus::default()
                },
            ],
            prefixes: 12,
            prefixes_forwarding: 10,
            targets: 3,
            next_hops: 4,
            next_hops_live: 3,
            resyncs: 1,
            rules: RulesStatus {
                findings: vec![
                    RuleStatus {
                        place: "nft:ip filter/FORWARD".to_owned(),
                        rule: "handle 5".to_owned(),
                        text: "daddr 10.233.66.0/26 drop".to_owned(),
                        why: "drops it".to_owned(),
                        families: vec!["IPv4".to_owned()],
                        ports: vec!["eth0".to_owned()],
                        bypassed: None,
                        remedy: "add \"nft:ip filter/FORWARD\" to datapath.bypass".to_owned(),
                    },
                    RuleStatus { bypassed: Some("xfrm".to_owned()), ..RuleStatus::default() },
                ],
                idle_bypasses: vec!["tc:eth9".to_owned()],
                read_milliseconds: 3,
            },
        }),
        bgp: Some(BgpStatus {
            local_as: 64512,
            router_id: Ipv4Addr::new(172, 20, 0, 20),
            peers: 2,
            established: 1,
            prefixes: 14,
            paths: 27,
            filtered: BTreeMap::from([("outside_ranges".to_owned(), 3), ("own_next_hop".to_owned(), 1)]),
        }),
        kernel: Some(KernelStatus {
            table: 254,
            protocol: 210,
            desired: 14,
            synced: 13,
            pending: 1,
            errors: 0,
        }),
        problems: vec!["port eth1 is not accelerated".to_owned(), "peer node2 is Active".to_owned()],
    }
}

#[test]
fn status_with_everything() {
    let expected = "\
Agent     underpass 0.1.0, ABI 1, up 1h2m
Datapath  on, lease 58s, in sync with the kernel, 1 resyncs
          12 prefixes (10 forwarded), 3 targets, 4 next hops (3 live)
Ports     PORT  INDEX  MODE    INGRESS   EGRESS  TX   PROBLEM
          eth0      2  native  not IPv4  yes     yes  -
          eth1     13  -       no        no      no   another XDP program is attached
Rules     IPv4 from eth0 keep to the kernel: nft:ip filter/FORWARD handle 5: daddr 10.233.66.0/26 drop: it drops it
            add \"nft:ip filter/FORWARD\" to datapath.bypass
          bypassed by \"xfrm\": 1 rules are not asked
          datapath.bypass names \"tc:eth9\", which matches no rule that could decide
BGP       AS 64512, router id 172.20.0.20, 1 of 2 peers established, 14 prefixes, 27 paths
          refused by the import guards: outside_ranges 3, own_next_hop 1
Kernel    table 254, protocol 210: 13 of 14 routes in place, 1 pending, 0 errors
Problems  port eth1 is not accelerated
          peer node2 is Active
";
    assert_eq!(status(&full_status(), Style::Plain), expected);
}

#[test]
fn status_of_a_switched_off_datapath_without_ports() {
    let report = Status {
        version: "0.1.0".to_owned(),
        abi: 1,
        uptime_seconds: 7,
        datapath: Some(DatapathStatus::default()),
        ..Status::default()
    };
    let expected = "\
Agent     underpass 0.1.0, ABI 1, up 7s
Datapath  off (kill switch; `underpass on` ends it), lease 0s, not in sync with the kernel, 0 resyncs
          0 prefixes (0 forwarded), 0 targets, 0 next hops (0 live)
Ports     none matches `datapath.ports`
BGP       not configured
Problems  none
";
    assert_eq!(status(&report, Style::Plain), expected);
}

#[test]
fn peers_in_a_terminal_have_a_ruled_header() {
    let up = PeerStatus {
        state: "Established".to_owned(),
        uptime_seconds: Some(90061),
        flaps: 0,
        received: 14,
        accepted: 13,
        stale: 0,
        end_of_rib: true,
        hold_seconds: Some(90),
        updates: 9,
        last_error: None,
        ..PeerStatus::new("node1", "172.20.0.11".parse().expect("an address"), 64512)
    };
    let down = PeerStatus {
        name: "node2".to_owned(),
        address: "172.20.0.12".parse().expect("an address"),
        state: "Active".to_owned(),
        uptime_seconds: None,
        flaps: 3,
        end_of_rib: false,
        hold_seconds: None,
        last_error: Some("connection refused\n(os error 111)".to_owned()),
        ..up.clone()
    };
    let report = Peers { schema: 1, peers: vec![up, down] };
    let expected = "\
PEER   ADDRESS         AS  STATE        UP    RECEIVED  ACCEPTED  STALE  EOR  HOLD  FLAPS  LAST ERROR
────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
node1  172.20.0.11  64512  Established  1d1h        14        13      0  yes   90s      0  -
node2  172.20.0.12  64512  Active       -           14        13      0  no      -      3  connection refused (os error 111)
";
    assert_eq!(peers(&report, Style::Ruled), expected);
    assert_eq!(peers(&report, Style::Plain).lines().count(), 3);
    assert_eq!(peers(&Peers::default(), Style::Plain), "no peers are configured\n");
}

#[test]
fn routes_show_all_three_places() {
    let kernel = |kind: &str, next_hops| KernelRoute {
        kind: kind.to_owned(),
        table: 254,
        protocol: "bird".to_owned(),
        metric: 0,
        next_hops,
    };
    let route = |prefix: &str| RouteStatus {
        prefix: prefix.parse().expect("a prefix"),
        rib: None,
        rib_state: None,
        kernel: None,
        xdp: None,
        agree: true,
    };
    let report = Routes {
        schema: 1,
        routes: vec![
            RouteStatus {
                rib: Some(vec![hop("172.20.0.11", true).gateway.expect("set")]),
                rib_state: Some("pending".to_owned()),
                agree: false,
                ..route("10.233.0.0/18")
            },
            RouteStatus {
                kernel: Some(kernel("unicast", vec![hop("172.20.0.13", true), hop("172.20.0.12", true)])),
                xdp: Some(XdpRoute {
                    verdict: "forward".to_owned(),
                    reason: None,
                    target: 4,
                    next_hops: vec![hop("172.20.0.13", true), hop("172.20.0.12", false)],
                }),
                ..route("10.233.70.0/26")
            },
            RouteStatus {
                kernel: Some(kernel("blackhole", Vec::new())),
                xdp: Some(XdpRoute {
                    verdict: "pass".to_owned(),
                    reason: Some("refused".to_owned()),
                    target: 2,
                    next_hops: Vec::new(),
                }),
                ..route("10.233.71.0/26")
            },
        ],
    };
    let expected = "\
PREFIX          RIB                    KERNEL                                   XDP                                                    AGREE
10.233.0.0/18   172.20.0.11 (pending)  -                                        -                                                      no
10.233.70.0/26  -                      bird 172.20.0.13 eth0, 172.20.0.12 eth0  forward 172.20.0.13 eth0, 172.20.0.12 eth0 (not live)  yes
10.233.71.0/26  -                      bird blackhole                           pass (refused)                                         yes
";
    assert_eq!(routes(&report, Style::Plain), expected);
    assert!(routes(&Routes::default(), Style::Plain).starts_with("no routes"));
}

fn lookup_report() -> Lookup {
    Lookup {
        schema: 1,
        address: "10.233.70.5".parse().expect("an address"),
        source: "172.20.0.254".parse().expect("an address"),
        interface: "eth0".to_owned(),
        prefix: Some("10.233.70.0/26".parse().expect("a prefix")),
        xdp: XdpAnswer {
            verdict: "tx".to_owned(),
            reason: "forwarded_tx".to_owned(),
            target: 4,
            next_hops: vec![hop("172.20.0.12", false), hop("172.20.0.13", true)],
            chosen: Some(hop("172.20.0.13", true)),
            interface: Some("eth0".to_owned()),
        },
        kernel: KernelAnswer {
            kind: "unicast".to_owned(),
            gateway: Some("172.20.0.13".parse().expect("an address")),
            interface: Some("eth0".to_owned()),
            error: None,
        },
        agree: true,
    }
}

#[test]
fn lookup_of_a_forwarded_packet() {
    let expected = "\
Packet    to 10.233.70.5 from 172.20.0.254 in by eth0
Prefix    10.233.70.0/26
XDP       tx (forwarded_tx), target 4, out by eth0
          NEXT HOP     PORT  MAC                LIVE  CHOSEN
          172.20.0.12  eth0  -                  no
          172.20.0.13  eth0  02:00:00:00:00:13  yes   yes
Kernel    unicast via 172.20.0.13 out by eth0
Agree     yes
";
    assert_eq!(lookup(&lookup_report(), Style::Plain), expected);
}

#[test]
fn lookup_of_a_packet_without_a_route() {
    let report = Lookup {
        prefix: None,
        xdp: XdpAnswer {
            verdict: "pass".to_owned(),
            reason: "no_route".to_owned(),
            target: 0,
            next_hops: Vec::new(),
            chosen: None,
            interface: None,
        },
        kernel: KernelAnswer {
            kind: "error".to_owned(),
            gateway: None,
            interface: None,
            error: Some("Network is unreachable".to_owned()),
        },
        ..lookup_report()
    };
    let expected = "\
Packet    to 10.233.70.5 from 172.20.0.254 in by eth0
Prefix    none
XDP       pass (no_route), target 0
Kernel    error: Network is unreachable
Agree     yes
";
    assert_eq!(lookup(&report, Style::Plain), expected);
}

#[test]
fn counters_align_numbers_to_the_right() {
    let row = |reason: &str, verdict: &str, packets, bytes| CounterRow {
        interface: "eth0".to_owned(),
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        packets,
        bytes,
    };
    let report = Counters {
        schema: 1,
        counters: vec![
            row("forwarded_tx", "forwarded", 123_456, 98_765_432),
            row("no_route", "passed", 7, 420),
        ],
    };
    let expected = "\
PORT  VERDICT    REASON        PACKETS     BYTES
eth0  forwarded  forwarded_tx   123456  98765432
eth0  passed     no_route            7       420
";
    assert_eq!(counters(&report, Style::Plain), expected);
    assert_eq!(counters(&Counters::default(), Style::Plain), "no packets counted yet\n");
}

#[test]
fn durations_have_two_units() {
    for (seconds, expected) in [
        (0, "0s"),
        (59, "59s"),
        (60, "1m0s"),
        (3599, "59m59s"),
        (3600, "1h0m"),
        (86399, "23h59m"),
        (187_200, "2d4h"),
    ] {
        assert_eq!(duration(seconds), expected, "{seconds}");
    }
}
