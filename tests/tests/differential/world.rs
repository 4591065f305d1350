//! A random router: addresses, neighbours, routes, rules and settings that the two twins have in common.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use ipnet::{IpNet, Ipv4Net};
use underpass_tests::twin::{Plan, PortPlan, mac};

use crate::choice::{Choices, Group};
use crate::route::{Kind, Neighbour, Route, neighbour_mac};

/// Ports of a router.
pub const PORTS: usize = 4;
/// Tables besides main that rules lead to.
const TABLES: [u32; 3] = [100, 101, 102];
const MAIN: u32 = 254;
/// MTUs of ports.
pub const MTUS: [u32; 6] = [1500, 1500, 1500, 1400, 2000, 1280];

/// A whole router.
#[derive(Clone, Debug)]
pub struct World {
    pub plan: Plan,
    pub routes: Vec<Route>,
    /// Prefixes that destinations are drawn from.
    pub destinations: Vec<Ipv4Net>,
    /// Those of them that have neighbours and are in the ranges that Underpass always has.
    pub forwarded: Vec<Ipv4Net>,
    /// Prefixes that sources are drawn from, by the port that leads to them.
    pub sources: [Vec<Ipv4Net>; PORTS],
    /// On-link networks by port.
    pub on_link: [Vec<Ipv4Net>; PORTS],
    /// The rules, for people.
    pub rules: Vec<String>,
}

/// The network of a port.
fn subnet(port: usize) -> Ipv4Net {
    network([10, 10 + byte(port), 0, 0], 16)
}

pub fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("below 256")
}

fn network(address: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new(address.into(), length).expect("a length").trunc()
}

/// Hosts 2 to 5 of a port's network have MAC addresses; 6 has failed, and 7 is unknown.
fn neighbour(port: usize, host: u8) -> Neighbour {
    Neighbour { port, address: [10, 10 + byte(port), 0, host].into() }
}

