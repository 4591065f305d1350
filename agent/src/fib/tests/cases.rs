//! Tables of cases: a kernel state, and what packets get.

use super::lookup;
use crate::fib::compile::Compiler;
use crate::fib::model::{CompileConfig, Forward};
use crate::netlink::model::{Delta, IfIndex};
use crate::netlink::text::{DEFAULT_RULES, state};

/// Two managed ports, an unmanaged uplink and a local pod.
pub(super) const LINKS: &str = "
    link 1 lo nomac
    link 2 eth0
    link 3 eth1 mtu 9000
    link 4 cali1
    link 5 wlan0
    conf 2 forwarding
    conf 3 forwarding
    conf6 2 1400 forwarding
    conf6 3 9000 forwarding
";

pub(super) fn config() -> CompileConfig {
    CompileConfig {
        ports: vec!["eth*".into()],
        accelerate: vec!["10.0.0.0/8".parse().expect("a prefix")],
        services: vec!["10.96.0.0/12".parse().expect("a prefix")],
    }
}

/// What packets to `address` get that come in on `port`: "GATEWAY@PORT*WEIGHT ..." or a reason.
pub(super) fn forward(compiler: &Compiler, port: IfIndex, address: &str) -> String {
    let address = address.parse().expect("an address");
    match lookup(compiler.fib(), port, address).map(|(_, target)| &target.forward) {
        None => "no_route".to_owned(),
        Some(Forward::Pass(reason)) => reason.label().to_owned(),
        Some(Forward::NextHops(next_hops)) => {
            let words: Vec<String> = next_hops
                .iter()
                .map(|(hop, weight)| format!("{}@{}*{weight}", hop.neighbour, hop.port))
                .collect();
            words.join(" ")
        }
    }
}

pub(super) fn compile(rules: &str, rest: &str) -> Compiler {
    let mut compiler = Compiler::new(config());
    compiler.update(&state(&format!("{LINKS}{rules}\n{rest}")), &Delta::full());
    compiler
}

