//! What one node makes of the resources: Calico's passes over the `BGPPeer` resources, and the mesh.

use std::net::IpAddr;

use super::super::model::{BGP_PORT, BgpPeer, Local, NextHopMode, Node, Remote, Resources};
use super::{Found, Origin, Session, as_of, listen_port};

/// A node that looks for its sessions.
pub(super) struct View<'r> {
    pub resources: &'r Resources,
    pub name: &'r str,
    pub node: &'r Node,
}

impl View<'_> {
    /// The sessions of those `wanted` `BGPPeer` resources that are for this node: first those for all nodes.
    pub(super) fn forward(&self, wanted: impl Fn(&BgpPeer) -> bool, found: &mut Found) {
        for for_all in [true, false] {
            for (name, peer) in self.resources.peers.iter().filter(|(_, peer)| wanted(peer)) {
                let is_for_all = peer.local == Local::All;
                if is_for_all == for_all && selects(&peer.local, self.name, self.node) {
                    self.forward_one(name, peer, found);
                }
            }
        }
    }

    fn forward_one(&self, peer_name: &str, peer: &BgpPeer, found: &mut Found) {
        let origin = Origin::Peer(peer_name.to_owned());
        match &peer.remote {
            Remote::Selected(selector) => {
                let selected = self.resources.nodes.iter().filter(|(_, node)| selector.matches(&node.labels));
                for (name, node) in selected {
                    for address in node.addresses() {
                        self.add_node(name, node, address, peer, origin.clone(), found);
                    }
                }
            }
            Remote::Address(address, port) => {
                self.add_address(*address, *port, peer, origin, found);
            }
        }
    }

    fn add_address(
        &self,
        address: IpAddr,
        port: Option<u16>,
        peer: &BgpPeer,
        origin: Origin,
        found: &mut Found,
    ) {
        let remote_as = peer.as_number.unwrap_or(self.resources.configuration.as_number);
        let node = self.resources.nodes.iter().find(|(_, node)| node.has(address));
        // The port of a node that listens elsewhere, but only when the AS is the node's as well.
        let is_its = |(name, node): (&String, &Node)| {
            (as_of(self.resources, node) == remote_as).then(|| listen_port(self.resources, name))
        };
        let port = port.or_else(|| node.and_then(is_its)).unwrap_or(BGP_PORT);
        let session = Session {
            node: node.map(|(name, _)| name.clone()),
            port,
            remote_as,
            cluster_id: node.and_then(|(_, node)| node.cluster_id),
            // Of two nodes with one and the same global peering, the one with the smaller address dials.
            passive: peer.local == Local::All && node.is_some() && self.is_greater(address),
            ..self.session(address, peer, origin)
        };
        self.add(session, found);
    }

    fn add_node(
        &self,
        name: &str,
        node: &Node,
        address: IpAddr,
        peer: &BgpPeer,
        origin: Origin,
        found: &mut Found,
    ) {
        let session = Session {
            node: Some(name.to_owned()),
            port: listen_port(self.resources, name),
            remote_as: as_of(self.resources, node),
            cluster_id: node.cluster_id,
            ..self.session(address, peer, origin)
        };
        self.add(session, found);
    }

    /// What a `BGPPeer` says about a session whatever the peer.
    fn session(&self, address: IpAddr, peer: &BgpPeer, origin: Origin) -> Session {
        Session {
            node: None,
            address,
            port: BGP_PORT,
            remote_as: 0,
            local_as: peer.local_as.unwrap_or_else(|| as_of(self.resources, self.node)),
            own_port: listen_port(self.resources, self.name),
            source_address: self.node.address_like(address).filter(|_| peer.from_node_address),
            passive: false,
            password: peer.password.clone(),
            ttl_security: peer.ttl_security,
            restart_time: peer.restart_time,
            keepalive_time: peer.keepalive_time,
            allowed_local_as: peer.allowed_local_as,
            next_hop: peer.next_hop,
            cluster_id: None,
            origin,
        }
    }

    /// The way back: the `BGPPeer` resources whose other end is this node.
    pub(super) fn reverse(&self, found: &mut Found) {
        for (name, peer) in self.resources.peers.iter().filter(|(_, peer)| peer.reverse) {
            self.reverse_one(name, peer, found);
        }
    }

    fn reverse_one(&self, peer_name: &str, peer: &BgpPeer, found: &mut Found) {
        let own: Vec<IpAddr> = match &peer.remote {
            Remote::Selected(selector) if selector.matches(&self.node.labels) => {
                self.node.addresses().collect()
            }
            Remote::Address(address, port) if self.is_named(*address, *port, peer.as_number) => {
                vec![*address]
            }
            _ => return,
        };
        let origin = Origin::Reverse(peer_name.to_owned());
        for (name, node) in &self.resources.nodes {
            if !selects(&peer.local, name, node) {
                continue;
            }
            for address in own.iter().filter_map(|own| node.address_like(*own)) {
                let as_number = peer.local_as.unwrap_or_else(|| as_of(self.resources, node));
                // `localASNumber` is the other end's: this one stays what it is.
                let back = BgpPeer { local_as: None, ..peer.clone() };
                let node = Node { as_number: Some(as_number), ..node.clone() };
                self.add_node(name, &node, address, &back, origin.clone(), found);
            }
        }
    }

    /// Whether `peerIP` and `asNumber` are this node's.
    fn is_named(&self, address: IpAddr, port: Option<u16>, as_number: Option<u32>) -> bool {
        let as_number = as_number.unwrap_or(self.resources.configuration.as_number);
        self.node.has(address)
            && as_of(self.resources, self.node) == as_number
            && port.is_none_or(|port| port == listen_port(self.resources, self.name))
    }

    /// The mesh: all nodes but reflectors, when neither end has the session already.
    pub(super) fn mesh(&self, found: &mut Found) {
        let configuration = &self.resources.configuration;
        if !configuration.mesh || self.node.cluster_id.is_some() {
            return;
        }
        for (name, node) in self.resources.nodes.iter().filter(|(_, node)| node.cluster_id.is_none()) {
            for address in node.addresses() {
                let Some(own) = self.node.address_like(address) else { continue };
                if own == address {
                    continue;
                }
                let port = listen_port(self.resources, name);
                if let Some(peer) = found.peer_resource(address) {
                    let text = format!(
                        "{} and {name} ({address}) are peers by the mesh and by the BGPPeer {peer}: \
                         the BGPPeer is kept",
                        self.name
                    );
                    found.remark(address, text);
                    continue;
                }
                found.add(Session {
                    node: Some(name.clone()),
                    address,
                    port,
                    remote_as: as_of(self.resources, node),
                    local_as: as_of(self.resources, self.node),
                    own_port: listen_port(self.resources, self.name),
                    source_address: Some(own),
                    passive: self.is_greater(address),
                    password: configuration.mesh_password.clone(),
                    ttl_security: None,
                    restart_time: configuration.mesh_restart_time,
                    keepalive_time: None,
                    allowed_local_as: None,
                    next_hop: NextHopMode::Auto,
                    cluster_id: None,
                    origin: Origin::Mesh,
                });
            }
        }
    }

    /// Calico compares the addresses as text.
    fn is_greater(&self, address: IpAddr) -> bool {
        self.node.address_like(address).is_some_and(|own| address.to_string() > own.to_string())
    }

    /// Adds a session unless it is one with the node itself, or in a family that the node has no address of.
    fn add(&self, session: Session, found: &mut Found) {
        let address = session.address;
        match self.node.address_like(address) {
            Some(own) if own == address => {}
            Some(_) => found.add(session),
            None => {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                let text = format!("{} has no {family} address, so no session with {address}", self.name);
                found.remark(address, text);
            }
        }
    }
}

fn selects(local: &Local, name: &str, node: &Node) -> bool {
    match local {
        Local::All => true,
        Local::Node(wanted) => wanted == name,
        Local::Selected(selector) => selector.matches(&node.labels),
    }
}
