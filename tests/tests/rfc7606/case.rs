//! A case: an UPDATE, the clause that decides it, and what follows.

use std::net::{IpAddr, Ipv4Addr};

use underpass::rib::model::{AsSegment, Attributes, Nlri, Origin};
use underpass::rib::policy::Settings;
use underpass_tests::fake_peer::{self, message, update};

use super::harness::{AS_PATH, NEXT_HOP, ORIGIN, PEER_AS, nlri};

/// `AS_PATH` of [`AS_PATH`] in two octets.
pub const SHORT_AS_PATH: &[u8] = &[0x40, 2, 4, 2, 1, 0xfc, 0x01];
/// `fd00:1::/48` via `fd00::5`.
pub const REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 48, 0xfd, 0, 0, 1, 0, 0,
];
/// What [`REACH`] announces.
pub const REACH_PREFIX: &str = "fd00:1::/48";
/// In the body.
pub const PREFIX: &str = "10.64.0.0/16";
pub const PREFIX_BYTES: &[u8] = &[16, 10, 64];

/// What a session has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both families, AS numbers of four octets.
    FourOctet,
    /// Both families, AS numbers of two octets.
    TwoOctet,
    /// As the first, with path identifiers.
    AddPath,
    /// IPv4 unicast alone, AS numbers of four octets.
    Ipv4Only,
}

/// An attribute that the RIB is told, other than the least.
#[derive(Clone, Debug)]
pub enum Kept {
    Med(u32),
    LocalPref(u32),
    Originator([u8; 4]),
    Clusters(&'static [[u8; 4]]),
    Communities(&'static [u32]),
    LargeCommunities(&'static [[u32; 3]]),
    AsPath(&'static [&'static [u32]]),
    NextHop([u8; 4]),
    Origin(Origin),
}

/// What follows from the UPDATE.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// NOTIFICATION with this body, session reset.
    Reset(Vec<u8>),
    /// What was announced counts as withdrawn; so many attributes were discarded besides.
    Withdrawn(u64),
    /// The routes count; so many attributes were discarded, these are told the RIB besides the least.
    Accepted(u64, Vec<Kept>),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub clause: &'static str,
    pub kind: Kind,
    pub message: Vec<u8>,
    pub withdraws: Vec<Nlri>,
    pub announces: Vec<Nlri>,
    pub internal: Outcome,
    pub external: Outcome,
}

/// NOTIFICATION with this body.
pub fn reset(body: &[&[u8]]) -> Outcome {
    Outcome::Reset(body.concat())
}

/// Treat-as-withdraw.
pub fn withdrawn() -> Outcome {
    Outcome::Withdrawn(0)
}

/// Attribute discard: of one, and the rest is the least.
pub fn discarded() -> Outcome {
    Outcome::Accepted(1, Vec::new())
}

/// No error, nothing but the least is told.
pub fn accepted() -> Outcome {
    Outcome::Accepted(0, Vec::new())
}

/// No error, and this is told as well.
pub fn kept(attribute: Kept) -> Outcome {
    Outcome::Accepted(0, vec![attribute])
}

impl Case {
    /// An UPDATE of three sections that is taken for no prefixes, with the same outcome from every peer.
    pub fn new(
        name: &'static str,
        clause: &'static str,
        sections: (&[u8], &[&[u8]], &[u8]),
        outcome: Outcome,
    ) -> Self {
        Self {
            name,
            clause,
            kind: Kind::FourOctet,
            message: update(sections.0, sections.1, sections.2),
            withdraws: Vec::new(),
            announces: Vec::new(),
            internal: outcome.clone(),
            external: outcome,
        }
    }

    /// [`PREFIX`] in the body with these attributes.
    pub fn body(name: &'static str, clause: &'static str, attributes: &[&[u8]], outcome: Outcome) -> Self {
        Self::new(name, clause, (&[], attributes, PREFIX_BYTES), outcome).announces(&[PREFIX])
    }

    /// [`PREFIX`] in the body with the mandatory attributes and this one.
    pub fn with(name: &'static str, clause: &'static str, attribute: &[u8], outcome: Outcome) -> Self {
        Self::body(name, clause, &[ORIGIN, AS_PATH, NEXT_HOP, attribute], outcome)
    }

    /// ORIGIN, `AS_PATH` and this attribute; an `MP_REACH_NLRI` announces [`REACH_PREFIX`].
    pub fn reach(name: &'static str, clause: &'static str, attribute: &[u8], outcome: Outcome) -> Self {
        Self::new(name, clause, (&[], &[ORIGIN, AS_PATH, attribute], &[]), outcome).announces(&[REACH_PREFIX])
    }

    /// An UPDATE whose lengths are wrong.
    pub fn raw(name: &'static str, clause: &'static str, body: &[u8], outcome: Outcome) -> Self {
        Self {
            message: message(fake_peer::UPDATE, body),
            ..Self::new(name, clause, (&[], &[], &[]), outcome)
        }
    }

    pub fn on(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// From an external peer something else follows.
    pub fn external(self, outcome: Outcome) -> Self {
        Self { external: outcome, ..self }
    }

    pub fn withdraws(self, prefixes: &[&str]) -> Self {
        Self { withdraws: prefixes.iter().map(|prefix| nlri(prefix, 0)).collect(), ..self }
    }

    pub fn announces(self, prefixes: &[&str]) -> Self {
        Self { announces: prefixes.iter().map(|prefix| nlri(prefix, 0)).collect(), ..self }
    }

    /// The path identifier of everything announced.
    pub fn path_id(mut self, path_id: u32) -> Self {
        for nlri in &mut self.announces {
            nlri.path_id = path_id;
        }
        self
    }
}

/// The least that a route of `family`'s default next hop has, with `kept` put over it.
pub fn attributes(ipv6: bool, kept: &[Kept]) -> Attributes {
    let next_hop =
        if ipv6 { "fd00::5".parse().expect("an address") } else { IpAddr::from(Ipv4Addr::new(10, 0, 0, 5)) };
    let mut attributes = Attributes {
        origin: Origin::Igp,
        as_path: vec![AsSegment::Sequence(vec![PEER_AS])],
        next_hop,
        med: None,
        local_pref: None,
        originator_id: None,
        cluster_list: Vec::new(),
        communities: Vec::new(),
        large_communities: Vec::new(),
        settings: Settings::default(),
    };
    for attribute in kept {
        put(&mut attributes, attribute);
    }
    attributes
}

fn put(attributes: &mut Attributes, kept: &Kept) {
    match kept {
        Kept::Med(value) => attributes.med = Some(*value),
        Kept::LocalPref(value) => attributes.local_pref = Some(*value),
        Kept::Originator(id) => attributes.originator_id = Some((*id).into()),
        Kept::Clusters(list) => attributes.cluster_list = list.iter().map(|id| (*id).into()).collect(),
        Kept::Communities(list) => attributes.communities = list.to_vec(),
        Kept::AsPath(path) => {
            attributes.as_path = path.iter().map(|list| AsSegment::Sequence(list.to_vec())).collect();
        }
        Kept::LargeCommunities(list) => attributes.large_communities = list.to_vec(),
        Kept::NextHop(address) => attributes.next_hop = IpAddr::from(*address),
        Kept::Origin(origin) => attributes.origin = *origin,
    }
}
