//! From sessions and pools to the keys of a configuration. Pure.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::model::{CrossSubnet, Node, Pool, Resources};
use super::problem::Error;
use super::sessions::{self, Origin, Session, Sessions};
use crate::config;
use crate::netlink::model::Family;

/// Whose configuration is asked for, and what Calico's resources cannot know.
#[derive(Clone, Debug)]
pub struct Request {
    /// Machine.
    pub machine: Machine,
    /// Sessions of a Calico node count although its BIRD has them.
    pub with_sessions: bool,
    /// What to make of pools that are encapsulated between networks only.
    pub cross_subnet: CrossSubnet,
    /// BGP identifier; by default the machine's IPv4 address.
    pub router_id: Option<Ipv4Addr>,
    /// `datapath.ports`.
    pub ports: Vec<String>,
    /// Folder for `NAME/KEY` of the Secrets with passwords.
    pub secrets: PathBuf,
}

/// The machine that a configuration is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// A Calico node by its name.
    Node(String),
    /// A machine outside of the cluster by the address that nodes peer with.
    Address(IpAddr),
}

/// Keys of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Machine.
    pub machine: Machine,
    /// `[bgp]`; `None` when there is no session.
    pub bgp: Option<Bgp>,
    /// `[datapath]`.
    pub datapath: Datapath,
    /// What the reader should know.
    pub remarks: Vec<String>,
}

/// `[bgp]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bgp {
    /// Whether the agent is to have these sessions. Otherwise they are there to be looked at.
    pub live: bool,
    /// `local_as`.
    pub local_as: u32,
    /// `router_id`; `None`: none could be found.
    pub router_id: Option<Ipv4Addr>,
    /// `listen`.
    pub listen: Vec<SocketAddr>,
    /// `[[bgp.peers]]`.
    pub peers: Vec<Peer>,
    /// `[bgp.import]`.
    pub import: Import,
}

/// `[[bgp.peers]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// `name`.
    pub name: String,
    /// `false`: nothing of the session's family could be accepted.
    pub useful: bool,
    /// `password_file`.
    pub password_file: Option<PathBuf>,
    /// `hold_time`, where Calico's keepalives are too rare for the default.
    #[serde(serialize_with = "seconds")]
    pub hold_time: Option<Duration>,
    /// `ttl`, where the default reaches the segment only and the peer is beyond.
    pub ttl: Option<u8>,
    /// The rest, as Calico has it.
    pub session: Session,
}

#[expect(clippy::ref_option, reason = "serde passes the field as it is")]
fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs()).serialize(serializer)
}

/// `[bgp.import]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Import {
    /// `prefixes`.
    pub prefixes: Vec<Range>,
    /// `next_hops`.
    pub next_hops: Vec<IpNet>,
    /// `own_blocks`.
    pub own_blocks: Vec<IpNet>,
    /// `encapsulated`.
    pub encapsulated: Vec<IpNet>,
}

/// A range in `bgp.import.prefixes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Range {
    /// `prefix`.
    pub prefix: IpNet,
    /// `min`.
    pub min: u8,
    /// `max`.
    pub max: u8,
}

impl Range {
    /// The prefix itself and nothing in it.
    fn exactly(prefix: IpNet) -> Self {
        Self { prefix, min: prefix.prefix_len(), max: prefix.prefix_len() }
    }
}

/// `[datapath]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Datapath {
    /// `ports`.
    pub ports: Vec<String>,
    /// `accelerate`; empty when there is no pool to take it from.
    pub accelerate: Vec<IpNet>,
    /// `service_ranges`.
    pub service_ranges: Vec<IpNet>,
}

impl Datapath {
    /// Whether the section says what to accelerate; the agent refuses one that does not.
    pub fn is_complete(&self) -> bool {
        !self.accelerate.is_empty()
    }
}

/// The configuration that follows from the resources.
///
/// # Errors
/// The machine is not in the resources.
pub fn plan(resources: &Resources, request: &Request) -> Result<Plan, Error> {
    let sessions = match &request.machine {
        Machine::Node(name) => sessions::of_node(resources, name)?,
        Machine::Address(address) => sessions::of_address(resources, *address)?,
    };
    let mut remarks: Vec<String> = sessions.remarks.iter().map(|remark| remark.text.clone()).collect();
    pool_remarks(resources, request.cross_subnet, &mut remarks);
    let datapath = datapath(resources, request);
    let bgp = bgp(resources, request, sessions, &mut remarks);
    Ok(Plan { machine: request.machine.clone(), bgp, datapath, remarks })
}

