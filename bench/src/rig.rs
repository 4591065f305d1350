//! The veth rig: generator, router and sink, each in a private network namespace.
//!
//! The router has one ingress port per column, so that no pass has to attach or detach anything, and one
//! egress port to the sink:
//!
//! ```text
//! generator            router             sink
//!   kernel     ----->  in-kernel  \
//!   fib-helper ----->  in-fib      \
//!   underpass  ----->  in-underpass > out -----> sink
//!   floor      ----->  in-floor    /
//! ```

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Context;
use ipnet::Ipv4Net;
use underpass_common::bench::{DESTINATIONS, NEXT_HOP_MAC, NEXT_HOPS};
use underpass_tests::lab::Lab;
use underpass_tests::netns::Netns;

use crate::column::Column;
use crate::random::SplitMix64;

/// The range that all routes lie in.
pub const ROUTED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8);
/// Length of the routes' prefixes: what Calico hands out to a node.
const BLOCK_LENGTH: u8 = 26;
/// Blocks in [`ROUTED`].
pub const BLOCKS: u32 = 1 << (BLOCK_LENGTH - 8);
/// Third byte of the egress subnet; the ingress subnets have the columns' numbers.
const EGRESS_SUBNET: u8 = 100;
/// The router's egress port.
pub const EGRESS: &str = "out";

/// MAC address of the router's egress port.
pub const EGRESS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x52, 0xff];

/// Namespaces, links, addresses, neighbours and routes. Everything is gone when it is dropped.
pub struct Rig {
    /// Owner of the namespaces.
    pub lab: Lab,
    /// Where the frames come from.
    pub generator: Netns,
    /// The machine under test.
    pub router: Netns,
    /// Where the frames go.
    pub sink: Netns,
    /// Destinations inside the routes.
    pub destinations: Box<[Ipv4Addr]>,
}

/// MAC address of the generator's end of a column's link.
pub const fn generator_mac(column: Column) -> [u8; 6] {
    [0x02, 0, 0, 0, 0x47, column.number()]
}

/// MAC address of the router's end of a column's link.
pub const fn router_mac(column: Column) -> [u8; 6] {
    [0x02, 0, 0, 0, 0x52, column.number()]
}

/// The address that a column's frames come from: a host on the router's ingress subnet.
pub const fn source(column: Column) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, column.number(), 2)
}

/// Address of a next hop.
fn next_hop(number: u32) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(198, 18, EGRESS_SUBNET, 16));
    Ipv4Addr::from(first + number)
}

impl Rig {
    /// Raises the rig with `routes` random blocks of [`ROUTED`].
    ///
    /// # Errors
    /// A namespace, link, address or route cannot be made.
    pub fn raise(routes: u32, random: &mut SplitMix64) -> anyhow::Result<Self> {
        let lab = Lab::new()?;
        lab.add_machines(&["generator", "router", "sink"])?;
        let [generator, router, sink] = ["generator", "router", "sink"].map(|machine| lab.netns(machine));
        for namespace in [&generator, &router, &sink] {
            namespace.sysctl(&QUIET)?;
        }
        router.sysctl(&[("ipv4.ip_forward", "1")])?;
        router.ip(&links(&generator, &sink))?;
        let mut far_ends = String::new();
        for column in Column::ALL {
            line(&mut far_ends, format_args!("link set {} up", column.label()));
        }
        generator.ip(&far_ends)?;
        sink.ip("link set sink up\n")?;
        // The kernel takes XDP frames from a veth only by NAPI: a program on the port switches it on, and
        // so does GRO, which real network cards have on.
        router.run("ethtool", ["-K", Column::Kernel.port(), "gro", "on"])?;

        let blocks = random_blocks(routes, random);
        let mut lines = String::new();
        for (block, number) in blocks.iter().zip((0..NEXT_HOPS).cycle()) {
            line(&mut lines, format_args!("route add {block} via {} dev {EGRESS}", next_hop(number)));
        }
        router.ip(&lines).with_context(|| format!("cannot install {routes} routes"))?;
        let destinations = random_destinations(&blocks, random);
        Ok(Self { lab, generator, router, sink, destinations })
    }

    /// Packets that the router's kernel has forwarded since it was made.
    ///
    /// # Errors
    /// `/proc/net/snmp` cannot be read.
    pub fn forwarded_by_kernel(&self) -> anyhow::Result<u64> {
        let text = self.router.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
        forwarded(&text).context("/proc/net/snmp has no ForwDatagrams")
    }
}

/// Keeps a namespace from sending anything by itself, and source checks the same for every column.
const QUIET: [(&str, &str); 4] = [
    ("ipv6.conf.all.disable_ipv6", "1"),
    ("ipv6.conf.default.disable_ipv6", "1"),
    ("ipv4.conf.all.rp_filter", "0"),
    ("ipv4.conf.default.rp_filter", "0"),
];

