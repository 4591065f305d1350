//! The kernel is the oracle: random rules and routes, random packets, and what is compiled from the
//! kernel's notifications against what the kernel answers (`RTM_GETROUTE`).
//!
//! `UNDERPASS_SEED=N` repeats a run.

use std::net::IpAddr;

use ipnet::IpNet;
use underpass::fib::model::{CompileConfig, Fib, Forward};
use underpass::netlink::model::{IfIndex, Route, RouteType};
use underpass::netlink::monitor::Options;
use underpass::netlink::query::Query;
use underpass_common::reason::Reason;

use crate::follower::{Follower, block_on};
use crate::router;

const ROUNDS: u32 = 40;
const CHANGES: u32 = 12;
const PACKETS: u32 = 150;
/// Priorities of the rules.
const RULES: std::ops::RangeInclusive<u32> = 1..=8;
/// Everything happens in so many last bits: few enough that prefixes cover each other.
const UNIVERSE_BITS: u8 = 10;

/// What differs between the families.
struct World {
    /// For `ip`.
    flag: &'static str,
    universe: &'static str,
    services: &'static str,
    /// Prefixes around the universe.
    covering: [&'static str; 2],
    /// Of sources, neither of which is ours; rules select the second.
    sources: [&'static str; 2],
    selected: &'static str,
    /// Next hops of either port.
    hops: [&'static [&'static str]; 2],
    /// More of a route, which packets may see or not.
    attributes: &'static [&'static str],
}

const IPV4: World = World {
    flag: "-4",
    universe: "10.0.0.0/22",
    services: "10.0.1.64/26",
    covering: ["0.0.0.0/0", "10.0.0.0/16"],
    sources: ["192.0.2.1", "198.51.100.1"],
    selected: "198.51.100.0/24",
    hops: [
        &["via 172.20.0.2", "via 172.20.0.3", "via 172.20.0.4", "via inet6 fe80::2"],
        &["via 172.20.1.2", "via 172.20.1.3", "via 172.20.1.4", "via inet6 fe80::3"],
    ],
    attributes: &["tos 0x10", "src 172.20.1.1", "mtu 1400"],
};

const IPV6: World = World {
    flag: "-6",
    universe: "2001:db8:a::/118",
    services: "2001:db8:a::140/122",
    covering: ["::/0", "2001:db8::/32"],
    sources: ["2001:db8:f::1", "2001:db8:e::1"],
    selected: "2001:db8:e::/48",
    hops: [
        &["via fd20:0:0::2", "via fd20:0:0::3", "via fd20:0:0::4", "via fe80::2"],
        &["via fd20:0:1::2", "via fd20:0:1::3", "via fd20:0:1::4", "via fe80::3"],
    ],
    attributes: &["from 2001:db8:e::/48", "src fd20:0:1::1"],
};

/// Xorshift: reproducible, which is all that is needed.
struct Random(u64, &'static World);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.below(of) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(u32::try_from(of.len()).expect("few")) as usize]
    }

    fn address(&mut self) -> IpAddr {
        let host = self.below(1 << UNIVERSE_BITS);
        match self.1.universe.parse().expect("a prefix") {
            IpNet::V4(net) => IpAddr::V4((net.addr().to_bits() | host).into()),
            IpNet::V6(net) => IpAddr::V6((net.addr().to_bits() | u128::from(host)).into()),
        }
    }

    fn prefix(&mut self) -> String {
        if self.one_in(8) {
            return self.pick(&self.1.covering).to_owned();
        }
        let host = IpNet::from(self.address());
        let shorter = u8::try_from(self.below(u32::from(UNIVERSE_BITS) + 1)).expect("few bits");
        IpNet::new(host.addr(), host.prefix_len() - shorter).expect("a prefix").trunc().to_string()
    }

    fn hop(&mut self) -> String {
        let port = self.below(2);
        format!("{} dev eth{port}", self.pick(self.1.hops[port as usize]))
    }

    fn table(&mut self) -> &'static str {
        self.pick(&["main", "main", "100", "101"])
    }

    /// A command of `ip` that may fail: what is removed may not exist.
    fn change(&mut self) -> String {
        let (prefix, table) = (self.prefix(), self.table());
        match self.below(20) {
            0..=6 => format!("route replace {prefix} {} table {table} metric {}", self.hop(), self.below(3)),
            7 | 8 => {
                format!("route replace {prefix} table {table} nexthop {} nexthop {}", self.hop(), self.hop())
            }
            9 => format!("route append {prefix} {} table {table}", self.hop()),
            10 => format!(
                "route replace {} {prefix} table {table}",
                self.pick(&["blackhole", "throw", "unreachable", "prohibit"])
            ),
            11 => format!("route replace {prefix} dev eth{} table {table}", self.below(2)),
            12 => {
                let attribute = self.pick(self.1.attributes);
                format!("route replace {prefix} {attribute} {} table {table}", self.hop())
            }
            13 => {
                format!("neigh replace {} lladdr 02:00:00:00:00:99 dev eth{}", self.address(), self.below(2))
            }
            14 | 15 => self.rule(),
            16 => format!("rule del pref {}", self.priority()),
            _ => format!("route flush {prefix} table {table}"),
        }
    }

    fn rule(&mut self) -> String {
        let selector = match self.below(6) {
            0 => format!("iif eth{}", self.below(2)),
            1 => format!("to {}", self.prefix()),
            2 => format!("from {}", self.1.selected),
            3 => format!("not to {}", self.prefix()),
            4 => "fwmark 1".to_owned(),
            _ => String::new(),
        };
        let action = match self.below(8) {
            0 => "blackhole".to_owned(),
            1 => "goto 32766".to_owned(),
            2 => format!(
                "lookup {} suppress_prefixlength {}",
                self.table(),
                self.pick(&["0", "24", "28", "32", "122"])
            ),
            _ => format!("lookup {}", self.table()),
        };
        format!("rule add pref {} {selector} {action}", self.priority())
    }

    fn priority(&mut self) -> u32 {
        RULES.start() + self.below(RULES.end() - RULES.start() + 1)
    }
}

