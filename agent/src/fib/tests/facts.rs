//! What is compiled besides the way out: sources, ports, views, MTU, rows; and IPv6.

use super::cases::{LINKS, compile, config, forward};
use super::lookup;
use crate::fib::compile::Compiler;
use crate::fib::model::{Forward, NextHop, Resolution};
use crate::fib::resolve::resolve;
use crate::netlink::model::{Delta, IfIndex};
use crate::netlink::text::{DEFAULT_RULES, state};

#[test]
fn ipv6_is_compiled_alike() {
    let mut config = config();
    config.accelerate.push("fd00::/16".parse().expect("a prefix"));
    let mut compiler = Compiler::new(config);
    let text = "
        rule 0 ipv6 lookup 255
        rule 32766 ipv6 lookup 254
        route fd00:1::/64 via fe80::1 dev 2 metric 1024
        route fd00:2::/64 via fe80::1 dev 2 metric 1024
        route fd00:2::/64 via fe80::2 dev 2 metric 1024
        route ::/0 via fe80::3 dev 2 metric 1024
        route local fd00:1::5/128 dev 1 table 255";
    compiler.update(&state(&format!("{LINKS}{text}")), &Delta::full());
    for (address, expected) in [
        ("fd00:1::1", "fe80::1@2*1"),
        ("fd00:1::5", "local"),
        // Two routes of one metric: the kernel alternates.
        ("fd00:2::1", "unsupported"),
        ("fd00:3::1", "fe80::3@2*1"),
        ("fd01::1", "not_accelerated"),
    ] {
        assert_eq!(forward(&compiler, 2, address), expected, "{address}");
    }
}

#[test]
fn ipv6_leaves_by_ports_that_forward_it_with_their_ipv6_mtu() {
    let mut config = config();
    config.accelerate.push("fd00::/16".parse().expect("a prefix"));
    let text = "
        conf6 4 1500
        rule 0 ipv6 lookup 255
        rule 32766 ipv6 lookup 254
        route fd00:1::/64 via fe80::1 dev 2
        route fd00:2::/64 via fe80::1 dev 2 mtu 1300
        route fd00:3::/64 via fe80::1 dev 3 mtu 9500
        route fd00:4::/64 via fe80::1 dev 4
        route fd00:5::/64 nexthop via fe80::1 dev 4 nexthop via fe80::2 dev 3";
    config.ports.push("cali*".into());
    let mut compiler = Compiler::new(config);
    let mut kernel = state(&format!("{LINKS}{text}"));
    compiler.update(&kernel, &Delta::full());
    let mtu = |compiler: &Compiler, address: &str| match lookup(
        compiler.fib(),
        2,
        address.parse().expect("an address"),
    ) {
        Some((_, target)) => match &target.forward {
            Forward::NextHops(next_hops) => {
                assert_eq!(next_hops.len(), 1, "{address}: {next_hops:?}");
                Ok(next_hops[0].0.mtu)
            }
            Forward::Pass(reason) => Err(reason.label()),
        },
        None => Err("no_route"),
    };
    for (address, expected) in [
        ("fd00:1::1", Ok(1400)),
        ("fd00:2::1", Ok(1300)),
        ("fd00:3::1", Ok(9000)),
        ("fd00:4::1", Err("egress_not_managed")),
        ("fd00:5::1", Ok(9000)),
    ] {
        assert_eq!(mtu(&compiler, address), expected, "{address}");
    }
    // A setting that changes is followed.
    kernel.ipv6_conf.get_mut(&2).expect("a port").mtu = 1280;
    kernel.ipv6_conf.remove(&3);
    let delta = Delta { interfaces: [2, 3].into(), ..Delta::default() };
    compiler.update(&kernel, &delta);
    assert_eq!(mtu(&compiler, "fd00:1::1"), Ok(1280));
    assert_eq!(mtu(&compiler, "fd00:3::1"), Err("egress_not_managed"));
    let ingress: Vec<_> = compiler.fib().ports.iter().map(|(&index, port)| (index, port.ingress6)).collect();
    assert_eq!(ingress, [(2, true), (3, false), (4, false)]);
}

