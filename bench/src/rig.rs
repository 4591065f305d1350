//! The veth rig: generator, router and sink, each in a private network namespace.
//!
//! The router has one ingress port per column, so that no pass has to attach or detach anything, and one
//! egress port to the sink:
//!
//! ```text
//! generator            router             sink
//!   kernel     ----->  in-kernel     \
//!   fib-helper ----->  in-fib-helper  \
//!   lpm-trie   ----->  in-lpm-trie     > out -----> sink
//!   underpass  ----->  in-underpass   /
//!   strict     ----->  in-strict     /
//!   floor      ----->  in-floor     /
//! ```

mod hairpin;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use ipnet::IpNet;
use underpass_common::bench::{NEXT_HOP_MAC, NEXT_HOPS};
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;

use crate::column::Column;
use crate::routes::{Family, RouteSet, Routes};

/// Number of the egress subnet; the ingress subnets have the columns' numbers.
const EGRESS_SUBNET: u8 = 100;
/// Queues of every link: with as many as processors, each processor stays with its own.
const QUEUES: u8 = 2;
/// The router's egress port.
pub const EGRESS: &str = "out";
/// MAC address of the router's egress port.
pub const EGRESS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x52, 0xff];

/// A column's way through the rig.
#[derive(Clone, Debug)]
pub struct Path {
    /// Who forwards.
    pub column: Column,
    /// Where it forwards.
    pub router: Netns,
    /// The generator's device.
    pub device: String,
    /// The router's port for what comes in.
    pub ingress: String,
    /// The router's port for what goes out.
    pub egress: String,
    /// MAC address of the generator's device.
    pub generator_mac: [u8; 6],
    /// MAC address of the ingress port.
    pub router_mac: [u8; 6],
    /// MAC address of the egress port.
    pub egress_mac: [u8; 6],
    /// The address that the frames come from, and the network that the router knows it by.
    pub source: (IpAddr, IpNet),
}

/// Namespaces, links, addresses, neighbours and routes. Everything is gone when it is dropped.
pub struct Rig {
    /// Owner of the namespaces.
    pub lab: Lab,
    /// Where the frames come from.
    pub generator: Netns,
    /// Where the frames arrive: namespaces and devices.
    pub sinks: Vec<(Netns, String)>,
    /// The columns' ways.
    pub paths: Vec<Path>,
    /// What the routers' kernels have.
    pub routes: Routes,
    /// How long the kernel took to learn the routes.
    pub installed_in: Duration,
}

impl Rig {
    /// Raises the rig with these columns and routes.
    ///
    /// # Errors
    /// A namespace, link, address or route cannot be made.
    pub fn raise(columns: &[Column], routes: Routes) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        lab.add_machines(&["generator", "router", "sink"])?;
        let [generator, router, sink] = ["generator", "router", "sink"].map(|machine| lab.netns(machine));
        let family = routes.set.family;
        for namespace in [&generator, &router, &sink] {
            namespace.sysctl(&QUIET)?;
        }
        make_router(&router, family)?;
        let paths: Vec<_> = columns.iter().map(|column| path(*column, &router, family)).collect();
        router.ip(&links(&paths, &generator, &sink, family))?;
        let far_ends: Vec<_> = paths.iter().map(|path| format!("link set {} up\n", path.device)).collect();
        generator.ip(&far_ends.concat())?;
        sink.ip("link set sink up\n")?;
        for path in paths.iter().filter(|path| path.column == Column::Strict) {
            router.sysctl(&[(&format!("ipv4.conf.{}.rp_filter", path.ingress), "1")])?;
        }
        for path in paths.iter().filter(|path| path.column.is_kernel()) {
            take_frames(path)?;
        }
        let started = Instant::now();
        router
            .ip(&route_commands(&routes, EGRESS))
            .with_context(|| format!("cannot install {}", routes.set))?;
        let installed_in = started.elapsed();
        Ok(Self { lab, generator, sinks: vec![(sink, "sink".to_owned())], paths, routes, installed_in })
    }

    /// The way of a column.
    ///
    /// # Errors
    /// The rig has none.
    pub fn path(&self, column: Column) -> anyhow::Result<&Path> {
        let found = self.paths.iter().find(|path| path.column == column);
        found.with_context(|| format!("the rig has no column {}", column.label()))
    }

    /// The columns.
    pub fn columns(&self) -> Vec<Column> {
        self.paths.iter().map(|path| path.column).collect()
    }

    /// What the routes are like.
    pub const fn set(&self) -> RouteSet {
        self.routes.set
    }
}

