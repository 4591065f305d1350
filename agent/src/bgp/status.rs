//! What a session tells operators.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::netlink::model::Family;

/// State of a session (RFC 4271 §8.2.2). With two connections during a collision it is the state of the one
/// that got further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Stopped, or waiting after an error.
    #[default]
    Idle,
    /// Waiting for the time to dial, or for the peer to dial.
    Active,
    /// Dialling.
    Connect,
    /// OPEN sent, waiting for the peer's.
    OpenSent,
    /// OPENs exchanged, waiting for the KEEPALIVE that confirms ours.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}

/// A session as [`super::Speaker::sessions`] reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Configured name.
    pub name: String,
    /// Peer's address.
    pub address: IpAddr,
    /// Configured AS of the peer.
    pub remote_as: u32,
    /// State.
    pub state: State,
    /// Administratively down.
    pub is_down: bool,
    /// Time in Established.
    pub uptime: Option<Duration>,
    /// Times that Established was left.
    pub flaps: u64,
    /// UPDATE messages received since the start.
    pub updates: u64,
    /// Hold time negotiated; `Some(0)`: no keepalives.
    pub hold_time: Option<Duration>,
    /// Last error, kept until the next one.
    pub last_error: Option<String>,
    /// Peer's BGP identifier while established.
    pub router_id: Option<Ipv4Addr>,
    /// Names of what both sides can do, while established.
    pub capabilities: Vec<&'static str>,
    /// Families negotiated, while established.
    pub families: Vec<Family>,
    /// Families for which the peer sends several paths per prefix (RFC 7911), while established.
    pub add_path: Vec<Family>,
    /// The peer offers graceful restart and we help it, while established.
    pub graceful_restart: bool,
    /// Families whose End-of-RIB was seen since the session came up.
    pub end_of_rib: Vec<Family>,
    /// UPDATEs whose routes were taken for withdrawn because of an error in them (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Attributes discarded because of an error in them (RFC 7606).
    pub attributes_discarded: u64,
    /// `LOCAL_PREF`, `ORIGINATOR_ID` and `CLUSTER_LIST` of an external peer, which count for nothing.
    pub attributes_ignored: u64,
}

impl SessionStatus {
    /// End-of-RIB was seen for every negotiated family.
    pub fn synchronized(&self) -> bool {
        !self.families.is_empty() && self.families.iter().all(|family| self.end_of_rib.contains(family))
    }
}
