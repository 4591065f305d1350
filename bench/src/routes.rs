//! Route sets: what a size and a kind stand for, made from a seed. Pure.

mod internet;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use underpass_common::bench::NEXT_HOPS;

use crate::random::SplitMix64;

/// The range that IPv4 blocks lie in.
const BLOCKS4_RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8);
/// Length of an IPv4 block: what Calico hands out to a node.
const BLOCK4_LENGTH: u8 = 26;
/// The range that IPv6 blocks lie in, and how many /48 of it are used.
const BLOCKS6_RANGE: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0), 32);
const BLOCKS6_SITES: u32 = 4;
/// Lengths of IPv6 blocks, half of the set each: a subnet, and what Calico hands out to a node.
const BLOCK6_LENGTHS: [u8; 2] = [64, 122];

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What the prefixes of a set look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A cluster's: different blocks of one length (IPv4 /26) or two (IPv6 /64 and /122) in one range.
    Blocks,
    /// Lengths and overlaps like those of the Internet's table.
    Internet,
}

/// A route set, before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSet {
    /// Address family.
    pub family: Family,
    /// What the prefixes look like.
    pub kind: Kind,
    /// Number of prefixes.
    pub routes: u32,
}

impl RouteSet {
    /// A set.
    pub const fn new(family: Family, kind: Kind, routes: u32) -> Self {
        Self { family, kind, routes }
    }

    /// Most prefixes that a set of this kind and family can have.
    const fn most(self) -> u32 {
        match (self.kind, self.family) {
            // Half of the blocks of the range, so that random ones are found soon.
            (Kind::Blocks, Family::Ipv4) => 1 << (BLOCK4_LENGTH - 9),
            (Kind::Blocks, Family::Ipv6) => 1 << 17,
            (Kind::Internet, _) => 2_000_000,
        }
    }

    /// Name for charts and tables.
    pub fn label(self) -> String {
        let count = crate::report::thousands(self.routes);
        match (self.kind, self.family) {
            (Kind::Blocks, Family::Ipv4) => format!("{count} /{BLOCK4_LENGTH}"),
            (Kind::Blocks, Family::Ipv6) => format!("{count} IPv6"),
            (Kind::Internet, Family::Ipv4) => format!("{count} internet"),
            (Kind::Internet, Family::Ipv6) => format!("{count} internet IPv6"),
        }
    }

    /// Ranges that hold all prefixes of such a set: for `accelerate`.
    pub fn ranges(self) -> Vec<IpNet> {
        match (self.kind, self.family) {
            (Kind::Blocks, Family::Ipv4) => vec![IpNet::V4(BLOCKS4_RANGE)],
            (Kind::Blocks, Family::Ipv6) => vec![IpNet::V6(BLOCKS6_RANGE)],
            (Kind::Internet, family) => internet::ranges(family),
        }
    }

    /// Makes the routes.
    pub fn routes(self, random: &mut SplitMix64) -> Routes {
        let prefixes = match (self.kind, self.family) {
            (Kind::Blocks, Family::Ipv4) => blocks4(self.routes, random),
            (Kind::Blocks, Family::Ipv6) => blocks6(self.routes, random),
            (Kind::Internet, family) => internet::prefixes(family, self.routes, random),
        };
        Routes { set: self, prefixes }
    }
}

/// As on the command line: `blocks4:10000`, `internet6:200000`.
impl fmt::Display for RouteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Blocks => "blocks",
            Kind::Internet => "internet",
        };
        let family = match self.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        };
        write!(f, "{kind}{family}:{}", self.routes)
    }
}

impl FromStr for RouteSet {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, routes) = text.split_once(':').context("a route set is KIND:NUMBER, as blocks4:10000")?;
        let (kind, family) = match name {
            "blocks4" => (Kind::Blocks, Family::Ipv4),
            "blocks6" => (Kind::Blocks, Family::Ipv6),
            "internet4" => (Kind::Internet, Family::Ipv4),
            "internet6" => (Kind::Internet, Family::Ipv6),
            _ => bail!("{name} is none of blocks4, blocks6, internet4, internet6"),
        };
        let routes = routes.parse().with_context(|| format!("{routes} is no number of routes"))?;
        let set = Self::new(family, kind, routes);
        ensure!((1..=set.most()).contains(&routes), "{name} takes 1 to {} routes", set.most());
        Ok(set)
    }
}

/// The routes of a set. Route n has next hop n modulo [`NEXT_HOPS`].
#[derive(Clone, Debug)]
pub struct Routes {
    /// What they were made of.
    pub set: RouteSet,
    /// All different, without host bits, in a random order.
    pub prefixes: Vec<IpNet>,
}

impl Routes {
    /// The prefixes with their next hops.
    pub fn with_next_hops(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.prefixes.iter().copied().zip((0..NEXT_HOPS).cycle())
    }