impl World {
    /// The world of a seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut world = Self {
            plan: Plan::default(),
            routes: Vec::new(),
            destinations: Vec::new(),
            forwarded: Vec::new(),
            sources: Default::default(),
            on_link: Default::default(),
            rules: Vec::new(),
        };
        world.ports(&mut rng);
        world.settings(&mut rng);
        world.neighbours(&mut rng);
        world.reverse_routes(&mut rng);
        world.forward_routes(&mut rng);
        world.write_routes(&mut rng);
        world.write_rules(&mut rng);
        world.configure(&mut rng);
        world
    }

    fn ports(&mut self, rng: &mut Rng) {
        let mut commands = String::new();
        for port in 0..PORTS {
            self.plan.ports.push(PortPlan { name: format!("p{port}"), mtu: *choose(rng, &MTUS) });
            let mut add = |address: [u8; 4], length: u8, own: &mut Vec<IpNet>| {
                let address = Ipv4Addr::from(address);
                let _ = writeln!(commands, "address add {address}/{length} broadcast + dev p{port}");
                own.push(IpAddr::from(address).into());
            };
            let second = 10 + byte(port);
            add([10, second, 0, 1], 16, &mut self.plan.own);
            self.on_link[port].push(subnet(port));
            if chance(rng, 30) {
                add([10, second, 0, 9], 16, &mut self.plan.own);
            }
            if chance(rng, 50) {
                add([172, 16, byte(port), 1], 24, &mut self.plan.own);
                self.on_link[port].push(network([172, 16, byte(port), 0], 24));
            }
        }
        let _ = writeln!(commands, "address add 10.255.0.1/32 dev lo");
        self.plan.own.push(IpAddr::from([10, 255, 0, 1]).into());
        self.plan.commands = commands;
    }

    fn settings(&mut self, rng: &mut Rng) {
        let mut set = |key: String, value: u32| self.plan.sysctls.push((key, value.to_string()));
        for port in 0..PORTS {
            let conf = |name: &str| format!("ipv4.conf.p{port}.{name}");
            set(conf("rp_filter"), rng.u32(0..3));
            set(conf("send_redirects"), rng.u32(0..2));
            set(conf("shared_media"), rng.u32(0..2));
            set(conf("accept_local"), u32::from(chance(rng, 15)));
            set(conf("forwarding"), u32::from(!chance(rng, 4)));
            set(conf("proxy_arp"), u32::from(chance(rng, 20)));
            set(conf("src_valid_mark"), u32::from(chance(rng, 20)));
            set(conf("ignore_routes_with_linkdown"), u32::from(chance(rng, 30)));
        }
        let all = |name: &str| format!("ipv4.conf.all.{name}");
        set(all("rp_filter"), if chance(rng, 15) { rng.u32(1..3) } else { 0 });
        set(all("send_redirects"), u32::from(chance(rng, 30)));
        set(all("shared_media"), u32::from(chance(rng, 50)));
        set("ipv4.ip_forward_use_pmtu".to_owned(), u32::from(chance(rng, 30)));
        set("ipv4.ip_forward_update_priority".to_owned(), rng.u32(0..2));
        set("ipv4.fib_multipath_hash_policy".to_owned(), rng.u32(0..3));
        set("ipv4.fib_multipath_use_neigh".to_owned(), rng.u32(0..2));
        set("ipv4.icmp_errors_use_inbound_ifaddr".to_owned(), rng.u32(0..2));
    }

    fn neighbours(&mut self, rng: &mut Rng) {
        for port in 0..PORTS {
            for host in 2..=5 {
                let found = neighbour(port, host);
                let state = *choose(rng, &["permanent", "permanent", "stale", "reachable"]);
                let mac = mac(&neighbour_mac(found));
                let _ = writeln!(
                    self.plan.commands,
                    "neighbour add {} lladdr {mac} nud {state} dev p{port}",
                    found.address
                );
            }
            let failed = neighbour(port, 6).address;
            // Not for the kernel to collect (`NTF_EXT_LEARNED`): with `fib_multipath_use_neigh` an entry that is
            // gone counts as reachable, and it would be gone in one of the routers first.
            let _ =
                writeln!(self.plan.commands, "neighbour add {failed} nud failed extern_learn dev p{port}");
        }
    }

    /// Remote networks behind each port, wide enough that every frame has a source of its own: the kernel
    /// limits some ICMP errors by address.
    fn reverse_routes(&mut self, rng: &mut Rng) {
        for port in 0..PORTS {
            let prefix = network([100, 64 + byte(port), 0, 0], 16);
            self.sources[port].push(prefix);
            let other = (port + 1) % PORTS;
            let same_mtu = self.plan.ports[port].mtu == self.plan.ports[other].mtu;
            let kind = if chance(rng, 40) && same_mtu {
                Kind::Via(vec![(neighbour(port, 2), 1), (neighbour(other, 3), 1)])
            } else {
                Kind::Via(vec![(neighbour(port, rng.u8(2..6)), 1)])
            };
            self.routes.push(Route { table: MAIN, prefix, metric: 0, tos: None, kind, mtu: None });
        }
    }

    fn forward_routes(&mut self, rng: &mut Rng) {
        for _ in 0..rng.usize(30..60) {
            if let Some(route) = self.new_route(rng) {
                self.routes.push(route);
            }
        }
    }

    /// A route beside those that are there.
    fn new_route(&mut self, rng: &mut Rng) -> Option<Route> {
        let prefix = prefix(rng);
        let table = if chance(rng, 60) { MAIN } else { *choose(rng, &TABLES) };
        let metric = if chance(rng, 8) { rng.u32(1..3) } else { 0 };
        let tos = chance(rng, 3).then_some(0x10);
        let same = |known: &Route| known.key() == (table, prefix, metric, tos);
        if self.routes.iter().any(same) {
            return None;
        }
        let (kind, mtu) = self.way(rng, prefix);
        Some(Route { table, prefix, metric, tos, kind, mtu })
    }

    /// What a route does, noted where frames have to know.
    fn way(&mut self, rng: &mut Rng, prefix: Ipv4Net) -> (Kind, Option<(u32, bool)>) {
        let kind = self.kind(rng, prefix);
        let via = matches!(kind, Kind::Via(_));
        let mtu =
            (via && chance(rng, 12)).then(|| (*choose(rng, &[1300, 1400, 1450, 9000]), chance(rng, 50)));
        if kind == Kind::Special("local") {
            self.plan.own.push(prefix.into());
        }
        if via && matches!(prefix.addr().octets(), [10, 233, ..] | [192, ..]) {
            self.forwarded.push(prefix);
        }
        if prefix.prefix_len() > 0 {
            self.destinations.push(prefix);
        }
        (kind, mtu)
    }

    /// Changes the router, and gives the commands that do the same. The last one adds [`Self::marker`].
    pub fn change(&mut self, rng: &mut Rng) -> String {
        let mut text = String::new();
        for _ in 0..rng.usize(3..16) {
            // Reverse routes stay.
            let at = rng.usize(PORTS..self.routes.len());
            match rng.u32(0..12) {
                0..=3 => {
                    let _ = writeln!(text, "{}", self.routes.remove(at).selector("del"));
                }
                4..=6 => {
                    if let Some(route) = self.new_route(rng) {
                        let _ = writeln!(text, "{}", route.command("add", " onlink", ""));
                        self.routes.push(route);
                    }
                }
                7 | 8 => {
                    let prefix = self.routes[at].prefix;
                    (self.routes[at].kind, self.routes[at].mtu) = self.way(rng, prefix);
                    let _ = writeln!(text, "{}", self.routes[at].command("replace", " onlink", ""));
                }
                9 => {
                    let port = rng.usize(0..PORTS);
                    let moved = neighbour(port, rng.u8(2..6)).address;
                    let mac = mac(&[6, 0, 0, 1, byte(port), rng.u8(..)]);
                    let _ =
                        writeln!(text, "neighbour replace {moved} lladdr {mac} nud permanent dev p{port}");
                }
                10 if !self.rules.is_empty() => {
                    let rule = self.rules.remove(rng.usize(0..self.rules.len()));
                    let _ = writeln!(text, "{}", rule.replacen("add", "del", 1));
                }
                _ => {
                    let preference = 3000 + u32::try_from(text.len()).expect("short");
                    let port = rng.usize(0..PORTS);
                    let rule = format!(
                        "rule add preference {preference} iif p{port} lookup {}",
                        choose(rng, &TABLES)
                    );
                    let _ = writeln!(text, "{rule}");
                    self.rules.push(rule);
                }
            }
        }
        let _ = writeln!(text, "route add blackhole {}", Self::marker());
        text
    }

    /// The prefix by which one sees that a change has arrived.
    pub fn marker() -> Ipv4Net {
        network([198, 18, 0, 0], 24)
    }

    fn kind(&self, rng: &mut Rng, prefix: Ipv4Net) -> Kind {
        let any = |rng: &mut Rng| neighbour(rng.usize(0..PORTS), rng.u8(2..6));
        match rng.u32(0..100) {
            0..=66 => Kind::Via(vec![(any(rng), 1)]),
            67..=69 => Kind::Via(vec![(neighbour(rng.usize(0..PORTS), rng.u8(6..8)), 1)]),
            70..=85 => self.group(rng),
            86..=88 if prefix.prefix_len() >= 20 => Kind::OnLink(rng.usize(0..PORTS)),
            89 if prefix.prefix_len() >= 24 => Kind::Special("local"),
            other => Kind::Special(["blackhole", "unreachable", "prohibit", "throw"][other as usize % 4]),
        }
    }

    /// Next hops by ports of one MTU: what is too long for one is too long for all.
    fn group(&self, rng: &mut Rng) -> Kind {
        let mtu = self.plan.ports[rng.usize(0..PORTS)].mtu;
        let mut members: Vec<(Neighbour, u8)> = Vec::new();
        for _ in 0..rng.usize(2..5) {
            let port = rng.usize(0..PORTS);
            let member = neighbour(port, if chance(rng, 10) { 6 } else { rng.u8(2..6) });
            if self.plan.ports[port].mtu == mtu && !members.iter().any(|(known, _)| *known == member) {
                members.push((member, rng.u8(1..4)));
            }
        }
        if members.is_empty() { Kind::Special("blackhole") } else { Kind::Via(members) }
    }

    fn write_routes(&mut self, rng: &mut Rng) {
        for (id, route) in self.routes.iter().enumerate() {
            let mut hops = String::new();
            if let Kind::Via(members) = &route.kind
                && members.len() > 1
                && chance(rng, 25)
            {
                // The same by a nexthop object.
                let ids: Vec<usize> = (0..members.len()).map(|member| 1000 + id * 10 + member).collect();
                for (member, (hop, _)) in ids.iter().zip(members) {
                    let _ = writeln!(
                        self.plan.commands,
                        "nexthop add id {member} via {} dev p{}",
                        hop.address, hop.port
                    );
                }
                let group: Vec<_> =
                    ids.iter().zip(members).map(|(id, (_, weight))| format!("{id},{weight}")).collect();
                let group_id = 1000 + id * 10 + 9;
                let _ = writeln!(self.plan.commands, "nexthop add id {group_id} group {}", group.join("/"));
                hops = format!(" nhid {group_id}");
            }
            let _ = writeln!(self.plan.commands, "{}", route.command("add", "", &hops));
        }
    }

    fn write_rules(&mut self, rng: &mut Rng) {
        // Rules that look at more than port and destination leave much to the kernel.
        let selectors = if chance(rng, 30) { 0..38 } else { 16..38 };
        for number in 0..rng.u32(0..6) {
            let preference = 1000 + 100 * number;
            let table = *choose(rng, &TABLES);
            let port = rng.usize(0..PORTS);
            let to = prefix(rng);
            let from = self.sources[port][0];
            let refuse = *choose(rng, &["blackhole", "unreachable", "prohibit"]);
            let text = match rng.u32(selectors.clone()) {
                0 | 1 | 16..=18 | 26..=31 => format!("iif p{port} lookup {table}"),
                2 | 3 | 19..=21 | 32..=37 => format!("to {to} lookup {table}"),
                4 => format!("from {from} lookup {table}"),
                5 => format!("from {from} to {to} lookup {table}"),
                6 => format!("fwmark 0x1 lookup {table}"),
                7 => format!("not fwmark 0x1 lookup {table}"),
                8 | 22 | 23 => format!("lookup main suppress_prefixlength {}", choose(rng, &[0, 18, 24])),
                9 | 24 => format!("goto {}", preference + choose(rng, &[100, 150, 200])),
                10 if to.prefix_len() > 0 => format!("to {to} {refuse}"),
                11 => format!("tos 0x10 lookup {table}"),
                12 => format!("ipproto udp lookup {table}"),
                13 => format!("dport 5000-6000 ipproto tcp lookup {table}"),
                14 => format!("oif p{port} lookup {table}"),
                _ => format!("not from {from} lookup {table}"),
            };
            let text = format!("rule add preference {preference} {text}");
            self.rules.push(text);
        }
        for rule in &self.rules {
            let _ = writeln!(self.plan.commands, "{rule}");
        }
    }

    fn configure(&mut self, rng: &mut Rng) {
        let unmanaged = chance(rng, 25).then(|| rng.usize(0..PORTS));
        let ports: Vec<_> =
            (0..PORTS).filter(|port| unmanaged != Some(*port)).map(|port| format!("\"p{port}\"")).collect();
        let mut accelerate = vec!["\"10.233.0.0/16\"", "\"192.168.0.0/16\""];
        for (percent, range) in
            [(70, "\"203.0.113.0/24\""), (70, "\"10.8.0.0/13\""), (50, "\"100.64.0.0/10\"")]
        {
            if chance(rng, percent) {
                accelerate.push(range);
            }
        }
        let services = if chance(rng, 40) { "service_ranges = [\"10.233.0.0/18\"]\n" } else { "" };
        self.plan.sections = format!(
            "[datapath]\nports = [{}]\naccelerate = [{}]\n{services}",
            ports.join(", "),
            accelerate.join(", ")
        );
    }
}

