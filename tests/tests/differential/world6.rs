//! A random IPv6 router, as [`crate::world`] makes them for IPv4.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use fastrand::Rng;
use ipnet::Ipv6Net;
use underpass_tests::twin::{Plan, PortPlan, mac};

use crate::choice::{Choices, Group};
use crate::route6::{Kind6, Route6};
use crate::world::{MTUS, PORTS, chance, choose};

const TABLES: [u32; 3] = [100, 101, 102];
const MAIN: u32 = 254;

/// A whole router.
#[derive(Clone, Debug)]
pub struct World6 {
    pub plan: Plan,
    pub routes: Vec<Route6>,
    /// Prefixes that destinations are drawn from, and those of them that are forwarded.
    pub destinations: Vec<Ipv6Net>,
    pub forwarded: Vec<Ipv6Net>,
    rules: Vec<String>,
}

fn network(words: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new(words.into(), length).expect("a length").trunc()
}

fn word(number: usize) -> u16 {
    u16::try_from(number).expect("few")
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("few")
}

/// The on-link network of a port.
pub fn subnet(port: usize) -> Ipv6Net {
    network([0x2001, 0xdb8, 0x10 + word(port), 0, 0, 0, 0, 0], 64)
}

/// The network whose hosts are behind a port.
pub fn behind(port: usize) -> Ipv6Net {
    network([0x2001, 0xdb8, 0xa0 + word(port), 0, 0, 0, 0, 0], 48)
}

/// A host of a port's network by its global or its link-local address. Hosts 2 to 5 have MAC addresses, 6 has
/// failed, 7 is unknown.
fn neighbour(port: usize, host: u16, global: bool) -> Ipv6Addr {
    if global {
        Ipv6Addr::new(0x2001, 0xdb8, 0x10 + word(port), 0, 0, 0, 0, host)
    } else {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x100 + word(port), host)
    }
}

