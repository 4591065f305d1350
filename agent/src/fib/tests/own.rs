//! Sources that the kernel refuses though it does not check the reverse path.

use std::net::Ipv4Addr;

use underpass_common::own::own_bits;

use super::cases::{LINKS, config};
use crate::fib::compile::Compiler;
use crate::netlink::model::Delta;
use crate::netlink::text::{DEFAULT_RULES, state};

/// Whether the filter lets an address through.
fn may_be_own(compiler: &Compiler, address: &str) -> bool {
    let bits = own_bits(address.parse::<Ipv4Addr>().expect("an address").octets());
    bits.iter().all(|(word, bit)| compiler.fib().own.get(word).is_some_and(|bits| bits & bit != 0))
}

#[test]
fn when_the_filter_says_it_all() {
    let cases = [
        ("reverse path not checked", DEFAULT_RULES, "", true),
        ("strict", DEFAULT_RULES, "conf 2 forwarding rp_filter 1", false),
        ("loose", DEFAULT_RULES, "conf 2 forwarding rp_filter 2", false),
        ("no rules known", "", "", false),
        ("another rule", DEFAULT_RULES, "rule 9 from 10.9.0.0/16 lookup 100", false),
        (
            "default rules with a selector",
            "rule 0 lookup 255\nrule 32766 iif eth1 lookup 254\nrule 32767 lookup 253",
            "",
            false,
        ),
        ("rules of IPv6", DEFAULT_RULES, "rule 9 ipv6 iif eth0 nop", true),
        (
            "local and broadcast hosts",
            DEFAULT_RULES,
            "route local 10.0.0.1/32 dev 1 table 255\nroute broadcast 10.0.0.255/32 dev 2 table 255",
            true,
        ),
        ("a local range", DEFAULT_RULES, "route local 10.8.0.0/16 dev 1 table 255", false),
        ("a local range in main", DEFAULT_RULES, "route local 10.8.0.0/16 dev 1", false),
        ("loopback", DEFAULT_RULES, "route local 127.0.0.0/8 dev 1 table 255", true),
        ("multicast", DEFAULT_RULES, "route multicast 224.0.0.0/4 dev 2", true),
        ("a table that no rule names", DEFAULT_RULES, "route local 10.8.0.0/16 dev 1 table 77", true),
        (
            "routes that are errors",
            DEFAULT_RULES,
            "route blackhole 10.8.0.0/16\nroute unreachable 10.9.0.0/16",
            true,
        ),
    ];
    for (name, rules, text, expected) in cases {
        let mut compiler = Compiler::new(config());
        compiler.update(&state(&format!("{LINKS}{rules}\n{text}")), &Delta::full());
        assert_eq!(compiler.fib().ports[&2].own_sources, expected, "{name}");
    }
}

#[test]
fn own_addresses_come_and_go() {
    let text = |rest: &str| state(&format!("{LINKS}{DEFAULT_RULES}\naddr 10.0.0.1/24 dev 2\n{rest}"));
    let mut compiler = Compiler::new(config());
    compiler.update(
        &text("addr 10.96.0.10/32 dev 5\nroute broadcast 10.0.0.255/32 dev 2 table 255\nroute 10.7.0.0/16 via 10.0.0.2 dev 2"),
        &Delta::full(),
    );
    for (address, expected) in [
        ("10.0.0.1", true),
        ("10.96.0.10", true),
        ("10.0.0.255", true),
        ("10.0.0.2", false),
        ("10.7.0.1", false),
    ] {
        assert_eq!(may_be_own(&compiler, address), expected, "{address}");
    }
    // An address on an interface that is no port goes, one of another comes.
    let kernel = text("addr 10.97.0.1/32 dev 5");
    let delta = Delta {
        interfaces: [5].into(),
        prefixes: ["10.0.0.255/32".parse().expect("a prefix")].into(),
        ..Delta::default()
    };
    let changes = compiler.update(&kernel, &delta);
    assert!(!changes.full);
    for (address, expected) in
        [("10.0.0.1", true), ("10.96.0.10", false), ("10.0.0.255", false), ("10.97.0.1", true)]
    {
        assert_eq!(may_be_own(&compiler, address), expected, "{address}");
    }
    // A local range concerns every port.
    let kernel = text("addr 10.97.0.1/32 dev 5\nroute local 10.8.0.0/16 dev 1 table 255");
    let delta = Delta { prefixes: ["10.8.0.0/16".parse().expect("a prefix")].into(), ..Delta::default() };
    assert!(compiler.update(&kernel, &delta).full);
    assert!(compiler.fib().ports.values().all(|port| !port.own_sources));
}