struct Case {
    name: &'static str,
    rules: &'static str,
    state: &'static str,
    /// Port, destination, outcome.
    expected: &'static [(IfIndex, &'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "a route by a gateway",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 via 172.20.0.13 dev 2",
        expected: &[
            (2, "10.1.0.5", "172.20.0.13@2*1"),
            (3, "10.1.0.5", "172.20.0.13@2*1"),
            (2, "10.1.0.64", "no_route"),
        ],
    },
    Case {
        name: "equal-cost next hops keep their weights, equal ones are one",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 nexthop via 172.20.0.13 dev 2 weight 3 nexthop via 1.1.1.1 dev 3 nexthop via 172.20.0.13 dev 2",
        expected: &[(2, "10.1.0.5", "172.20.0.13@2*4 1.1.1.1@3*1")],
    },
    Case {
        name: "only managed ports of a mixture, none left is passed",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 nexthop via 1.1.1.1 dev 5 nexthop via 172.20.0.13 dev 2
                route 10.2.0.0/26 via 1.1.1.1 dev 5",
        expected: &[(2, "10.1.0.5", "172.20.0.13@2*1"), (2, "10.2.0.5", "egress_not_managed")],
    },
    Case {
        name: "dead next hops are left out, a dead route gives way to the next metric and then the shorter prefix",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 nexthop via 1.1.1.1 dev 2 dead nexthop via 1.1.1.2 dev 2
                route 10.2.0.0/26 via 1.1.1.1 dev 2 dead
                route 10.2.0.0/26 via 1.1.1.2 dev 2 metric 10
                route 10.3.0.0/26 via 1.1.1.1 dev 2 dead
                route 10.3.0.0/16 via 1.1.1.3 dev 2",
        expected: &[
            (2, "10.1.0.5", "1.1.1.2@2*1"),
            (2, "10.2.0.5", "1.1.1.2@2*1"),
            (2, "10.3.0.5", "1.1.1.3@2*1"),
        ],
    },
    Case {
        name: "lowest metric first, then the kernel's order",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 via 1.1.1.3 dev 2 metric 20
                route 10.1.0.0/26 via 1.1.1.1 dev 2 metric 10
                route 10.1.0.0/26 via 1.1.1.2 dev 2 metric 10",
        expected: &[(2, "10.1.0.5", "1.1.1.1@2*1")],
    },
    Case {
        name: "what is not unicast is passed",
        rules: DEFAULT_RULES,
        state: "route local 10.1.0.1/32 dev 1 table 255
                route broadcast 10.1.0.255/32 dev 2 table 255
                route blackhole 10.2.0.0/26
                route unreachable 10.3.0.0/26
                route prohibit 10.4.0.0/26
                route 10.0.0.0/8 via 1.1.1.1 dev 2",
        expected: &[
            (2, "10.1.0.1", "local"),
            (2, "10.1.0.255", "local"),
            (2, "10.1.0.2", "1.1.1.1@2*1"),
            (2, "10.2.0.1", "refused"),
            (2, "10.3.0.1", "refused"),
            (2, "10.4.0.1", "refused"),
        ],
    },
    Case {
        name: "what needs more than a rewrite is passed",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 via 1.1.1.1 dev 2 encap
                route 10.2.0.0/26 nhid 7
                route 10.3.0.0/26 via 1.1.1.1 dev 2 tos 16
                route 10.3.0.0/26 via 1.1.1.2 dev 2
                route 10.4.0.0/26 via 1.1.1.1 dev 2 nhid 7",
        expected: &[
            (2, "10.1.0.1", "unsupported"),
            (2, "10.2.0.1", "unsupported"),
            (2, "10.3.0.1", "unsupported"),
            (2, "10.4.0.1", "1.1.1.1@2*1"),
        ],
    },
    Case {
        name: "a local pod is a host route to an unmanaged interface, its block a blackhole",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/18 via 1.1.1.1 dev 2
                route blackhole 10.1.0.64/26
                route 10.1.0.65/32 dev 4",
        expected: &[(2, "10.1.0.65", "local"), (2, "10.1.0.66", "refused"), (2, "10.1.0.1", "1.1.1.1@2*1")],
    },
    Case {
        name: "a connected subnet is passed but for its resolved neighbours",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/24 dev 2
                route 10.2.0.0/24 dev 5
                neigh 10.1.0.7 dev 2
                neigh 10.1.0.8 dev 2 failed
                neigh 10.1.0.9 dev 3
                neigh 10.2.0.7 dev 5",
        expected: &[
            (3, "10.1.0.7", "10.1.0.7@2*1"),
            (3, "10.1.0.8", "connected"),
            (3, "10.1.0.9", "connected"),
            (3, "10.1.0.10", "connected"),
            (3, "10.2.0.7", "egress_not_managed"),
        ],
    },
    Case {
        name: "accelerate cuts the default route, services cut accelerate",
        rules: DEFAULT_RULES,
        state: "route 0.0.0.0/0 via 1.1.1.1 dev 2",
        expected: &[
            (2, "9.255.255.255", "not_accelerated"),
            (2, "10.0.0.0", "1.1.1.1@2*1"),
            (2, "10.95.255.255", "1.1.1.1@2*1"),
            (2, "10.96.0.0", "service"),
            (2, "10.111.255.255", "service"),
            (2, "10.112.0.0", "1.1.1.1@2*1"),
            (2, "11.0.0.0", "not_accelerated"),
        ],
    },
    Case {
        name: "an earlier table covers a later one, throw uncovers it",
        rules: "
            rule 0 lookup 255
            rule 100 lookup 100
            rule 32766 lookup 254",
        state: "route 10.0.0.0/8 via 1.1.1.1 dev 2 table 100
                route throw 10.1.0.0/16 table 100
                route 10.1.2.0/24 via 1.1.1.2 dev 2 table 100
                route 10.0.0.0/9 via 1.1.1.3 dev 2
                route 10.2.0.0/16 via 1.1.1.4 dev 2",
        expected: &[
            (2, "10.2.0.1", "1.1.1.1@2*1"),
            (2, "10.1.0.1", "1.1.1.3@2*1"),
            (2, "10.1.2.1", "1.1.1.2@2*1"),
        ],
    },
    Case {
        name: "suppress_prefixlength makes short prefixes a miss, but not refusals",
        rules: "
            rule 0 lookup 255
            rule 100 lookup 254 suppress 8
            rule 101 lookup 100
            rule 32766 lookup 254",
        state: "route 0.0.0.0/0 via 1.1.1.1 dev 2
                route 10.1.0.0/16 via 1.1.1.2 dev 2
                route blackhole 10.0.0.0/8
                route 10.2.0.0/16 via 1.1.1.3 dev 2 table 100
                route 11.0.0.0/8 via 1.1.1.4 dev 2 table 100",
        expected: &[
            (2, "10.1.0.1", "1.1.1.2@2*1"),
            (2, "10.2.0.1", "refused"),
            (2, "11.0.0.1", "not_accelerated"),
        ],
    },
    Case {
        name: "suppressed default routes let the next table decide",
        rules: "
            rule 0 lookup 255
            rule 100 lookup 254 suppress 0
            rule 101 lookup 100
            rule 32766 lookup 254",
        state: "route 0.0.0.0/0 via 1.1.1.1 dev 2
                route 10.1.0.0/16 via 1.1.1.2 dev 2
                route 10.0.0.0/9 via 1.1.1.3 dev 3 table 100",
        expected: &[
            (2, "10.1.0.1", "1.1.1.2@2*1"),
            (2, "10.2.0.1", "1.1.1.3@3*1"),
            (2, "10.200.0.1", "1.1.1.1@2*1"),
        ],
    },
    Case {
        name: "iif rules give ports different walks",
        rules: "
            rule 0 lookup 255
            rule 100 iif eth1 lookup 100
            rule 101 iif wlan0 lookup 101
            rule 32766 lookup 254",
        state: "route 10.1.0.0/16 via 1.1.1.1 dev 2 table 100
                route 10.1.0.0/16 via 1.1.1.9 dev 2 table 101
                route 10.1.0.0/16 via 1.1.1.2 dev 2",
        expected: &[(2, "10.1.0.1", "1.1.1.2@2*1"), (3, "10.1.0.1", "1.1.1.1@2*1")],
    },
    Case {
        name: "to selectors are exact, not inverts them",
        rules: "
            rule 0 lookup 255
            rule 100 to 10.1.0.0/24 blackhole
            rule 101 not to 10.0.0.0/9 lookup 100
            rule 32766 lookup 254",
        state: "route 10.0.0.0/8 via 1.1.1.1 dev 2
                route 10.0.0.0/8 via 1.1.1.2 dev 2 table 100",
        expected: &[
            (2, "10.1.0.9", "refused"),
            (2, "10.1.1.9", "1.1.1.1@2*1"),
            (2, "10.200.0.1", "1.1.1.2@2*1"),
        ],
    },
    Case {
        name: "selectors of the packet: passed where the outcomes differ",
        rules: "
            rule 0 lookup 255
            rule 100 from 10.9.0.0/16 lookup 100
            rule 101 tos lookup 101
            rule 32766 lookup 254",
        state: "route 10.1.0.0/16 via 1.1.1.2 dev 2 table 100
                route 10.2.0.0/16 via 1.1.1.1 dev 2 table 100
                route 10.3.0.0/16 via 1.1.1.9 dev 2 table 101
                route 10.0.0.0/8 via 1.1.1.1 dev 2",
        expected: &[
            (2, "10.1.0.1", "unsupported"),
            (2, "10.2.0.1", "1.1.1.1@2*1"),
            (2, "10.3.0.1", "unsupported"),
            (2, "10.4.0.1", "1.1.1.1@2*1"),
        ],
    },
    Case {
        name: "selectors that never match packets without mark, output interface and VRF",
        rules: "
            rule 0 lookup 255
            rule 100 fwmark 1/1 blackhole
            rule 101 oif eth1 blackhole
            rule 102 l3mdev blackhole
            rule 103 not fwmark 0/255 blackhole
            rule 32766 lookup 254",
        state: "route 10.1.0.0/16 via 1.1.1.2 dev 2",
        expected: &[(2, "10.1.0.1", "1.1.1.2@2*1")],
    },
    Case {
        name: "a mark of zero matches",
        rules: "
            rule 100 fwmark 0/255 blackhole
            rule 32766 lookup 254",
        state: "route 10.1.0.0/16 via 1.1.1.2 dev 2",
        expected: &[(2, "10.1.0.1", "refused")],
    },
    Case {
        name: "goto skips, a missing target and nop do nothing",
        rules: "
            rule 10 to 10.1.0.0/16 goto 300
            rule 20 goto 250
            rule 30 nop
            rule 200 lookup 100
            rule 300 lookup 254",
        state: "route 10.0.0.0/8 via 1.1.1.1 dev 2 table 100
                route 10.0.0.0/8 via 1.1.1.2 dev 2",
        expected: &[(2, "10.1.0.1", "1.1.1.2@2*1"), (2, "10.2.0.1", "1.1.1.1@2*1")],
    },
    Case {
        name: "an uncertain goto",
        rules: "
            rule 10 from 10.9.0.0/16 goto 300
            rule 200 to 10.2.0.0/16 lookup 100
            rule 300 lookup 254",
        state: "route 10.0.0.0/8 via 1.1.1.1 dev 2 table 100
                route 10.0.0.0/8 via 1.1.1.2 dev 2",
        expected: &[(2, "10.1.0.1", "1.1.1.2@2*1"), (2, "10.2.0.1", "unsupported")],
    },
    Case {
        name: "an unknown action decides nothing that we know",
        rules: "
            rule 10 to 10.1.0.0/16 action 4
            rule 300 lookup 254",
        state: "route 10.0.0.0/8 via 1.1.1.2 dev 2",
        expected: &[(2, "10.1.0.1", "unsupported"), (2, "10.2.0.1", "1.1.1.2@2*1")],
    },
    Case {
        name: "results that may be suppressed by interface group",
        rules: "
            rule 10 lookup 100 suppress_group
            rule 300 lookup 254",
        state: "route 10.1.0.0/16 via 1.1.1.1 dev 2 table 100
                route 10.2.0.0/16 via 1.1.1.2 dev 2 table 100
                route 10.0.0.0/8 via 1.1.1.2 dev 2",
        expected: &[
            (2, "10.1.0.1", "unsupported"),
            (2, "10.2.0.1", "1.1.1.2@2*1"),
            (2, "10.3.0.1", "1.1.1.2@2*1"),
        ],
    },
    Case {
        name: "tables local and main may be merged under the default rules, then local forwards nothing",
        rules: DEFAULT_RULES,
        state: "route local 10.1.0.0/16 dev 1 table 255
                route 10.1.2.0/24 via 1.1.1.1 dev 2
                route 10.2.0.0/16 via 1.1.1.2 dev 2 table 255
                route throw 10.3.0.0/16 table 255
                route 10.0.0.0/8 via 1.1.1.3 dev 2",
        expected: &[
            (2, "10.1.2.1", "local"),
            (2, "10.2.0.1", "unsupported"),
            (2, "10.3.0.1", "unsupported"),
            (2, "10.4.0.1", "1.1.1.3@2*1"),
        ],
    },
    Case {
        name: "IPv4 over an IPv6 gateway",
        rules: DEFAULT_RULES,
        state: "route 10.1.0.0/26 via fe80::1 dev 2",
        expected: &[(2, "10.1.0.5", "fe80::1@2*1")],
    },
];

#[test]
fn outcomes() {
    for case in CASES {
        let compiler = compile(case.rules, case.state);
        for (port, address, expected) in case.expected {
            assert_eq!(
                forward(&compiler, *port, address),
                *expected,
                "{}: {address} from port {port}",
                case.name
            );
        }
    }
}