    /// How many of `addresses` the longest match sends to each next hop.
    ///
    /// # Errors
    /// No prefix covers an address.
    pub fn spread(&self, addresses: &[IpAddr]) -> anyhow::Result<Vec<u64>> {
        let mut by_length: HashMap<u8, HashMap<u128, u32>> = HashMap::new();
        for (prefix, next_hop) in self.with_next_hops() {
            by_length.entry(prefix.prefix_len()).or_default().insert(bits(prefix.addr()), next_hop);
        }
        let mut lengths: Vec<_> = by_length.into_iter().collect();
        lengths.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        let mut spread = vec![0; NEXT_HOPS as usize];
        for address in addresses {
            let width = width(*address);
            let found = lengths
                .iter()
                .find_map(|(length, prefixes)| prefixes.get(&masked(bits(*address), *length, width)));
            let next_hop = found.with_context(|| format!("no prefix covers {address}"))?;
            spread[*next_hop as usize] += 1;
        }
        Ok(spread)
    }
}

/// How often each prefix is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Popularity {
    /// Every prefix alike.
    Uniform,
    /// The n-th most popular prefix 1/n as often as the first.
    Zipf,
}

impl Popularity {
    /// `count` random hosts of the prefixes.
    pub fn destinations(self, routes: &Routes, count: usize, random: &mut SplitMix64) -> Vec<IpAddr> {
        let prefixes = &routes.prefixes;
        let number = u32::try_from(prefixes.len()).unwrap_or(u32::MAX);
        // The order of the prefixes is random already: the first is the most popular.
        let mut sum = 0.0;
        let steps: Vec<f64> = (1..=number)
            .map(|rank| {
                sum += 1.0 / f64::from(rank);
                sum
            })
            .collect();
        let pick = |random: &mut SplitMix64| match self {
            Self::Uniform => random.below(number) as usize,
            Self::Zipf => {
                let at = random.fraction() * sum;
                steps.partition_point(|step| *step <= at).min(prefixes.len() - 1)
            }
        };
        (0..count)
            .map(|_| {
                let prefix = prefixes[pick(random)];
                host(prefix, random)
            })
            .collect()
    }
}

/// A random address of a prefix.
fn host(prefix: IpNet, random: &mut SplitMix64) -> IpAddr {
    let width = width(prefix.addr());
    let free = width - prefix.prefix_len();
    address(bits(prefix.addr()) | low_bits(random, free), width)
}

/// `count` random bits at the low end.
const fn low_bits(random: &mut SplitMix64, count: u8) -> u128 {
    let word = ((random.next_u64() as u128) << 64) | random.next_u64() as u128;
    if count == 0 { 0 } else { word >> (128 - count as u32) }
}

/// Bits of an address of this family.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An address as a number.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The number `bits` as an address of `width` bits.
fn address(bits: u128, width: u8) -> IpAddr {
    if width == 32 {
        let [.., a, b, c, d] = bits.to_be_bytes();
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::V6(Ipv6Addr::from(bits))
    }
}

/// `bits` without what lies behind the first `length` of `width`.
const fn masked(bits: u128, length: u8, width: u8) -> u128 {
    let free = (width - length) as u32;
    if free == 128 { 0 } else { (bits >> free) << free }
}

/// `count` different /26.
fn blocks4(count: u32, random: &mut SplitMix64) -> Vec<IpNet> {
    let start = u32::from(BLOCKS4_RANGE.network());
    distinct(count, || {
        let number = random.below(1 << (BLOCK4_LENGTH - BLOCKS4_RANGE.prefix_len()));
        let address = Ipv4Addr::from(start + (number << (32 - BLOCK4_LENGTH)));
        IpNet::V4(Ipv4Net::new_assert(address, BLOCK4_LENGTH))
    })
}

/// `count` different blocks below a few /48, of the two lengths in turn.
fn blocks6(count: u32, random: &mut SplitMix64) -> Vec<IpNet> {
    let start = u128::from(BLOCKS6_RANGE.network());
    let mut lengths = BLOCK6_LENGTHS.into_iter().cycle();
    distinct(count, || {
        let length = lengths.next().unwrap_or(BLOCK6_LENGTHS[0]);
        let site = u128::from(random.below(BLOCKS6_SITES)) << 80;
        let inside = masked(low_bits(random, 80), length, 128);
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(start | site | inside), length))
    })
}

/// The first `count` different prefixes that `draw` gives.
fn distinct(count: u32, mut draw: impl FnMut() -> IpNet) -> Vec<IpNet> {
    let mut seen = HashSet::new();
    let mut prefixes = Vec::with_capacity(count as usize);
    while prefixes.len() < count as usize {
        let prefix = draw();
        if seen.insert(prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

#[cfg(test)]
mod tests;
