//! The table against `prefix-trie`, with readers beside the writer, and its accounts.

mod accounts;
mod oracle;
mod readers;
mod room;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::joint::map::JointPrefixMap;
use proptest::prelude::*;
use underpass_common::fib::TargetId;

use super::memory::{HeapMemory, heap};
use super::{Change, FlatTable, Key, Refusal};

/// Words of a table that everything in these tests fits into.
const WORDS: usize = 1 << 20;

/// Fewer cases than by default: a table of this size is slow in a debug build. `PROPTEST_CASES` sets more.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(24), ..ProptestConfig::default() }
}

fn table() -> FlatTable<HeapMemory> {
    FlatTable::new(heap(WORDS))
}

fn v4(bits: u32, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new(bits.into(), length).expect("a length").trunc())
}

fn v6(bits: u128, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new(bits.into(), length).expect("a length").trunc())
}

/// Prefixes that lie close together, so that they cover and touch each other, of any length.
fn any_prefix() -> impl Strategy<Value = IpNet> {
    let bits4 = prop_oneof![
        4 => (0u32..4, 0u32..64, any::<u8>()).prop_map(|(a, b, c)| 0x0ae9_0000 | a << 14 | b << 6 | u32::from(c) & 63),
        2 => (0u32..3, any::<u16>()).prop_map(|(a, b)| (10 + a) << 24 | u32::from(b)),
        1 => any::<u32>(),
    ];
    let bits6 = prop_oneof![
        3 => (0u128..3, any::<u8>(), 0u128..4).prop_map(|(a, b, c)| 0xfd00 << 112 | a << 64 | u128::from(b) << 6 | c),
        2 => (any::<u8>(), 0u128..2).prop_map(|(a, b)| 0x2001_0db8 << 96 | u128::from(a) << 80 | b << 79),
        1 => any::<u128>(),
    ];
    let length4 = prop_oneof![3 => 20u8..=32, 2 => 0u8..=32, 2 => Just(26u8), 1 => Just(16u8)];
    let length6 = prop_oneof![2 => 0u8..=128, 2 => 48u8..=66, 2 => 120u8..=128];
    prop_oneof![
        3 => (bits4, length4).prop_map(|(bits, length)| v4(bits, length)),
        2 => (bits6, length6).prop_map(|(bits, length)| v6(bits, length)),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let target =
        prop_oneof![1 => Just(None), 2 => (0u32..5).prop_map(Some), 1 => (0u32..60_000).prop_map(Some)];
    (0u32..3, any_prefix(), target).prop_map(|(view, prefix, target)| ((view, prefix), target))
}

/// The maps that say what is right, one per view.
#[derive(Default)]
struct Model(std::collections::BTreeMap<u32, JointPrefixMap<IpNet, TargetId>>);

impl Model {
    fn set(&mut self, ((view, prefix), target): Change) {
        let map = self.0.entry(view).or_default();
        match target {
            Some(target) => map.insert(prefix, target),
            None => map.remove(&prefix),
        };
    }

    fn lookup(&self, view: u32, address: IpAddr) -> Option<TargetId> {
        self.0.get(&view)?.get_lpm(&IpNet::from(address)).map(|(_, target)| *target)
    }

    fn keys(&self) -> Vec<(Key, TargetId)> {
        let views = self.0.iter();
        let mut keys: Vec<_> = views
            .flat_map(|(view, map)| map.iter().map(|(prefix, target)| ((*view, prefix), *target)))
            .collect();
        keys.sort_unstable();
        keys
    }
}

/// Addresses at which the answer may change because of a prefix: its ends, those beside them, and one in
/// the middle.
fn edges(prefix: IpNet) -> Vec<IpAddr> {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let middle = first + (last - first) / 2;
            [first, last, first.wrapping_sub(1), last.wrapping_add(1), middle]
                .map(|bits: u32| IpAddr::V4(bits.into()))
                .to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            let middle = first + (last - first) / 2;
            [first, last, first.wrapping_sub(1), last.wrapping_add(1), middle]
                .map(|bits| IpAddr::V6(bits.into()))
                .to_vec()
        }
    }
}

/// Every address in question gets the right answer.
fn check<M: super::memory::Memory>(table: &FlatTable<M>, model: &Model, prefixes: &[IpNet]) {
    for view in 0..4 {
        for address in prefixes.iter().flat_map(|prefix| edges(*prefix)) {
            assert_eq!(table.lookup(view, address), model.lookup(view, address), "view {view}, {address}");
        }
    }
    let mut keys: Vec<_> = table.prefixes().collect();
    keys.sort_unstable();
    assert_eq!(keys, model.keys(), "the table knows its prefixes");
}