#[test]
fn ipv4_leaves_by_ipv6_gateways() {
    let compiler = compile(
        DEFAULT_RULES,
        "route 10.1.0.0/24 via fe80::1 dev 2
         route 10.2.0.0/24 nexthop via fe80::1 dev 2 nexthop via 1.1.1.1 dev 3",
    );
    assert_eq!(forward(&compiler, 2, "10.1.0.1"), "fe80::1@2*1");
    assert_eq!(forward(&compiler, 2, "10.2.0.1"), "fe80::1@2*1 1.1.1.1@3*1");
    let (_, target) = lookup(compiler.fib(), 2, "10.1.0.1".parse().expect("an address")).expect("a route");
    let Forward::NextHops(next_hops) = &target.forward else { panic!("{:?}", target.forward) };
    assert_eq!((next_hops[0].0.mtu, target.source.on_link), (1500, false), "the packet is an IPv4 one");
    let state = state("link 2 eth0\nneigh fe80::1 dev 2");
    assert!(matches!(resolve(&next_hops[0].0, &state), Resolution::Live { .. }));
}

#[test]
fn ipv6_sources_and_rules_that_decide_by_more_are_left_to_the_kernel() {
    let mut config = config();
    config.accelerate.push("fd00::/16".parse().expect("a prefix"));
    let text = "
        rule 0 ipv6 lookup 255
        rule 32766 ipv6 lookup 254
        route fd00:1::/64 via fe80::1 dev 2 metric 10
        route fd00:1::/64 via fe80::2 dev 2 metric 20";
    let mut kernel = state(&format!("{LINKS}{text}"));
    let mut compiler = Compiler::new(config);
    compiler.update(&kernel, &Delta::full());
    assert_eq!(forward(&compiler, 2, "fd00:1::1"), "fe80::1@2*1");
    assert!(compiler.fib().ports[&2].hairpin6);
    // A `from` route wins for packets that fit it, though its metric is higher.
    kernel.routes.retain_mut(|route| {
        if route.metric == 20 {
            route.source_prefix = Some("fd00:9::/64".parse().expect("a prefix"));
        }
        true
    });
    kernel.rules.push(state("rule 40 ipv6 iif eth0 nop").rules.remove(0));
    compiler.update(&kernel, &Delta::full());
    assert_eq!(forward(&compiler, 2, "fd00:1::1"), "unsupported");
    assert!(!compiler.fib().ports[&2].hairpin6, "the kernel looks for redirects by another walk");
}

#[test]
fn sources() {
    let compiler = compile(
        DEFAULT_RULES,
        "route local 10.0.0.1/32 dev 1 table 255
         route 10.0.0.0/24 dev 2
         route 10.1.0.0/24 via 10.0.0.2 dev 2
         route 10.2.0.0/24 nexthop via 10.0.0.2 dev 2 nexthop via 1.1.1.1 dev 5
         route blackhole 10.3.0.0/24
         route 0.0.0.0/0 via 1.1.1.1 dev 3",
    );
    for (name, address, valid, on_link, interfaces) in [
        ("own address", "10.0.0.1", false, false, &[][..]),
        ("on-link", "10.0.0.9", true, true, &[2][..]),
        ("by a gateway", "10.1.0.9", true, false, &[2]),
        ("by any of several interfaces, managed or not", "10.2.0.9", true, false, &[2, 5]),
        ("refused", "10.3.0.9", false, false, &[]),
        ("outside accelerate", "8.8.8.8", true, false, &[3]),
    ] {
        let (_, target) =
            lookup(compiler.fib(), 2, address.parse().expect("an address")).expect("a default route");
        let source = &target.source;
        let found: Vec<IfIndex> = source.interfaces.iter().copied().collect();
        assert_eq!((source.valid, source.on_link, &found[..]), (valid, on_link, interfaces), "{name}");
    }
}