impl World6 {
    /// The world of a seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut world = Self {
            plan: Plan { ipv6: true, ..Plan::default() },
            routes: Vec::new(),
            destinations: Vec::new(),
            forwarded: Vec::new(),
            rules: Vec::new(),
        };
        world.ports(&mut rng);
        for port in 0..PORTS {
            let kind = Kind6::Via(vec![(neighbour(port, rng.u16(2..6), rng.bool()), port, 1)]);
            world.routes.push(Route6 { table: MAIN, prefix: behind(port), metric: 1024, kind, mtu: None });
        }
        for _ in 0..rng.usize(25..50) {
            if let Some(route) = world.new_route(&mut rng) {
                world.routes.push(route);
            }
        }
        for route in &world.routes {
            let _ = writeln!(world.plan.commands6, "{}", route.command("add"));
        }
        world.write_rules(&mut rng);
        world.configure(&mut rng);
        world
    }

    fn ports(&mut self, rng: &mut Rng) {
        let mut text = String::new();
        for port in 0..PORTS {
            self.plan.ports.push(PortPlan { name: format!("p{port}"), mtu: *choose(rng, &MTUS) });
            let own = neighbour(port, 1, true);
            let _ = writeln!(text, "address add {own}/64 dev p{port} nodad");
            self.plan.own.push(IpAddr::V6(own).into());
            for host in 2..=5 {
                for global in [true, false] {
                    let state = *choose(rng, &["permanent", "permanent", "stale", "reachable"]);
                    let mac = mac(&[6, 0, 0, 0, byte(port), byte(usize::from(host))]);
                    let address = neighbour(port, host, global);
                    let _ = writeln!(text, "neighbour add {address} lladdr {mac} nud {state} dev p{port}");
                }
            }
            // Not for the kernel to collect (`NTF_EXT_LEARNED`): with `fib_multipath_use_neigh` an entry that is
            // gone counts as reachable, and it would be gone in one of the routers first.
            let _ = writeln!(
                text,
                "neighbour add {} nud failed extern_learn dev p{port}",
                neighbour(port, 6, true)
            );
            let conf = |name: &str| format!("ipv6.conf.p{port}.{name}");
            self.plan.sysctls.push((conf("forwarding"), u32::from(!chance(rng, 4)).to_string()));
            if chance(rng, 15) && self.plan.ports[port].mtu >= 1300 {
                self.plan.sysctls.push((conf("mtu"), "1300".to_owned()));
            }
        }
        let _ = writeln!(text, "address add 2001:db8:ff::1/128 dev lo");
        self.plan.own.push("2001:db8:ff::1/128".parse().expect("a prefix"));
        self.plan.sysctls.push(("ipv6.fib_multipath_hash_policy".to_owned(), rng.u32(0..3).to_string()));
        self.plan.commands6 = text;
    }

    fn new_route(&mut self, rng: &mut Rng) -> Option<Route6> {
        let prefix = prefix(rng);
        let table = if chance(rng, 60) { MAIN } else { *choose(rng, &TABLES) };
        let metric = if chance(rng, 8) { rng.u32(10..12) } else { 1024 };
        let same = |known: &Route6| (known.table, known.prefix, known.metric) == (table, prefix, metric);
        if self.routes.iter().any(same) {
            return None;
        }
        let (kind, mtu) = self.way(rng, prefix);
        Some(Route6 { table, prefix, metric, kind, mtu })
    }

    fn way(&mut self, rng: &mut Rng, prefix: Ipv6Net) -> (Kind6, Option<u32>) {
        let any = |rng: &mut Rng| {
            let port = rng.usize(0..PORTS);
            (neighbour(port, rng.u16(2..6), rng.bool()), port, 1)
        };
        let kind = match rng.u32(0..100) {
            0..=66 => Kind6::Via(vec![any(rng)]),
            67..=69 => {
                let port = rng.usize(0..PORTS);
                Kind6::Via(vec![(neighbour(port, rng.u16(6..8), true), port, 1)])
            }
            70..=82 => self.group(rng),
            83..=86 if prefix.prefix_len() >= 64 => Kind6::OnLink(rng.usize(0..PORTS)),
            87 if prefix.prefix_len() >= 64 => Kind6::Special("local"),
            other => Kind6::Special(["blackhole", "unreachable", "prohibit", "throw"][other as usize % 4]),
        };
        let via = matches!(kind, Kind6::Via(_));
        let mtu = (via && chance(rng, 10)).then(|| *choose(rng, &[1300, 1400, 9000]));
        if kind == Kind6::Special("local") {
            self.plan.own.push(prefix.into());
        }
        if via && prefix.addr().segments()[0] == 0xfd00 {
            self.forwarded.push(prefix);
        }
        if prefix.prefix_len() > 0 {
            self.destinations.push(prefix);
        }
        (kind, mtu)
    }

    fn group(&self, rng: &mut Rng) -> Kind6 {
        let mtu = self.plan.ports[rng.usize(0..PORTS)].mtu;
        let mut members: Vec<(Ipv6Addr, usize, u8)> = Vec::new();
        for _ in 0..rng.usize(2..5) {
            let port = rng.usize(0..PORTS);
            let member = (neighbour(port, rng.u16(2..6), true), port, rng.u8(1..4));
            let known = members.iter().any(|(address, ..)| *address == member.0);
            let small = self.plan.sysctls.iter().any(|(key, _)| *key == format!("ipv6.conf.p{port}.mtu"));
            if self.plan.ports[port].mtu == mtu && !known && !small {
                members.push(member);
            }
        }
        if members.is_empty() { Kind6::Special("blackhole") } else { Kind6::Via(members) }
    }

    fn write_rules(&mut self, rng: &mut Rng) {
        for number in 0..rng.u32(0..5) {
            let preference = 1000 + 100 * number;
            let table = *choose(rng, &TABLES);
            let port = rng.usize(0..PORTS);
            let to = prefix(rng);
            let text = match rng.u32(0..12) {
                0..=3 => format!("iif p{port} lookup {table}"),
                4..=6 => format!("to {to} lookup {table}"),
                7 => format!("from {} lookup {table}", behind(port)),
                8 => format!("lookup main suppress_prefixlength {}", choose(rng, &[0, 32, 64])),
                9 => format!("goto {}", preference + choose(rng, &[100, 200])),
                10 => format!("fwmark 0x1 lookup {table}"),
                _ => format!("to {to} {}", choose(rng, &["blackhole", "unreachable", "prohibit"])),
            };
            self.rules.push(format!("rule add preference {preference} {text}"));
        }
        for rule in &self.rules {
            let _ = writeln!(self.plan.commands6, "{rule}");
        }
    }

    fn configure(&mut self, rng: &mut Rng) {
        let unmanaged = chance(rng, 25).then(|| rng.usize(0..PORTS));
        let ports: Vec<_> =
            (0..PORTS).filter(|port| unmanaged != Some(*port)).map(|port| format!("\"p{port}\"")).collect();
        let mut accelerate = vec!["\"fd00::/16\""];
        if chance(rng, 60) {
            accelerate.push("\"2001:db8::/32\"");
        }
        self.plan.sections =
            format!("[datapath]\nports = [{}]\naccelerate = [{}]\n", ports.join(", "), accelerate.join(", "));
    }

    /// Changes the router, and gives the `ip -6` commands that do the same. The last one adds
    /// [`Self::marker`].
    pub fn change(&mut self, rng: &mut Rng) -> String {
        let mut text = String::new();
        for _ in 0..rng.usize(3..12) {
            let at = rng.usize(PORTS..self.routes.len());
            match rng.u32(0..8) {
                0..=2 => {
                    let _ = writeln!(text, "{}", self.routes.remove(at).selector("del"));
                }
                3..=5 => {
                    if let Some(route) = self.new_route(rng) {
                        let _ = writeln!(text, "{}", route.command("add"));
                        self.routes.push(route);
                    }
                }
                6 => {
                    let port = rng.usize(0..PORTS);
                    let moved = neighbour(port, rng.u16(2..6), rng.bool());
                    let mac = mac(&[6, 0, 0, 1, byte(port), rng.u8(..)]);
                    let _ =
                        writeln!(text, "neighbour replace {moved} lladdr {mac} nud permanent dev p{port}");
                }
                _ if !self.rules.is_empty() => {
                    let rule = self.rules.remove(rng.usize(0..self.rules.len()));
                    let _ = writeln!(text, "{}", rule.replacen("add", "del", 1));
                }
                _ => {}
            }
        }
        let _ = writeln!(text, "route add blackhole {}", Self::marker());
        text
    }

    /// The prefix by which one sees that a change has arrived.
    pub fn marker() -> Ipv6Net {
        network([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0], 48)
    }
}