impl Path {
    /// Packets that the router's kernel has forwarded since it was made.
    ///
    /// # Errors
    /// `/proc/net/snmp` cannot be read.
    pub fn forwarded_by_kernel(&self, family: Family) -> anyhow::Result<u64> {
        let read = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            self.router
                .enter(|| std::fs::read_to_string(&path))?
                .with_context(|| format!("cannot read {path}"))
        };
        match family {
            Family::Ipv4 => forwarded(&read("snmp")?).context("/proc/net/snmp has no ForwDatagrams"),
            Family::Ipv6 => forwarded6(&read("snmp6")?).context("/proc/net/snmp6 has no Ip6OutForwDatagrams"),
        }
    }
}

/// Keeps a namespace from sending anything by itself, and source checks the same for every column.
pub const QUIET: [(&str, &str); 4] = [
    ("ipv6.conf.all.disable_ipv6", "1"),
    ("ipv6.conf.default.disable_ipv6", "1"),
    ("ipv4.conf.all.rp_filter", "0"),
    ("ipv4.conf.default.rp_filter", "0"),
];

/// Has a quiet namespace forward a family.
///
/// # Errors
/// A setting is refused.
pub fn make_router(router: &Netns, family: Family) -> anyhow::Result<()> {
    match family {
        Family::Ipv4 => router.sysctl(&[("ipv4.ip_forward", "1")]),
        Family::Ipv6 => router.sysctl(&[
            ("ipv6.conf.all.disable_ipv6", "0"),
            ("ipv6.conf.default.disable_ipv6", "0"),
            ("ipv6.conf.all.forwarding", "1"),
            ("ipv6.conf.default.accept_dad", "0"),
            ("ipv6.conf.default.addr_gen_mode", "1"),
        ]),
    }
}

/// Has the port of a path without a program take XDP frames: a program on it switches the veth's NAPI on,
/// and so does GRO, which real network cards have on.
///
/// # Errors
/// `ethtool` fails.
pub fn take_frames(path: &Path) -> anyhow::Result<()> {
    path.router.run("ethtool", ["-K", &path.ingress, "gro", "on"]).map(drop)
}

/// The way of a column with the egress port that all share.
fn path(column: Column, router: &Netns, family: Family) -> Path {
    let number = column.number();
    Path {
        column,
        router: router.clone(),
        device: column.label().to_owned(),
        ingress: column.port(),
        egress: EGRESS.to_owned(),
        generator_mac: [0x02, 0, 0, 0, 0x47, number],
        router_mac: [0x02, 0, 0, 0, 0x52, number],
        egress_mac: EGRESS_MAC,
        source: (subnet_host(family, number, 2), subnet(family, number)),
    }
}

/// Subnet `number` of the rig: in 198.18/15 and `2001:2::/48`, which are there for benchmarks (RFC 2544,
/// RFC 5180).
pub fn subnet(family: Family, number: u8) -> IpNet {
    let length = if family == Family::Ipv4 { 24 } else { 64 };
    IpNet::new_assert(subnet_host(family, number, 0), length)
}

/// An address of subnet `number`.
pub fn subnet_host(family: Family, number: u8, host: u8) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(198, 18, number, host)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, u16::from(number), 0, 0, 0, u16::from(host))),
    }
}

/// Address of a next hop.
pub fn next_hop(family: Family, number: u32) -> IpAddr {
    subnet_host(family, EGRESS_SUBNET, 16 + number.to_le_bytes()[0])
}