#[test]
fn ports_and_views() {
    let text = "
        link 1 lo nomac
        link 2 eth0
        link 3 eth1 down
        link 4 eth2 nomac
        link 5 cali1
        link 6 eth3 master 7
        link 7 br0
        link 8 eth4
        conf 2 forwarding rp_filter 2 send_redirects
        addr 1.1.1.9/24 dev 2
        conf 3 forwarding
        conf 6 forwarding
        rule 0 lookup 255
        rule 9 iif eth1 blackhole
        rule 32766 lookup 254
        route 10.1.0.0/16 via 1.1.1.1 dev 6";
    let mut compiler = Compiler::new(config());
    compiler.update(&state(text), &Delta::full());
    let ports = &compiler.fib().ports;
    assert_eq!(ports.keys().copied().collect::<Vec<_>>(), [2, 3, 6, 8], "with a name that matches and a MAC");
    let ingress: Vec<bool> = ports.values().map(|port| port.ingress).collect();
    assert_eq!(ingress, [true, false, false, false], "up, no port of a bridge, forwarding");
    assert_eq!((ports[&2].rp_filter, ports[&2].send_redirects), (2, true));
    assert_eq!(ports[&2].view, ports[&8].view, "equal walks share a view");
    assert_ne!(ports[&2].view, ports[&3].view);
    assert_eq!(forward(&compiler, 2, "10.1.0.1"), "egress_not_managed", "a port of a bridge does not route");
}

/// `no_addr` of `__fib_validate_source`.
#[test]
fn loose_is_strict_on_a_port_without_an_ipv4_address() {
    let cases = [
        ("off", "conf 2 forwarding", 0),
        ("loose", "conf 2 forwarding rp_filter 2", 1),
        ("loose with IPv6 only", "conf 2 forwarding rp_filter 2\naddr 2001:db8::1/64 dev 2", 1),
        ("loose with an address elsewhere", "conf 2 forwarding rp_filter 2\naddr 1.1.1.9/24 dev 3", 1),
        ("loose with an address", "conf 2 forwarding rp_filter 2\naddr 1.1.1.9/24 dev 2", 2),
        ("strict with an address", "conf 2 forwarding rp_filter 1\naddr 1.1.1.9/24 dev 2", 1),
    ];
    for (name, text, expected) in cases {
        let mut compiler = Compiler::new(config());
        compiler.update(&state(&format!("link 2 eth0\n{text}")), &Delta::full());
        assert_eq!(compiler.fib().ports[&2].rp_filter, expected, "{name}");
    }
}

#[test]
fn mtu_is_the_smaller_one() {
    let compiler = compile(
        DEFAULT_RULES,
        "route 10.1.0.0/24 via 1.1.1.1 dev 3
         route 10.2.0.0/24 via 1.1.1.1 dev 3 mtu 1400
         route 10.3.0.0/24 via 1.1.1.1 dev 2 mtu 9000",
    );
    for (address, expected) in [("10.1.0.1", 9000), ("10.2.0.1", 1400), ("10.3.0.1", 1500)] {
        let (_, target) = lookup(compiler.fib(), 2, address.parse().expect("an address")).expect("a route");
        let Forward::NextHops(next_hops) = &target.forward else { panic!("{address}: {:?}", target.forward) };
        assert_eq!(next_hops[0].0.mtu, expected, "{address}");
    }
}

#[test]
fn resolution() {
    let state = state(
        "link 2 eth0
         link 3 eth1 down
         neigh 1.1.1.1 dev 2
         neigh 1.1.1.2 dev 2 failed
         neigh 1.1.1.1 dev 3",
    );
    let live = Resolution::Live { destination_mac: [6, 0, 0, 0, 0, 1], source_mac: [2, 0, 0, 0, 0, 2] };
    for (port, neighbour, expected) in [
        (2, "1.1.1.1", live),
        (2, "1.1.1.2", Resolution::Unresolved),
        (2, "1.1.1.3", Resolution::Unresolved),
        (3, "1.1.1.1", Resolution::PortDown),
        (4, "1.1.1.1", Resolution::PortDown),
    ] {
        let next_hop = NextHop { port, neighbour: neighbour.parse().expect("an address"), mtu: 1500 };
        assert_eq!(resolve(&next_hop, &state), expected, "{neighbour} on {port}");
    }
}