/// What a run has compared.
#[derive(Debug, Default)]
struct Tally {
    forwarded: u32,
    passed: u32,
    passed_on_doubt: u32,
}

#[test]
fn what_is_compiled_is_what_the_kernel_answers() {
    check(&IPV4);
}

#[test]
fn what_is_compiled_for_ipv6_is_what_the_kernel_answers() {
    check(&IPV6);
}

fn check(world: &'static World) {
    let seed = std::env::var("UNDERPASS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.as_secs() | 1)
    });
    println!("UNDERPASS_SEED={seed}");
    let (_lab, router) = router();
    router.sysctl(&[("ipv6.conf.all.forwarding", "1")]).expect("a router");
    router
        .ip("addr add fd20:0:0::1/64 dev eth0 nodad\naddr add fd20:0:1::1/64 dev eth1 nodad\n")
        .expect("addresses");
    let config = CompileConfig {
        ports: vec!["eth*".into()],
        accelerate: vec![world.universe.parse().expect("a prefix")],
        services: vec![world.services.parse().expect("a prefix")],
    };
    let ip = |command: &str| {
        // Refused when the kernel has no such route, or has it already.
        let _ = router.run("ip", [world.flag].into_iter().chain(command.split_whitespace()));
    };
    let tally = router.enter(|| {
        block_on(async {
            let mut random = Random(seed, world);
            let mut follower = Follower::start(&Options::default(), config);
            let mut query = Query::new().expect("a socket");
            let mut tally = Tally::default();
            for round in 0..ROUNDS {
                if random.one_in(4) {
                    // A rule that makes everything doubtful should not last for the whole run.
                    for priority in RULES {
                        ip(&format!("rule del pref {priority}"));
                    }
                }
                for _ in 0..CHANGES {
                    ip(&random.change());
                }
                follower.catch_up(&format!("round {round}")).await;
                for _ in 0..PACKETS {
                    compare(&mut random, &mut query, &follower, &mut tally);
                }
            }
            tally
        })
    });
    let tally = tally.expect("the namespace");
    println!("{tally:?}");
    let all = tally.forwarded + tally.passed + tally.passed_on_doubt;
    assert!(tally.forwarded * 10 > all, "hardly any packet was forwarded, so little was compared: {tally:?}");
}

fn compare(random: &mut Random, query: &mut Query, follower: &Follower, tally: &mut Tally) {
    let state = follower.monitor.state();
    let name = random.pick(&["eth0", "eth1"]);
    let port = state.links.values().find(|link| link.name == name).expect("a port").index;
    let address = random.address();
    let fib = follower.compiler.fib();
    let found = forward(fib, port, address);
    // The kernel refuses some sources for their own sake; such packets never get to the destination.
    let answers: Vec<Result<Route, String>> = random
        .1
        .sources
        .iter()
        .map(|source| {
            query
                .matching_route(address, Some(source.parse().expect("an address")), Some(port))
                .expect("an answer")
        })
        .collect();
    for answer in answers {
        match (&found, answer) {
            (Forward::NextHops(next_hops), Ok(route)) => {
                assert_eq!(route.kind, RouteType::Unicast, "{address} on {name}");
                for (next_hop, _) in next_hops {
                    let known = route.next_hops.iter().any(|hop| {
                        (hop.ifindex, hop.gateway.unwrap_or(address)) == (next_hop.port, next_hop.neighbour)
                    });
                    assert!(known, "{address} on {name}: {next_hop:?} is no next hop of {route:?}");
                }
                tally.forwarded += 1;
            }
            (Forward::NextHops(next_hops), Err(refused)) => {
                panic!("{address} on {name}: the kernel refuses ({refused}), not {next_hops:?}");
            }
            (Forward::Pass(Reason::Unsupported), _) => tally.passed_on_doubt += 1,
            (Forward::Pass(Reason::Service), _) => tally.passed += 1,
            (Forward::Pass(reason), Ok(route)) if route.kind == RouteType::Unicast => {
                let on_link = route.next_hops.iter().all(|hop| hop.gateway.is_none());
                assert!(
                    on_link && *reason == Reason::Connected,
                    "{address} on {name}: {reason:?}, though the kernel has {route:?}"
                );
                tally.passed += 1;
            }
            (Forward::Pass(_), _) => tally.passed += 1,
        }
    }
}

/// The longest match, as the XDP program looks it up.
fn forward(fib: &Fib, port: IfIndex, address: IpAddr) -> Forward {
    let view = fib.ports[&port].view;
    let target = (0..=IpNet::from(address).prefix_len()).rev().find_map(|length| {
        let prefix = IpNet::new(address, length).expect("a length").trunc();
        fib.prefixes.get(&(view, prefix))
    });
    target.map_or(Forward::Pass(Reason::NoRoute), |target| target.forward.clone())
}