/// The router's `ip` commands for its ports, addresses and neighbours.
fn links(paths: &[Path], generator: &Netns, sink: &Netns, family: Family) -> String {
    let mut lines = String::new();
    for path in paths {
        let far_mac = mac_text(path.generator_mac);
        let peer = format!("name {} address {far_mac}", path.device);
        lines += &port(&path.ingress, path.router_mac, &peer, generator);
        lines += &port_address(&path.ingress, family, path.column.number());
    }
    lines += &port(EGRESS, EGRESS_MAC, "name sink", sink);
    lines += &port_address(EGRESS, family, EGRESS_SUBNET);
    lines += &neighbours(EGRESS, family);
    lines
}

/// Commands for a veth with as many queues as processors are used.
pub fn port(name: &str, mac: [u8; 6], peer: &str, far: &Netns) -> String {
    let (mac, queues) = (mac_text(mac), format!("numtxqueues {QUEUES} numrxqueues {QUEUES}"));
    format!("link add {name} address {mac} {queues} type veth peer {peer} {queues} netns {}\n", far.name())
}

/// Commands that give a port the first address of a subnet and switch it on.
fn port_address(name: &str, family: Family, number: u8) -> String {
    let (address, length) = (subnet_host(family, number, 1), subnet(family, number).prefix_len());
    format!("link set {name} up\naddress add {address}/{length} dev {name}\n")
}

/// Commands that make the next hops known on a port.
pub fn neighbours(port: &str, family: Family) -> String {
    let mut lines = String::new();
    for number in 0..NEXT_HOPS {
        let (address, mac) = (next_hop(family, number), mac_text(next_hop_mac(number)));
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "neigh add {address} lladdr {mac} dev {port} nud permanent");
    }
    lines
}

/// Commands that install all routes by a port.
pub fn route_commands(routes: &Routes, port: &str) -> String {
    let mut lines = String::with_capacity(routes.prefixes.len() * 56);
    for (prefix, number) in routes.with_next_hops() {
        let _ = writeln!(lines, "route add {prefix} via {} dev {port}", next_hop(routes.set.family, number));
    }
    lines
}

/// `ForwDatagrams` of `/proc/net/snmp`: a line of names, then a line of values, both starting with `Ip:`.
fn forwarded(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names.split(' ').position(|name| name == "ForwDatagrams")?;
    values.split(' ').nth(column)?.parse().ok()
}

/// `Ip6OutForwDatagrams` of `/proc/net/snmp6`: a name and a value per line.
fn forwarded6(snmp6: &str) -> Option<u64> {
    let value = snmp6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"))?;
    value.trim().parse().ok()
}

/// MAC address of a next hop.
pub fn next_hop_mac(number: u32) -> [u8; 6] {
    let mut mac = [0; 6];
    mac[..5].copy_from_slice(&NEXT_HOP_MAC);
    mac[5] = number.to_le_bytes()[0];
    mac
}

/// A MAC address as `ip` takes it.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::{forwarded, forwarded6, mac_text, next_hop, next_hop_mac, subnet};
    use crate::routes::Family;

    #[test]
    fn forwarded_packets_of_the_kernel() {
        let snmp =
            "Ip: Forwarding DefaultTTL InReceives ForwDatagrams\nIp: 1 64 10 7\nIcmp: InMsgs\nIcmp: 0\n";
        assert_eq!(forwarded(snmp), Some(7));
        assert_eq!(forwarded("Icmp: InMsgs\nIcmp: 0\n"), None);
        let snmp6 = "Ip6InReceives   \t10\nIp6OutForwDatagrams             \t9\n";
        assert_eq!(forwarded6(snmp6), Some(9));
        assert_eq!(forwarded6("Ip6InReceives 10\n"), None);
    }

    #[test]
    fn next_hop_macs_are_what_the_sink_expects() {
        assert_eq!(mac_text(next_hop_mac(0)), "02:00:00:00:4e:00");
        assert_eq!(mac_text(next_hop_mac(15)), "02:00:00:00:4e:0f");
    }

    #[test]
    fn addresses_of_the_rig() {
        assert_eq!(next_hop(Family::Ipv4, 15).to_string(), "198.18.100.31");
        assert_eq!(next_hop(Family::Ipv6, 0).to_string(), "2001:2:0:64::10");
        assert_eq!(subnet(Family::Ipv6, 3).to_string(), "2001:2:0:3::/64");
    }
}