impl Choices for World6 {
    fn groups(&self, destination: IpAddr) -> Vec<Group> {
        let IpAddr::V6(destination) = destination else { return Vec::new() };
        let mut best: BTreeMap<u32, &Route6> = BTreeMap::new();
        for route in self.routes.iter().filter(|route| route.prefix.contains(&destination)) {
            let order = |route: &Route6| (route.prefix.prefix_len(), Reverse(route.metric));
            if best.get(&route.table).is_none_or(|known| order(known) < order(route)) {
                best.insert(route.table, route);
            }
        }
        best.into_values().filter_map(Route6::group).collect()
    }
}

/// A prefix that routes lead to.
fn prefix(rng: &mut Rng) -> Ipv6Net {
    let third = rng.u16(0..4);
    let fourth = rng.u16(0..16);
    let last = rng.u16(0..512);
    match rng.u32(0..16) {
        0 => network([0; 8], 0),
        1 => network([0xfd00, 0, 0, 0, 0, 0, 0, 0], 16),
        2 => network([0xfd00, 0x233, third, 0, 0, 0, 0, 0], 48),
        3..=7 => network([0xfd00, 0x233, third, fourth, 0, 0, 0, 0], 64),
        8..=10 => network([0xfd00, 0x233, third, fourth, 0, 0, 0, last], 122),
        11 => network([0xfd00, 0x233, third, fourth, 0, 0, 0, last], 128),
        12 => network([0xfd00, 0x233, third, fourth, 0x8000, 0, 0, last], *choose(rng, &[65, 96, 127])),
        13 => network([0x2001, 0xdb8, 0x10 + third, 0, 0, 0, 1, last], *choose(rng, &[112, 128])),
        14 => network([0x2001, 0xdb8, 0xa0 + third, fourth, 0, 0, 0, 0], 64),
        _ => network([0x2001, 0xdb8, 0xc0 + fourth, 0, 0, 0, 0, 0], 48),
    }
}
