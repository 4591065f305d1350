//! Prefixes with lengths and overlaps like those of the Internet's routing table.
//!
//! The lengths follow the shape of public BGP tables of the last years, rounded; a part of the prefixes
//! is drawn inside a shorter one of the set, which is how more specifics come about. No prefix of it is
//! anybody's.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Family, address, bits, low_bits, masked, width};
use crate::random::SplitMix64;

/// Prefix lengths and their weights, of 10,000. A few are longer than what the default-free zone takes.
const LENGTHS4: &[(u8, u32)] = &[
    (8, 1),
    (9, 1),
    (10, 3),
    (11, 9),
    (12, 27),
    (13, 55),
    (14, 110),
    (15, 190),
    (16, 1270),
    (17, 750),
    (18, 1260),
    (19, 2300),
    (20, 4200),
    (21, 4900),
    (22, 11_000),
    (23, 9_900),
    (24, 63_000),
    (25, 100),
    (26, 120),
    (27, 100),
    (28, 100),
    (29, 150),
    (30, 150),
    (32, 304),
];
const LENGTHS6: &[(u8, u32)] = &[
    (20, 10),
    (24, 30),
    (28, 120),
    (29, 2200),
    (30, 300),
    (31, 200),
    (32, 12_000),
    (33, 2200),
    (34, 1800),
    (35, 800),
    (36, 4500),
    (38, 800),
    (40, 10_000),
    (42, 1500),
    (44, 10_500),
    (45, 1000),
    (46, 2500),
    (47, 2800),
    (48, 46_000),
    (56, 340),
    (64, 400),
];

/// Share of prefixes that are drawn inside a shorter one, in percent.
const INSIDE_ANOTHER: u32 = 50;

/// First bytes of ranges that the agent refuses to accelerate: loopback and link-local addresses.
const NEVER_FORWARDED4: [u8; 2] = [127, 169];

/// What IPv4 prefixes keep clear of: ranges that are not routed, private ranges, and the rig's own.
const RESERVED4: [Ipv4Net; 8] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Ranges that registries allocate IPv6 from. `2001::/16` is left out: the rig's own addresses are there.
const POOLS6: [Ipv6Net; 5] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0x2400, 0, 0, 0, 0, 0, 0, 0), 12),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 0), 12),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2800, 0, 0, 0, 0, 0, 0, 0), 12),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 0), 12),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2c00, 0, 0, 0, 0, 0, 0, 0), 12),
];

/// Ranges that hold all prefixes.
pub fn ranges(family: Family) -> Vec<IpNet> {
    match family {
        Family::Ipv4 => {
            let parts = (1..=223).map(|byte| Ipv4Net::new_assert(Ipv4Addr::new(byte, 0, 0, 0), 8));
            let routed: Vec<_> =
                parts.filter(|part| !NEVER_FORWARDED4.contains(&part.addr().octets()[0])).collect();
            Ipv4Net::aggregate(&routed).into_iter().map(IpNet::V4).collect()
        }
        Family::Ipv6 => POOLS6.map(IpNet::V6).to_vec(),
    }
}

/// `count` different prefixes in a random order.
pub fn prefixes(family: Family, count: u32, random: &mut SplitMix64) -> Vec<IpNet> {
    let (lengths, longest) = match family {
        Family::Ipv4 => (LENGTHS4, 24),
        Family::Ipv6 => (LENGTHS6, 48),
    };
    let mut seen = HashSet::new();
    let mut prefixes = Vec::with_capacity(count as usize);
    // Those that others may be drawn inside of.
    let mut covering: Vec<IpNet> = Vec::new();
    while prefixes.len() < count as usize {
        let length = weighted(lengths, random);
        let inside =
            (random.below(100) < INSIDE_ANOTHER).then(|| shorter(&covering, length, random)).flatten();
        let prefix = within(inside.unwrap_or_else(|| anywhere(family, random)), length, random);
        if is_reserved(prefix) || !seen.insert(prefix) {
            continue;
        }
        if length < longest {
            covering.push(prefix);
        }
        prefixes.push(prefix);
    }
    // More specifics came after what covers them.
    random.shuffle(&mut prefixes);
    prefixes
}

/// A length, by weight.
fn weighted(lengths: &[(u8, u32)], random: &mut SplitMix64) -> u8 {
    let mut left = random.below(lengths.iter().map(|(_, weight)| weight).sum());
    for (length, weight) in lengths {
        if left < *weight {
            return *length;
        }
        left -= weight;
    }
    lengths[0].0
}

/// One of `covering` that is shorter than `length`, when a few tries find one.
fn shorter(covering: &[IpNet], length: u8, random: &mut SplitMix64) -> Option<IpNet> {
    let count = u32::try_from(covering.len()).ok().filter(|count| *count > 0)?;
    (0..8).map(|_| covering[random.below(count) as usize]).find(|prefix| prefix.prefix_len() < length)
}

/// A range to draw a prefix from that lies in no other.
fn anywhere(family: Family, random: &mut SplitMix64) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(POOLS6[random.below(5) as usize]),
    }
}

/// A random prefix of `length` inside `range`.
fn within(range: IpNet, length: u8, random: &mut SplitMix64) -> IpNet {
    let width = width(range.addr());
    let inside = low_bits(random, width - range.prefix_len());
    let start = address(masked(bits(range.addr()) | inside, length, width), width);
    IpNet::new_assert(start, length)
}

/// Whether a prefix covers or lies in a range that is not to be routed.
fn is_reserved(prefix: IpNet) -> bool {
    let IpNet::V4(prefix) = prefix else { return false };
    RESERVED4.iter().any(|range| range.contains(&prefix) || prefix.contains(range))
}