fn datapath(resources: &Resources, request: &Request) -> Datapath {
    let accelerated =
        |pool: &&Pool| pool.for_workloads && !pool.disabled && !pool.is_encapsulated(request.cross_subnet);
    let accelerate: BTreeSet<IpNet> =
        resources.pools.values().filter(accelerated).map(|pool| pool.cidr).collect();
    let mut service_ranges = resources.configuration.service_ranges.clone();
    for pool in resources.pools.values().filter(|pool| pool.for_load_balancers) {
        if !service_ranges.contains(&pool.cidr) {
            service_ranges.push(pool.cidr);
        }
    }
    Datapath { ports: request.ports.clone(), accelerate: accelerate.into_iter().collect(), service_ranges }
}

fn pool_remarks(resources: &Resources, cross_subnet: CrossSubnet, remarks: &mut Vec<String>) {
    if resources.pools.is_empty() {
        let pods: Vec<IpNet> =
            resources.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
        let mut remark =
            "No IPPool among the resources, so that the pods' ranges are missing in `accelerate` and \
                          in the guards; `kubectl get ippools.crd.projectcalico.org -o yaml` prints them."
                .to_owned();
        if !pods.is_empty() {
            let pods: Vec<String> = IpNet::aggregate(&pods).iter().map(ToString::to_string).collect();
            let pods = pods.join(", ");
            let _ = write!(remark, " The nodes' podCIDRs, which Calico's IPAM does not use, lie in {pods}.");
        }
        remarks.push(remark);
    }
    for (name, pool) in &resources.pools {
        let cidr = pool.cidr;
        if pool.is_encapsulated(cross_subnet) {
            remarks.push(format!(
                "IPPool {name}: {cidr} is encapsulated, its routes must not be used natively; left out."
            ));
        } else if pool.disabled && pool.for_workloads {
            remarks.push(format!(
                "IPPool {name}: {cidr} is disabled; its routes are accepted, and not accelerated."
            ));
        }
        if pool.export_disabled && !pool.is_encapsulated(cross_subnet) {
            remarks.push(format!("IPPool {name}: {cidr} is not announced (disableBGPExport)."));
        }
        if !pool.for_workloads {
            remarks.push(format!("IPPool {name}: {cidr} is not for pods (allowedUses); not accelerated."));
        }
    }
}

fn bgp(
    resources: &Resources,
    request: &Request,
    sessions: Sessions,
    remarks: &mut Vec<String>,
) -> Option<Bgp> {
    let local_as = sessions.sessions.first()?.local_as;
    let own = own_addresses(resources, &request.machine);
    let networks: BTreeSet<IpNet> = resources.nodes.values().flat_map(Node::networks).collect();
    let mut import = import(resources, request, &networks);
    let mut peers: Vec<Peer> = Vec::new();
    for session in sessions.sessions {
        let useful = import.prefixes.iter().any(|range| same_family(range.prefix.addr(), session.address));
        if !useful {
            remarks.push(format!(
                "{}: no range of its family could be accepted; the session is commented out.",
                session.address
            ));
        }
        let on_link =
            |own: &&IpAddr| networks.iter().any(|net| net.contains(*own) && net.contains(&session.address));
        let beyond = !own.iter().any(|own| on_link(&own));
        peers.push(Peer {
            name: name(&session, &peers),
            useful,
            password_file: session.password.as_ref().map(|at| request.secrets.join(&at.name).join(&at.key)),
            hold_time: session.keepalive_time.and_then(hold_time),
            ttl: ttl(&session, beyond),
            session,
        });
    }
    keep_families(&mut import, &peers);
    let router_id = request.router_id.or_else(|| own.iter().find_map(|own| ipv4(*own)));
    let wanted = request.with_sessions || matches!(request.machine, Machine::Address(_));
    let useful = peers.iter().any(|peer| peer.useful);
    if wanted && useful && router_id.is_none() {
        remarks.push(
            "No IPv4 address to take the BGP identifier from; --router-id gives one, until then the sessions are \
             commented out."
                .to_owned(),
        );
    }
    let live = wanted && useful && router_id.is_some();
    Some(Bgp { live, local_as, router_id, listen: listen(&own, &peers), peers, import })
}

