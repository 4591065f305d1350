//! One change after the other: notifications lead where a dump leads.

use std::process::Command;

use underpass::fib::model::CompileConfig;
use underpass::netlink::monitor::Options;

use crate::follower::{Follower, block_on};
use crate::router;

/// From this step on links and nexthop objects change, which takes dumps to follow.
const NOT_ALL_ANNOUNCED: &str = "nexthop objects";

/// Steps: a name, and `ip` commands, one per line; lines of `sysctl KEY VALUE` and `far COMMAND` too.
const STEPS: &[(&str, &str)] = &[
    ("a route", "route add 10.1.0.0/24 via 172.20.0.2"),
    ("an alias behind it", "route append 10.1.0.0/24 via 172.20.0.3"),
    ("an alias before it", "route prepend 10.1.0.0/24 via 172.20.0.4"),
    ("the first one replaced", "route replace 10.1.0.0/24 via 172.20.0.5"),
    ("one of three removed", "route del 10.1.0.0/24 via 172.20.0.2"),
    (
        "other metrics and a TOS",
        "route add 10.1.0.0/24 via 172.20.1.2 metric 10\nroute add 10.1.0.0/24 via 172.20.1.3 metric 20\nroute add 10.1.0.0/24 tos 0x10 via 172.20.1.4",
    ),
    ("all of a prefix removed", "route flush 10.1.0.0/24"),
    ("multipath", "route add 10.2.0.0/24 nexthop via 172.20.0.2 weight 3 nexthop via 172.20.1.2"),
    (
        "multipath replaced",
        "route replace 10.2.0.0/24 nexthop via 172.20.0.3 nexthop via 172.20.1.2 nexthop via 172.20.1.3",
    ),
    ("multipath to single", "route replace 10.2.0.0/24 via 172.20.1.2 mtu 1400"),
    (
        "types",
        "route add blackhole 10.3.0.0/24\nroute add unreachable 10.3.1.0/24\nroute add prohibit 10.3.2.0/24\nroute add throw 10.3.3.0/24\nroute add local 10.3.4.0/24 dev lo\nroute add broadcast 10.3.5.0/32 dev eth0",
    ),
    (
        "other tables",
        "route add 10.4.0.0/24 via 172.20.0.2 table 100\nroute add default via 172.20.1.2 table 1000",
    ),
    (
        "a gateway of the other family",
        "-6 addr add fd00:0::1/64 dev eth0 nodad\nroute add 10.5.0.0/24 via inet6 fd00:0::2 dev eth0",
    ),
    ("a gateway that is not on-link", "route add 10.5.1.0/24 via 192.0.2.1 dev eth1 onlink"),
    (
        "rules",
        "rule add pref 100 iif eth1 lookup 100\nrule add pref 100 to 10.9.0.0/16 lookup 1000 suppress_prefixlength 0\nrule add pref 50 from 10.8.0.0/16 fwmark 1/3 blackhole",
    ),
    (
        "more rules",
        "rule add pref 40 not to 10.0.0.0/8 goto 32766\nrule add pref 60 iif nothere unreachable\nrule add pref 70 ipproto tcp dport 80 lookup 100\n-6 rule add pref 80 lookup 100",
    ),
    ("a rule removed", "rule del pref 100 iif eth1 lookup 100\nrule del pref 40"),
    (
        "an address added and removed",
        "addr add 172.21.0.1/24 dev eth0\naddr add 172.22.0.1/24 dev eth0\naddr del 172.21.0.1/24 dev eth0",
    ),
    (
        "neighbours",
        "neigh add 172.20.0.2 lladdr 02:00:00:00:00:01 dev eth0\nneigh add 172.20.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud stale\nneigh add 172.20.1.7 lladdr 02:00:00:00:00:07 dev eth1",
    ),
    (
        "neighbours changed",
        "neigh replace 172.20.0.2 lladdr 02:00:00:00:00:02 dev eth0\nneigh del 172.20.0.9 dev eth0\nneigh change 172.20.1.7 nud failed dev eth1",
    ),
    (
        "nexthop objects",
        "nexthop add id 1 via 172.20.0.2 dev eth0\nnexthop add id 2 via 172.20.1.2 dev eth1\nnexthop add id 3 group 1/2,5\nroute add 10.6.0.0/24 nhid 3\nroute add 10.6.1.0/24 nhid 1",
    ),
    ("a nexthop object replaced", "nexthop replace id 1 via 172.20.0.3 dev eth0"),
    ("a nexthop object removed", "nexthop del id 1"),
    (
        "IPv6 routes",
        "-6 addr add fd00:1::1/64 dev eth1 nodad\n-6 route add fd00:a::/64 via fd00:0::2\n-6 route add fd00:b::/64 nexthop via fd00:0::2 nexthop via fd00:1::2",
    ),
    (
        "IPv6 next hops come and go",
        "-6 route append fd00:a::/64 via fd00:1::2\n-6 route append fd00:a::/64 via fd00:1::3\n-6 route del fd00:a::/64 via fd00:0::2\n-6 route del fd00:b::/64 via fd00:1::2",
    ),
    (
        "IPv6 replaced and removed",
        "-6 route replace fd00:a::/64 via fd00:0::9\n-6 route del fd00:b::/64\n-6 route add blackhole fd00:c::/48",
    ),
    (
        "IPv6 routes of one metric without a gateway",
        "-6 route add fd00:d::/64 dev eth0\n-6 route append fd00:d::/64 dev eth1",
    ),
    (
        "settings",
        "sysctl ipv4.conf.eth0.forwarding 0\nsysctl ipv4.conf.eth1.rp_filter 1\nsysctl ipv4.conf.all.rp_filter 2",
    ),
    (
        "IPv6 settings",
        "sysctl ipv6.conf.all.forwarding 1\nsysctl ipv6.conf.eth0.forwarding 0\nsysctl ipv6.conf.eth1.mtu 1400",
    ),
    (
        "a setting that is not announced",
        "sysctl ipv4.conf.all.send_redirects 0\nsysctl ipv4.conf.eth0.send_redirects 0",
    ),
    ("carrier lost", "far link set far1 down"),
    ("dead next hops", "sysctl ipv4.conf.eth1.ignore_routes_with_linkdown 1"),
    ("carrier back", "far link set far1 up"),
    (
        "an interface loses its last address",
        "route add 10.9.0.0/24 via 172.20.1.2\nroute add 10.9.1.0/24 nexthop via 172.20.0.2 nexthop via 172.20.1.2\naddr del 172.20.1.1/24 dev eth1",
    ),
    ("its address is back", "addr add 172.20.1.1/24 dev eth1"),
    (
        "multipath before a link goes down",
        "route add 10.7.0.0/24 nexthop via 172.20.0.2 nexthop via 172.20.1.2\nroute add 10.7.1.0/24 via 172.20.1.2",
    ),
    ("link down", "link set eth1 down"),
    ("link up", "link set eth1 up"),
    ("MTU", "link set eth0 mtu 1400"),
    ("renamed", "link set eth1 down\nlink set eth1 name port1\nlink set port1 up"),
    (
        "a bridge takes a port",
        "link add br0 type bridge\nlink set br0 up\nlink set port1 master br0\naddr add 172.30.0.1/24 dev br0\nroute add 10.8.0.0/24 via 172.30.0.2",
    ),
    ("the bridge lets go", "link set port1 nomaster"),
    ("links removed", "link del br0\nlink del port1"),
    (
        "everything flushed",
        "route flush table main\nroute flush table 100\nrule flush\nrule add pref 0 lookup local\nrule add pref 32766 lookup main",
    ),
];