impl Choices for World {
    fn groups(&self, destination: IpAddr) -> Vec<Group> {
        let IpAddr::V4(destination) = destination else { return Vec::new() };
        let mut best: BTreeMap<u32, &Route> = BTreeMap::new();
        let covering = self.routes.iter().filter(|route| route.prefix.contains(&destination));
        for route in covering.filter(|route| route.tos.is_none()) {
            let order = |route: &Route| (route.prefix.prefix_len(), Reverse(route.metric));
            if best.get(&route.table).is_none_or(|known| order(known) < order(route)) {
                best.insert(route.table, route);
            }
        }
        best.into_values().filter_map(Route::group).collect()
    }
}

/// A prefix that routes lead to: overlapping ones are likely.
fn prefix(rng: &mut Rng) -> Ipv4Net {
    match rng.u32(0..20) {
        0 => network([0; 4], 0),
        1 => network([10, 233, 0, 0], 16),
        2 => network([10, 233, 64, 0], 18),
        3..=8 => network([10, 233, rng.u8(64..80), rng.u8(0..4) * 64], 26),
        9 => network([10, 233, rng.u8(0..64), rng.u8(..)], *choose(rng, &[20, 24, 32])),
        10 | 11 => network([10, 233, rng.u8(64..80), rng.u8(..)], *choose(rng, &[22, 24, 28, 30, 31, 32])),
        12..=15 => network([192, 168, rng.u8(0..16), 0], 24),
        16 => network([192, 168, rng.u8(0..16), rng.u8(..)], 32),
        17 => network([203, 0, 113, rng.u8(..)], *choose(rng, &[24, 25, 28, 32])),
        // Inside of an on-link network.
        18 => network([10, 10 + rng.u8(0..4), rng.u8(..), rng.u8(..)], *choose(rng, &[24, 32])),
        _ => network([100, 64 + rng.u8(0..4), rng.u8(..), 0], *choose(rng, &[24, 20])),
    }
}

/// True in so many of a hundred cases.
pub fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(0..100) < percent
}

/// One of several.
pub fn choose<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(0..all.len())]
}
