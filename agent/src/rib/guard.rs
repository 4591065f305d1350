//! Import guards: what a peer may tell us at all.
//!
//! Everything but the own addresses is constant for a session, so a refused path can only become
//! acceptable by a new announcement and is not kept.

mod ranges;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::model::{AsSegment, Attributes, PeerInfo};
use crate::config::model::{Import, NextHopPeer};
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
    /// Loopback, link-local, multicast and other addresses that are never routed.
    Martian,
    /// An encapsulated pool (`import.encapsulated`), or inside of one.
    EncapsulatedPool,
    /// Inside of a network of `import.next_hops`, or around one, without a range that is meant for it.
    UnderlayAddress,
    /// Inside of a network of `datapath.service_ranges`, or around one, without a range that is meant for it.
    ServiceAddress,
    /// Inside of a network of an interface of this machine, without a range that is meant for it.
    OwnNetwork,
    /// Equal to a block of this machine or inside of one.
    OwnBlock,
    /// Next hop of the other family.
    NextHopFamily,
    /// Next hop outside of `import.next_hops`.
    NextHopOutside,
    /// Next hop is an address of this machine.
    NextHopOwn,
    /// Next hop is the peer itself, and `next_hop_peer` refuses that.
    NextHopPeer,
    /// Next hop inside the announced prefix: the route would hide the way to its own next hop.
    NextHopInsidePrefix,
    /// Our AS is in the `AS_PATH` (RFC 4271 §9.1.2).
    AsLoop,
    /// `ORIGINATOR_ID` is our identifier (RFC 4456 §8).
    OriginatorLoop,
    /// `CLUSTER_LIST` has our identifier (RFC 4456 §8).
    ClusterLoop,
    /// A rule of the peer rejects it.
    Policy,
    /// More paths for the prefix than `import.max_paths_per_prefix`.
    MaxPathsPerPrefix,
    /// More paths from the peer than `max_prefixes`.
    MaxPrefixes,
}

impl Refusal {
    /// Every reason, in a fixed order.
    pub const ALL: [Self; 20] = [
        Self::FamilyNotNegotiated,
        Self::DefaultRoute,
        Self::PrefixNotAllowed,
        Self::Martian,
        Self::EncapsulatedPool,
        Self::UnderlayAddress,
        Self::ServiceAddress,
        Self::OwnNetwork,
        Self::OwnBlock,
        Self::NextHopFamily,
        Self::NextHopOutside,
        Self::NextHopOwn,
        Self::NextHopPeer,
        Self::NextHopInsidePrefix,
        Self::AsLoop,
        Self::OriginatorLoop,
        Self::ClusterLoop,
        Self::Policy,
        Self::MaxPathsPerPrefix,
        Self::MaxPrefixes,
    ];

    /// Name for counters and reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FamilyNotNegotiated => "family-not-negotiated",
            Self::DefaultRoute => "default-route",
            Self::PrefixNotAllowed => "prefix-not-allowed",
            Self::Martian => "martian",
            Self::EncapsulatedPool => "encapsulated-pool",
            Self::UnderlayAddress => "underlay-address",
            Self::ServiceAddress => "service-address",
            Self::OwnNetwork => "own-network",
            Self::OwnBlock => "own-block",
            Self::NextHopFamily => "next-hop-family",
            Self::NextHopOutside => "next-hop-outside",
            Self::NextHopOwn => "next-hop-own",
            Self::NextHopPeer => "next-hop-peer",
            Self::NextHopInsidePrefix => "next-hop-inside-prefix",
            Self::AsLoop => "as-loop",
            Self::OriginatorLoop => "originator-loop",
            Self::ClusterLoop => "cluster-loop",
            Self::Policy => "policy",
            Self::MaxPathsPerPrefix => "max-paths-per-prefix",
            Self::MaxPrefixes => "max-prefixes",
        }
    }
}

/// What is configured about a peer's announcements.
#[derive(Clone, Copy, Debug)]
pub struct Guards<'a> {
    /// `[bgp.import]`.
    pub import: &'a Import,
    /// `datapath.service_ranges`.
    pub service_ranges: &'a [IpNet],
    /// Whether the peer may be the next hop of what it announces.
    pub next_hop_peer: NextHopPeer,
    /// Our identifier from the configuration; the session's own counts as well.
    pub router_id: Ipv4Addr,
}

impl Guards<'_> {
    /// Checks what all prefixes of an UPDATE share.
    ///
    /// # Errors
    /// The first guard that refuses.
    pub fn check_attributes(self, attributes: &Attributes, session: &PeerInfo) -> Result<(), Refusal> {
        let ours = |id: &Ipv4Addr| *id == self.router_id || *id == session.local_router_id;
        if attributes.as_path.iter().any(|segment| members(segment).contains(&session.local_as)) {
            return Err(Refusal::AsLoop);
        }
        if attributes.originator_id.as_ref().is_some_and(ours) {
            return Err(Refusal::OriginatorLoop);
        }
        if attributes.cluster_list.iter().any(ours) {
            return Err(Refusal::ClusterLoop);
        }
        if !self.import.next_hops.iter().any(|network| network.contains(&attributes.next_hop)) {
            return Err(Refusal::NextHopOutside);
        }
        if self.next_hop_peer == NextHopPeer::Refuse && attributes.next_hop == session.peer {
            return Err(Refusal::NextHopPeer);
        }
        Ok(())
    }

    /// Checks one prefix together with its next hop.
    ///
    /// # Errors
    /// The first guard that refuses.
    pub fn check_prefix(self, prefix: IpNet, next_hop: IpAddr, session: &PeerInfo) -> Result<(), Refusal> {
        let family = Family::of(prefix.addr());
        if !session.families.contains(&family) {
            return Err(Refusal::FamilyNotNegotiated);
        }
        ranges::check(self, prefix)?;
        let extended = session.extended_next_hop && family == Family::Ipv4;
        if Family::of(next_hop) != family && !extended {
            return Err(Refusal::NextHopFamily);
        }
        if prefix.contains(&next_hop) && prefix.prefix_len() != 0 {
            return Err(Refusal::NextHopInsidePrefix);
        }
        Ok(())
    }
}

/// Whether the ranges open a network of this machine for a prefix inside of it.
pub fn is_open(import: &Import, network: IpNet, prefix: IpNet) -> bool {
    ranges::is_open(import, network, prefix)
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