#[test]
fn notifications_lead_where_a_dump_leads() {
    let (lab, router) = router();
    let far = lab.netns("far");
    router
        .enter(|| {
            block_on(async {
                let config = CompileConfig {
                    ports: vec!["eth*".into(), "port*".into()],
                    accelerate: vec![
                        "10.0.0.0/8".parse().expect("a prefix"),
                        "fd00::/16".parse().expect("a prefix"),
                    ],
                    services: Vec::new(),
                };
                // A short interval, so that what is not announced is seen within the deadline.
                let options = Options {
                    settings_interval: std::time::Duration::from_millis(500),
                    ..Options::default()
                };
                let mut follower = Follower::start(&options, config);
                let mut announced = true;
                for (name, lines) in STEPS {
                    for line in lines.lines() {
                        match line.split_once(' ') {
                            Some(("sysctl", setting)) => {
                                let setting = setting.split_once(' ').expect("a key and a value");
                                router.sysctl(&[setting]).expect("a setting");
                            }
                            Some(("far", command)) => far.ip(&format!("{command}\n")).expect("a command"),
                            // `-6` is no word of a batch.
                            _ => ip(router.name(), line),
                        }
                    }
                    follower.catch_up(name).await;
                    announced &= *name != NOT_ALL_ANNOUNCED;
                    let rereads = follower.monitor.counters().rereads;
                    assert!(!announced || rereads == 0, "{name}: notifications did not suffice");
                }
                let counters = follower.monitor.counters();
                assert_eq!((counters.resyncs, counters.undecodable), (0, 0), "{counters:?}");
            });
        })
        .expect("the namespace");
}

fn ip(namespace: &str, line: &str) {
    let output =
        Command::new("ip").args(["-n", namespace]).args(line.split_whitespace()).output().expect("ip starts");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}
