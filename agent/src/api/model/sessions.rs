//! Reports about sessions, and what is done with them.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// What an operator does with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PeerAction {
    /// Lets it come up.
    Up,
    /// Takes it down until `up` or the next start; its routes go.
    Down,
    /// Begins it anew; its routes stay until they were sent again.
    Reset,
    /// Asks for all routes again (RFC 2918).
    Refresh,
}

/// `underpass peer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The peer's address.
    pub peer: IpAddr,
    /// What was done.
    pub action: PeerAction,
}

/// `underpass reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// What changed; empty: nothing.
    pub changes: Vec<ReloadedChange>,
    /// Keys that only a restart of the agent takes on.
    pub needs_restart: Vec<String>,
    /// What could not be done.
    pub problems: Vec<String>,
}

/// One change of [`Reloaded`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedChange {
    /// "peer reflector1 (172.20.0.11)", "bgp.listen".
    pub object: String,
    /// "added", "removed", "changed in place", "asked for its routes again", "reset", "restarted".
    pub action: String,
    /// The keys that differ.
    pub keys: Vec<String>,
}

/// `underpass peers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// In the order of the configuration.
    pub peers: Vec<PeerStatus>,
}

/// A BGP peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Name.
    pub name: String,
    /// Address.
    pub address: IpAddr,
    /// AS.
    pub remote_as: u32,
    /// "Idle", "Connect", "Active", "`OpenSent`", "`OpenConfirm`", "Established".
    pub state: String,
    /// Seconds in Established, absent otherwise.
    pub uptime_seconds: Option<u64>,
    /// Times that Established was left.
    pub flaps: u64,
    /// Paths received.
    pub received: usize,
    /// Paths that passed the guards.
    pub accepted: usize,
    /// Paths kept from before a restart of the peer.
    pub stale: usize,
    /// Most paths accepted (`max_prefixes`).
    #[serde(default)]
    pub max_prefixes: usize,
    /// The paths have reached `max_prefixes_warning` percent of that.
    #[serde(default)]
    pub near_max_prefixes: bool,
    /// End-of-RIB seen for all families since the session came up.
    pub end_of_rib: bool,
    /// Hold time negotiated, in seconds.
    pub hold_seconds: Option<u64>,
    /// UPDATE messages received.
    pub updates: u64,
    /// Last error of the session.
    pub last_error: Option<String>,
    /// Administratively down.
    #[serde(default)]
    pub admin_down: bool,
    /// Peer's BGP identifier, while established.
    #[serde(default)]
    pub router_id: Option<Ipv4Addr>,
    /// "IPv4" and "IPv6": families negotiated, while established.
    #[serde(default)]
    pub families: Vec<String>,
    /// Families in which the peer sends several paths per prefix (RFC 7911), while established.
    #[serde(default)]
    pub add_path: Vec<String>,
    /// What both sides can do, while established: "ipv4-unicast", "add-path-ipv4-unicast", "route-refresh", ...
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The peer offers graceful restart and we help it, while established.
    #[serde(default)]
    pub graceful_restart: bool,
    /// UPDATEs whose routes were taken for withdrawn because of an error (RFC 7606), since the start.
    #[serde(default)]
    pub treated_as_withdraw: u64,
    /// Attributes left out because of an error (RFC 7606), since the start.
    #[serde(default)]
    pub attributes_discarded: u64,
    /// `LOCAL_PREF`, `ORIGINATOR_ID` and `CLUSTER_LIST` of a peer of another AS, which count for nothing (RFC 7606
    /// §7.5, §7.9, §7.10), since the start.
    #[serde(default)]
    pub attributes_ignored: u64,
    /// Seconds until the paths that are kept as the last known go, at most ([`Self::stale`] counts them).
    #[serde(default)]
    pub kept_seconds: Option<u64>,
}

impl PeerStatus {
    /// A peer of which nothing is known but its configuration.
    pub fn new(name: &str, address: IpAddr, remote_as: u32) -> Self {
        Self {
            name: name.to_owned(),
            address,
            remote_as,
            state: "Idle".to_owned(),
            uptime_seconds: None,
            flaps: 0,
            received: 0,
            accepted: 0,
            stale: 0,
            end_of_rib: false,
            hold_seconds: None,
            updates: 0,
            last_error: None,
            admin_down: false,
            router_id: None,
            families: Vec::new(),
            add_path: Vec::new(),
            capabilities: Vec::new(),
            graceful_restart: false,
            treated_as_withdraw: 0,
            attributes_discarded: 0,
            attributes_ignored: 0,
            kept_seconds: None,
            max_prefixes: 0,
            near_max_prefixes: false,
        }
    }
}
