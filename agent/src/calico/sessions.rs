//! Which sessions follow from the resources. Pure.
//!
//! As in Calico (`confd/pkg/backends/calico`): peers of all nodes come first, then those of a node, then the way back
//! of peers that other nodes have with this one, so that a peering that names only one end exists on both. The first
//! one for an address and port holds. The mesh of all nodes is beside them; reflectors are not in it.

#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::Serialize;

use super::model::{BGP_PORT, BgpPeer, NextHopMode, Node, Remote, Resources, SecretKey};
use super::problem::Error;
use view::View;

/// A session, from the side of the machine that was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Peer, when it is a Calico node.
    pub node: Option<String>,
    /// Address of the peer.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its AS.
    pub remote_as: u32,
    /// AS of this side.
    pub local_as: u32,
    /// Port that this side listens on.
    pub own_port: u16,
    /// Address of this side, if the session must be from it.
    pub source_address: Option<IpAddr>,
    /// Calico waits to be dialled on this side.
    pub passive: bool,
    /// Where the password is.
    pub password: Option<SecretKey>,
    /// Hops between both (RFC 5082).
    pub ttl_security: Option<u8>,
    /// How long the Calico node asks to wait for its restart (RFC 4724).
    #[serde(serialize_with = "seconds")]
    pub restart_time: Option<Duration>,
    /// Pause between the Calico node's keepalives.
    #[serde(serialize_with = "seconds")]
    pub keepalive_time: Option<Duration>,
    /// Own AS numbers that the Calico node allows in paths.
    pub allowed_local_as: Option<u32>,
    /// What the Calico node says the next hop is.
    pub next_hop: NextHopMode,
    /// Cluster id of the peer, when it is a route reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// Where it comes from.
    pub origin: Origin,
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

/// Where a session comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The mesh of all nodes.
    Mesh,
    /// A `BGPPeer` for the node.
    Peer(String),
    /// A `BGPPeer` for the other end: the way back.
    Reverse(String),
}

/// The sessions of a machine, and what is odd about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// By family, address and port.
    pub sessions: Vec<Session>,
    /// What was merged or left out, and why.
    pub remarks: Vec<Remark>,
}

/// Something odd about the sessions with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Peer.
    pub address: IpAddr,
    /// What there is to know.
    pub text: String,
}

/// The sessions of a Calico node.
///
/// # Errors
/// There is no such node.
pub fn of_node(resources: &Resources, name: &str) -> Result<Sessions, Error> {
    let Some(node) = resources.nodes.get(name) else {
        let nodes = resources.nodes.keys().cloned().collect();
        return Err(Error::NoNode { name: name.to_owned(), nodes });
    };
    let view = View { resources, name, node };
    let mut found = Found::default();
    view.forward(|_| true, &mut found);
    view.reverse(&mut found);
    view.mesh(&mut found);
    Ok(found.merged())
}

/// The sessions that Calico nodes have with a machine outside of the cluster, from that machine's side.
///
/// # Errors
/// The address is a node's, or no node has a session with it.
pub fn of_address(resources: &Resources, address: IpAddr) -> Result<Sessions, Error> {
    if let Some((node, _)) = resources.nodes.iter().find(|(_, node)| node.has(address)) {
        return Err(Error::IsNode { address, node: node.clone() });
    }
    let names = |peer: &BgpPeer| matches!(peer.remote, Remote::Address(named, _) if named == address);
    let mut found = Found::default();
    for (name, node) in &resources.nodes {
        let mut of_node = Found::default();
        View { resources, name, node }.forward(names, &mut of_node);
        let Sessions { sessions, mut remarks } = of_node.merged();
        found.remarks.append(&mut remarks);
        for session in sessions {
            if let Some(session) = seen_from_outside(resources, name, node, session) {
                found.add(session);
            }
        }
    }
    if found.by_endpoint.is_empty() {
        return Err(Error::NoPeer { address, peers: outside(resources) });
    }
    Ok(found.merged())
}

/// Every `peerIP` that is no node's.
fn outside(resources: &Resources) -> Vec<String> {
    let owned: BTreeSet<IpAddr> = resources.nodes.values().flat_map(Node::addresses).collect();
    let named = resources.peers.values().filter_map(|peer| match peer.remote {
        Remote::Address(address, _) => Some(address),
        Remote::Selected(_) => None,
    });
    let outside: BTreeSet<IpAddr> = named.filter(|address| !owned.contains(address)).collect();
    outside.iter().map(ToString::to_string).collect()
}

/// A node's session, turned round. A node without an address of the family has none.
fn seen_from_outside(resources: &Resources, name: &str, node: &Node, session: Session) -> Option<Session> {
    let address = node.address_like(session.address)?;
    Some(Session {
        node: Some(name.to_owned()),
        address,
        port: listen_port(resources, name),
        remote_as: session.local_as,
        local_as: session.remote_as,
        own_port: session.port,
        source_address: Some(session.address),
        passive: false,
        cluster_id: node.cluster_id,
        ..session
    })
}

fn listen_port(resources: &Resources, node: &str) -> u16 {
    resources.listen_ports.get(node).copied().or(resources.configuration.listen_port).unwrap_or(BGP_PORT)
}

fn as_of(resources: &Resources, node: &Node) -> u32 {
    node.as_number.unwrap_or(resources.configuration.as_number)
}

/// Sessions by address and port; the first one stays.
#[derive(Default)]
struct Found {
    by_endpoint: BTreeMap<(bool, IpAddr, u16), Session>,
    remarks: Vec<Remark>,
}

impl Found {
    fn remark(&mut self, address: IpAddr, text: String) {
        self.remarks.push(Remark { address, text });
    }

    fn add(&mut self, session: Session) {
        let key = (session.address.is_ipv6(), session.address, session.port);
        self.by_endpoint.entry(key).or_insert(session);
    }

    /// The `BGPPeer` that a session with an address is from, on whatever port.
    fn peer_resource(&self, address: IpAddr) -> Option<String> {
        let key = |port| (address.is_ipv6(), address, port);
        let (_, session) = self.by_endpoint.range(key(0)..=key(u16::MAX)).next()?;
        match &session.origin {
            Origin::Peer(peer) | Origin::Reverse(peer) => Some(peer.clone()),
            Origin::Mesh => None,
        }
    }

    /// One session per address: neither BIRD 1.6 nor Underpass tells two apart.
    fn merged(self) -> Sessions {
        let mut remarks = self.remarks;
        let mut sessions: Vec<Session> = Vec::new();
        for session in self.by_endpoint.into_values() {
            match sessions.last() {
                Some(kept) if kept.address == session.address => {
                    let (address, port) = (kept.address, kept.port);
                    let text = format!(
                        "{address} is a peer on port {port} and on port {}: only the first is kept",
                        session.port
                    );
                    remarks.push(Remark { address, text });
                }
                _ => sessions.push(session),
            }
        }
        Sessions { sessions, remarks }
    }
}
