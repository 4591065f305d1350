//! What an UPDATE is to say, and what was understood.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// How the session encodes it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub four_octet_as: bool,
    /// For both families: one of the other codecs knows no finer choice.
    pub add_path: bool,
}

/// A prefix with its path identifier.
pub type Path = (IpNet, u32);

/// An UPDATE.
#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    pub withdrawn_v4: Vec<Path>,
    pub withdrawn_v6: Vec<Path>,
    pub announced_v4: Vec<Path>,
    pub announced_v6: Vec<Path>,
    pub next_hop_v4: Ipv4Addr,
    pub next_hop_v6: Ipv6Addr,
    pub link_local: Option<Ipv6Addr>,
    pub attributes: Attributes,
}

/// The attributes that we keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub origin: u8,
    /// Sequences.
    pub as_path: Vec<Vec<u32>>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub originator: Option<Ipv4Addr>,
    pub clusters: Vec<Ipv4Addr>,
    pub communities: Vec<u32>,
}

/// What a codec makes of an UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub withdrawn: Vec<Path>,
    pub announced: Vec<(IpAddr, Path)>,
    /// If anything is announced.
    pub attributes: Option<Attributes>,
}

impl Said {
    /// Codecs may tell the sections in any order.
    pub fn sorted(mut self) -> Self {
        self.withdrawn.sort();
        self.announced.sort();
        self
    }
}

impl Said {
    /// With neighbouring sequences of the path as one: merging `AS4_PATH` into `AS_PATH` (RFC 6793 §4.2.3) keeps the
    /// numbers and their order, and says nothing about where a sequence ends. Our codec and bgpkit each join some.
    pub fn joined(mut self) -> Self {
        if let Some(attributes) = &mut self.attributes {
            attributes.as_path = vec![attributes.as_path.concat()];
        }
        self
    }
}

impl Plan {
    /// What every codec is to understand.
    pub fn said(&self) -> Said {
        let v4 = self.announced_v4.iter().map(|path| (self.next_hop_v4.into(), *path));
        let v6 = self.announced_v6.iter().map(|path| (self.next_hop_v6.into(), *path));
        let announced: Vec<_> = v4.chain(v6).collect();
        Said {
            withdrawn: [&self.withdrawn_v4[..], &self.withdrawn_v6].concat(),
            attributes: (!announced.is_empty()).then(|| self.attributes.clone()),
            announced,
        }
        .sorted()
    }
}

/// No multicast or broadcast, which netgauze refuses in a unicast NLRI; we leave that to the import policy.
fn prefix_v4() -> impl Strategy<Value = IpNet> {
    (1_u8..=223, any::<[u8; 3]>(), 1_u8..=32).prop_map(|(first, [a, b, c], length)| {
        let length = if first >= 192 { length.max(8) } else { length };
        IpNet::V4(Ipv4Net::new(Ipv4Addr::new(first, a, b, c), length).expect("at most 32").trunc())
    })
}

fn prefix_v6() -> impl Strategy<Value = IpNet> {
    (any::<[u8; 16]>(), 3_u8..=128).prop_map(|(mut octets, length)| {
        octets[0] = octets[0] & 0x1f | 0x20;
        IpNet::V6(Ipv6Net::new(octets.into(), length).expect("at most 128").trunc())
    })
}

fn paths(prefix: impl Strategy<Value = IpNet>, add_path: bool) -> impl Strategy<Value = Vec<Path>> {
    let path_id = any::<u32>().prop_map(move |id| if add_path { id } else { 0 });
    vec((prefix, path_id), 0..8)
}

fn attributes() -> impl Strategy<Value = Attributes> {
    // AS 0 is an error and 23456 stands for another.
    let number = prop_oneof![1_u32..23456, 23457_u32..=u32::MAX];
    (
        0_u8..3,
        vec(vec(number, 1..5), 0..4),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        vec(any::<u32>(), 0..4),
        vec(prop_oneof![any::<u32>(), 0xffff_ff00_u32..=0xffff_ffff], 0..6),
    )
        .prop_map(|(origin, as_path, med, local_pref, originator, clusters, communities)| Attributes {
            origin,
            as_path,
            med,
            local_pref,
            originator: originator.map(Ipv4Addr::from),
            clusters: clusters.into_iter().map(Ipv4Addr::from).collect(),
            communities,
        })
}

/// Any UPDATE without an error, from an internal peer.
pub fn any_plan() -> impl Strategy<Value = Plan> {
    (any::<bool>(), any::<bool>()).prop_flat_map(|(four_octet_as, add_path)| {
        let kind = Kind { four_octet_as, add_path };
        (
            (paths(prefix_v4(), add_path), paths(prefix_v6(), add_path)),
            (paths(prefix_v4(), add_path), paths(prefix_v6(), add_path)),
            (1_u8..127, any::<[u8; 3]>()),
            any::<[u8; 15]>(),
            option::of(any::<u64>()),
            attributes(),
        )
            .prop_map(
                move |(withdrawn, announced, (first, [a, b, c]), global, local, attributes)| Plan {
                    kind,
                    withdrawn_v4: withdrawn.0,
                    withdrawn_v6: withdrawn.1,
                    announced_v4: announced.0,
                    announced_v6: announced.1,
                    next_hop_v4: Ipv4Addr::new(first, a, b, c),
                    next_hop_v6: Ipv6Addr::from(u128::from_be_bytes(global_address(global))),
                    link_local: local.map(|low| Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(low))),
                    attributes,
                },
            )
    })
}

fn global_address(rest: [u8; 15]) -> [u8; 16] {
    let mut octets = [0x20; 16];
    octets[1..].copy_from_slice(&rest);
    octets
}
