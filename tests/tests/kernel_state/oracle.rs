//! The kernel is the oracle: random rules and routes, random packets, and what is compiled from the
//! kernel's notifications against what the kernel answers (`RTM_GETROUTE`).
//!
//! `UNDERPASS_SEED=N` repeats a run.

use std::net::{IpAddr, Ipv4Addr};

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
/// Everything happens in 10.0.0.0/22: small enough that prefixes cover each other.
const UNIVERSE: u32 = 0x0a00_0000;
const UNIVERSE_BITS: u32 = 10;
/// Priorities of the rules.
const RULES: std::ops::RangeInclusive<u32> = 1..=8;
/// Sources, neither of which is ours; rules select the second.
const SOURCES: [&str; 2] = ["192.0.2.1", "198.51.100.1"];

/// Xorshift: reproducible, which is all that is needed.
struct Random(u64);

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

    fn address(&mut self) -> Ipv4Addr {
        Ipv4Addr::from(UNIVERSE + self.below(1 << UNIVERSE_BITS))
    }

    fn prefix(&mut self) -> String {
        let length = if self.one_in(10) { 0 } else { 32 - self.below(UNIVERSE_BITS + 1) };
        let length = u8::try_from(length).expect("at most 32");
        IpNet::new(IpAddr::V4(self.address()), length).expect("a prefix").trunc().to_string()
    }

    fn hop(&mut self) -> String {
        let port = self.below(2);
        format!("via 172.20.{port}.{} dev eth{port}", 2 + self.below(3))
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
                self.pick(&["blackhole", "throw", "unreachable"])
            ),
            11 => format!("route replace {prefix} dev eth{} table {table}", self.below(2)),
            12 => format!("route replace {prefix} tos 0x10 {} table {table}", self.hop()),
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
            2 => "from 198.51.100.0/24".to_owned(),
            3 => format!("not to {}", self.prefix()),
            4 => "fwmark 1".to_owned(),
            _ => String::new(),
        };
        let action = match self.below(8) {
            0 => "blackhole".to_owned(),
            1 => "goto 32766".to_owned(),
            2 => format!("lookup {} suppress_prefixlength {}", self.table(), self.pick(&["0", "24", "28"])),
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
    let seed = std::env::var("UNDERPASS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.as_secs() | 1)
    });
    println!("UNDERPASS_SEED={seed}");
    let (_lab, router) = router();
    let config = CompileConfig {
        ports: vec!["eth*".into()],
        accelerate: vec!["10.0.0.0/22".parse().expect("a prefix")],
        services: vec!["10.0.1.64/26".parse().expect("a prefix")],
    };
    let tally = router.enter(|| {
        block_on(async {
            let mut random = Random(seed);
            let mut follower = Follower::start(&Options::default(), config);
            let mut query = Query::new().expect("a socket");
            let mut tally = Tally::default();
            for round in 0..ROUNDS {
                if random.one_in(4) {
                    // A rule that makes everything doubtful should not last for the whole run.
                    for priority in RULES {
                        let _ = router.run("ip", ["rule", "del", "pref", &priority.to_string()]);
                    }
                }
                for _ in 0..CHANGES {
                    let change = random.change();
                    // Refused when the kernel has no such route, or has it already.
                    let _ = router.run("ip", change.split_whitespace());
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
    let address = IpAddr::V4(random.address());
    let fib = follower.compiler.fib();
    let found = forward(fib, port, address);
    // The kernel refuses some sources for their own sake; such packets never get to the destination.
    let answers: Vec<Result<Route, String>> = SOURCES
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
    let target = (0..=32).rev().find_map(|length| {
        let prefix = IpNet::new(address, length).expect("a length").trunc();
        fib.prefixes.get(&(view, prefix))
    });
    target.map_or(Forward::Pass(Reason::NoRoute), |target| target.forward.clone())
}
