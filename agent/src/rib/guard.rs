//! Import guards: what a peer may tell us at all.
//!
//! Everything but the own addresses is constant for a session, so a refused path can only become
//! acceptable by a new announcement and is not kept.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::model::{AsSegment, Attributes, PeerInfo};
use crate::config::model::Import;
use crate::netlink::model::Family;

/// Why a path is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The family was not negotiated on the session.
    FamilyNotNegotiated,
    /// A default route that `import.prefixes` does not list by itself.
    DefaultRoute,
    /// Outside of `import.prefixes`.
    PrefixNotAllowed,
    /// Equal to a block of this machine or inside of one.
    OwnBlock,
    /// Next hop of the other family.
    NextHopFamily,
    /// Next hop outside of `import.next_hops`.
    NextHopOutside,
    /// Next hop is an address of this machine.
    NextHopOwn,
    /// Next hop inside the announced prefix: the route would hide the way to its own next hop.
    NextHopInsidePrefix,
    /// Our AS is in the `AS_PATH` (RFC 4271 §9.1.2).
    AsLoop,
    /// `ORIGINATOR_ID` is our identifier (RFC 4456 §8).
    OriginatorLoop,
    /// `CLUSTER_LIST` has our identifier (RFC 4456 §8).
    ClusterLoop,
    /// More paths for the prefix than `import.max_paths_per_prefix`.
    MaxPathsPerPrefix,
    /// More paths from the peer than `max_prefixes`.
    MaxPrefixes,
}

impl Refusal {
    /// Every reason, in a fixed order.
    pub const ALL: [Self; 13] = [
        Self::FamilyNotNegotiated,
        Self::DefaultRoute,
        Self::PrefixNotAllowed,
        Self::OwnBlock,
        Self::NextHopFamily,
        Self::NextHopOutside,
        Self::NextHopOwn,
        Self::NextHopInsidePrefix,
        Self::AsLoop,
        Self::OriginatorLoop,
        Self::ClusterLoop,
        Self::MaxPathsPerPrefix,
        Self::MaxPrefixes,
    ];

    /// Name for counters and reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FamilyNotNegotiated => "family-not-negotiated",
            Self::DefaultRoute => "default-route",
            Self::PrefixNotAllowed => "prefix-not-allowed",
            Self::OwnBlock => "own-block",
            Self::NextHopFamily => "next-hop-family",
            Self::NextHopOutside => "next-hop-outside",
            Self::NextHopOwn => "next-hop-own",
            Self::NextHopInsidePrefix => "next-hop-inside-prefix",
            Self::AsLoop => "as-loop",
            Self::OriginatorLoop => "originator-loop",
            Self::ClusterLoop => "cluster-loop",
            Self::MaxPathsPerPrefix => "max-paths-per-prefix",
            Self::MaxPrefixes => "max-prefixes",
        }
    }
}

/// Checks what all prefixes of an UPDATE share.
///
/// `router_id` is the identifier from the configuration; the session's own counts as well.
///
/// # Errors
/// The first guard that refuses.
pub fn check_attributes(
    import: &Import,
    attributes: &Attributes,
    session: &PeerInfo,
    router_id: Ipv4Addr,
) -> Result<(), Refusal> {
    let ours = |id: &Ipv4Addr| *id == router_id || *id == session.local_router_id;
    if attributes.as_path.iter().any(|segment| members(segment).contains(&session.local_as)) {
        return Err(Refusal::AsLoop);
    }
    if attributes.originator_id.as_ref().is_some_and(ours) {
        return Err(Refusal::OriginatorLoop);
    }
    if attributes.cluster_list.iter().any(ours) {
        return Err(Refusal::ClusterLoop);
    }
    if !import.next_hops.iter().any(|network| network.contains(&attributes.next_hop)) {
        return Err(Refusal::NextHopOutside);
    }
    Ok(())
}

/// Checks one prefix together with its next hop.
///
/// # Errors
/// The first guard that refuses.
pub fn check_prefix(
    import: &Import,
    prefix: IpNet,
    next_hop: IpAddr,
    session: &PeerInfo,
) -> Result<(), Refusal> {
    let family = Family::of(prefix.addr());
    if !session.families.contains(&family) {
        return Err(Refusal::FamilyNotNegotiated);
    }
    check_range(import, prefix)?;
    if import.own_blocks.iter().any(|block| block.contains(&prefix)) {
        return Err(Refusal::OwnBlock);
    }
    let extended = session.extended_next_hop && family == Family::Ipv4;
    if Family::of(next_hop) != family && !extended {
        return Err(Refusal::NextHopFamily);
    }
    if prefix.contains(&next_hop) && prefix.prefix_len() != 0 {
        return Err(Refusal::NextHopInsidePrefix);
    }
    Ok(())
}

/// A default route is accepted only by a range for it alone, so that a range meant for everything
/// more specific does not let it in.
fn check_range(import: &Import, prefix: IpNet) -> Result<(), Refusal> {
    let length = prefix.prefix_len();
    let mut ranges = import.prefixes.iter().filter(|range| range.prefix.contains(&prefix));
    if length == 0 {
        return ranges.any(|range| range.max == 0).then_some(()).ok_or(Refusal::DefaultRoute);
    }
    ranges
        .any(|range| (range.min..=range.max).contains(&length))
        .then_some(())
        .ok_or(Refusal::PrefixNotAllowed)
}

/// Whether a next hop is one of this machine's addresses. Not a refusal at the door: addresses change
/// while the session stays up.
pub fn is_own(own_addresses: &BTreeSet<IpAddr>, next_hop: IpAddr) -> bool {
    own_addresses.contains(&next_hop)
}

fn members(segment: &AsSegment) -> &[u32] {
    match segment {
        AsSegment::Sequence(list)
        | AsSegment::Set(list)
        | AsSegment::ConfedSequence(list)
        | AsSegment::ConfedSet(list) => list,
    }
}

#[cfg(test)]
mod tests;
