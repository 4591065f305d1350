//! Paths and what is selected from them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::policy::Settings;
use crate::netlink::model::Family;

/// A configured peer, by its address.
pub type PeerId = IpAddr;

/// ORIGIN (RFC 4271 §5.1.1); the smaller is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

/// A segment of an AS path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AsSegment {
    /// `AS_SEQUENCE`: counts each AS.
    Sequence(Vec<u32>),
    /// `AS_SET`: counts one (RFC 4271 §9.1.2.2 a).
    Set(Vec<u32>),
    /// `AS_CONFED_SEQUENCE`: counts nothing (RFC 5065 §5.3).
    ConfedSequence(Vec<u32>),
    /// `AS_CONFED_SET`: counts nothing.
    ConfedSet(Vec<u32>),
}

/// Path attributes that the decision process and the guards use. Shared by all prefixes of an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// `AS_PATH`, AS4 already merged in.
    pub as_path: Vec<AsSegment>,
    /// Next hop; of a pair with a link-local address the global one.
    pub next_hop: IpAddr,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// `LOCAL_PREF`, all 32 bits; `None` from eBGP peers.
    pub local_pref: Option<u32>,
    /// `ORIGINATOR_ID` (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// `CLUSTER_LIST` (RFC 4456).
    pub cluster_list: Vec<Ipv4Addr>,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// `LARGE_COMMUNITY` (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// What import policy set; not announced by anybody.
    pub settings: Settings,
}

/// What the session knows about a peer; constant while it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Peer's address.
    pub peer: PeerId,
    /// Peer's AS differs from ours.
    pub external: bool,
    /// Peer's AS.
    pub remote_as: u32,
    /// Our AS on this session.
    pub local_as: u32,
    /// Peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// Our BGP identifier.
    pub local_router_id: Ipv4Addr,
    /// Our address on the session.
    pub local_address: IpAddr,
    /// Families negotiated.
    pub families: Vec<Family>,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Families for which the peer preserved its forwarding state across its restart (RFC 4724).
    pub forwarding_preserved: Vec<Family>,
}

/// Prefix with its path identifier (RFC 7911); 0 without ADD-PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// Prefix, host bits zero.
    pub prefix: IpNet,
    /// Path identifier.
    pub path_id: u32,
}

/// How a session left Established, which decides what becomes of its paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It was lost. Graceful restart: the paths of these families stay, marked stale, for at most this long
    /// (RFC 4724 §4.2); those of others go at once, unless they are the last that is known.
    Lost(Vec<(Family, Duration)>),
    /// We began it anew. The paths of these families stay until they were sent again, for the peer's
    /// `stale_time` at most: the beginning of the next session says nothing about them.
    Reset(Vec<Family>),
    /// Our operator wanted it: nothing stays.
    Final,
}

/// What sessions tell the RIB, in order per peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RibEvent {
    /// The session reached Established.
    PeerUp(PeerInfo),
    /// One UPDATE: withdrawals first, then announcements with their attributes.
    Update {
        /// Peer.
        peer: PeerId,
        /// Withdrawn.
        withdrawn: Vec<Nlri>,
        /// Announced, all with the same attributes.
        announced: Option<(std::sync::Arc<Attributes>, Vec<Nlri>)>,
    },
    /// End-of-RIB (RFC 4724 §2).
    EndOfRib {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
    },
    /// The session left Established.
    PeerDown {
        /// Peer.
        peer: PeerId,
        /// How.
        loss: Loss,
    },
    /// The peer will send its whole table again; paths not seen again by End-of-RIB go
    /// (after a route refresh that we asked for).
    RefreshStarted {
        /// Peer.
        peer: PeerId,
        /// Family.
        family: Family,
    },
}

/// What the RIB wants in the kernel for one prefix: next hops with weights, sorted, unique, non-empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SelectedRoute {
    /// Next hops.
    pub next_hops: Vec<IpAddr>,
}

impl RibEvent {
    /// The peer that the event is about.
    pub const fn peer(&self) -> PeerId {
        match self {
            Self::PeerUp(info) => info.peer,
            Self::Update { peer, .. }
            | Self::EndOfRib { peer, .. }
            | Self::PeerDown { peer, .. }
            | Self::RefreshStarted { peer, .. } => *peer,
        }
    }
}