fn own_addresses(resources: &Resources, machine: &Machine) -> Vec<IpAddr> {
    match machine {
        Machine::Node(name) => resources.nodes.get(name).map(Node::addresses).into_iter().flatten().collect(),
        Machine::Address(address) => vec![*address],
    }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn same_family(one: IpAddr, other: IpAddr) -> bool {
    Family::of(one) == Family::of(other)
}

/// The own addresses that sessions use, each with the port that it is dialled at.
fn listen(own: &[IpAddr], peers: &[Peer]) -> Vec<SocketAddr> {
    let mut listen = Vec::new();
    for address in own {
        let ours = peers.iter().filter(|peer| peer.useful && same_family(peer.session.address, *address));
        for port in ours.map(|peer| peer.session.own_port) {
            let socket = SocketAddr::new(*address, port);
            if !listen.contains(&socket) {
                listen.push(socket);
            }
        }
    }
    listen
}

fn import(resources: &Resources, request: &Request, networks: &BTreeSet<IpNet>) -> Import {
    let (encapsulated, native): (Vec<&Pool>, Vec<&Pool>) =
        resources.pools.values().partition(|pool| pool.is_encapsulated(request.cross_subnet));
    let announced = native.iter().filter(|pool| pool.for_workloads && !pool.export_disabled);
    let pods: BTreeSet<Range> = announced
        .map(|pool| Range { prefix: pool.cidr, min: pool.block_size, max: pool.cidr.max_prefix_len() })
        .collect();
    let services = resources.configuration.service_ranges.iter().map(|range| Range::exactly(*range));
    let encapsulated: BTreeSet<IpNet> = encapsulated.iter().map(|pool| pool.cidr).collect();
    let own = |node: &str| matches!(&request.machine, Machine::Node(name) if name == node);
    let own_blocks: BTreeSet<IpNet> =
        resources.blocks.iter().filter(|block| own(&block.node)).map(|block| block.cidr).collect();
    Import {
        prefixes: pods.into_iter().chain(services).collect(),
        next_hops: networks.iter().copied().collect(),
        own_blocks: own_blocks.into_iter().collect(),
        encapsulated: encapsulated.into_iter().collect(),
    }
}

/// Guards of families that no session has would only be warned about.
fn keep_families(import: &mut Import, peers: &[Peer]) {
    let offered =
        |address: IpAddr| peers.iter().any(|peer| peer.useful && same_family(peer.session.address, address));
    import.prefixes.retain(|range| offered(range.prefix.addr()));
    import.next_hops.retain(|net| offered(net.addr()));
}

/// A name of its own for each peer: the node, or the `BGPPeer` of a peer that is no node.
fn name(session: &Session, named: &[Peer]) -> String {
    let name = match (&session.node, &session.origin) {
        (Some(node), _) => node.clone(),
        (None, Origin::Peer(peer) | Origin::Reverse(peer)) => peer.clone(),
        (None, Origin::Mesh) => session.address.to_string(),
    };
    if named.iter().any(|peer| peer.name == name) { format!("{name} {}", session.address) } else { name }
}

/// Calico's sessions are `multihop`, ours with another AS reach the segment only. A `ttlSecurity` of 255 hops keeps
/// nothing out, and is no value of `ttl_security`.
fn ttl(session: &Session, beyond: bool) -> Option<u8> {
    match session.ttl_security {
        Some(u8::MAX) => Some(u8::MAX),
        Some(_) => None,
        None => (beyond && session.remote_as != session.local_as).then_some(64),
    }
}

/// Calico keeps its pause between keepalives even where the hold time agreed on is shorter than 240 s (BIRD 1.6), so
/// ours must not be below three of them.
fn hold_time(keepalive: Duration) -> Option<Duration> {
    let default = config::model::Peer::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1).hold_time;
    let seconds = (keepalive.as_secs_f64() * 3.0).ceil().min(f64::from(u16::MAX));
    let hold = Duration::try_from_secs_f64(seconds).ok()?;
    (hold > default).then_some(hold)
}