/// The router's `ip` commands for its ports, addresses and neighbours.
fn links(generator: &Netns, sink: &Netns) -> String {
    let mut lines = String::new();
    let mut port = |name: &str, mac: [u8; 6], peer: String, subnet: u8| {
        let mac = mac_text(mac);
        line(&mut lines, format_args!("link add {name} address {mac} type veth peer {peer}"));
        line(&mut lines, format_args!("address add 198.18.{subnet}.1/24 dev {name}"));
        line(&mut lines, format_args!("link set {name} up"));
    };
    for column in Column::ALL {
        let far_mac = mac_text(generator_mac(column));
        let peer = format!("name {} address {far_mac} netns {}", column.label(), generator.name());
        port(column.port(), router_mac(column), peer, column.number());
    }
    port(EGRESS, EGRESS_MAC, format!("name sink netns {}", sink.name()), EGRESS_SUBNET);
    for number in 0..NEXT_HOPS {
        let (address, mac) = (next_hop(number), mac_text(next_hop_mac(number)));
        line(&mut lines, format_args!("neigh add {address} lladdr {mac} dev {EGRESS} nud permanent"));
    }
    lines
}

/// Adds a line. Writing to a String cannot fail.
fn line(lines: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(lines, "{text}");
}

/// `ForwDatagrams` of `/proc/net/snmp`: a line of names, then a line of values, both starting with `Ip:`.
fn forwarded(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names.split(' ').position(|name| name == "ForwDatagrams")?;
    values.split(' ').nth(column)?.parse().ok()
}

/// MAC address of a next hop.
pub fn next_hop_mac(number: u32) -> [u8; 6] {
    let mut mac = [0; 6];
    mac[..5].copy_from_slice(&NEXT_HOP_MAC);
    mac[5] = number.to_le_bytes()[0];
    mac
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// `count` different blocks of [`ROUTED`], in a random order.
fn random_blocks(count: u32, random: &mut SplitMix64) -> Vec<Ipv4Net> {
    let mut chosen = std::collections::BTreeSet::new();
    let mut blocks = Vec::new();
    while blocks.len() < count.min(BLOCKS) as usize {
        let number = random.below(BLOCKS);
        if chosen.insert(number) {
            let address = u32::from(ROUTED.network()) + (number << (32 - BLOCK_LENGTH));
            blocks.push(Ipv4Net::new_assert(Ipv4Addr::from(address), BLOCK_LENGTH));
        }
    }
    blocks
}

/// [`DESTINATIONS`] addresses, each a random host of a random block.
fn random_destinations(blocks: &[Ipv4Net], random: &mut SplitMix64) -> Box<[Ipv4Addr]> {
    let count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
    let host = |random: &mut SplitMix64| {
        let block = blocks[random.below(count) as usize];
        Ipv4Addr::from(u32::from(block.network()) + random.below(1 << (32 - BLOCK_LENGTH)))
    };
    (0..DESTINATIONS).map(|_| host(random)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ROUTED, forwarded, mac_text, next_hop_mac, random_blocks, random_destinations};
    use crate::random::SplitMix64;

    #[test]
    fn blocks_are_different_and_inside() {
        let blocks = random_blocks(10_000, &mut SplitMix64::new(1));
        assert_eq!(blocks.len(), 10_000);
        assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), 10_000);
        assert!(blocks.iter().all(|block| ROUTED.contains(block) && block.prefix_len() == 26));
    }

    #[test]
    fn destinations_are_inside_the_blocks_and_reach_all() {
        let mut random = SplitMix64::new(2);
        let blocks = random_blocks(100, &mut random);
        let destinations = random_destinations(&blocks, &mut random);
        assert_eq!(destinations.len(), 65_536);
        for block in &blocks {
            assert!(destinations.iter().any(|address| block.contains(address)), "{block} gets nothing");
        }
        assert!(destinations.iter().all(|address| blocks.iter().any(|block| block.contains(address))));
    }

    #[test]
    fn forwarded_packets_of_the_kernel() {
        let snmp =
            "Ip: Forwarding DefaultTTL InReceives ForwDatagrams\nIp: 1 64 10 7\nIcmp: InMsgs\nIcmp: 0\n";
        assert_eq!(forwarded(snmp), Some(7));
        assert_eq!(forwarded("Icmp: InMsgs\nIcmp: 0\n"), None);
    }

    #[test]
    fn next_hop_macs_are_what_the_sink_expects() {
        assert_eq!(mac_text(next_hop_mac(0)), "02:00:00:00:4e:00");
        assert_eq!(mac_text(next_hop_mac(15)), "02:00:00:00:4e:0f");
    }
}
