//! The agent and one peer on a cable.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use underpass::api::model::{PeerStatus, Peers, Routes};
use underpass::config::model::Kernel;
use underpass_tests::agent::Agent;
use underpass_tests::lab::Lab;
use underpass_tests::netns::{self, Netns};
use underpass_tests::wait;

use super::peer::{Make, Peer};
use super::render::{Path, Plan};

/// Time for anything to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The AS of both.
pub const AS: u32 = 64512;
/// The agent.
pub const AGENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
pub const AGENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 9);
/// The peer.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1);
/// Its namespace.
pub const MACHINE: &str = "peer";
/// How long the peer asks us to keep its routes.
pub const RESTART_SECONDS: u16 = 10;

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// The agent; it listens nowhere.
    Agent,
    /// The peer; the agent is passive.
    Peer,
    /// Both try.
    Both,
}

/// How the agent is configured.
#[derive(Clone, Debug)]
pub struct Edge {
    pub opens: Opens,
    pub remote_as: u32,
    pub over_ipv6: bool,
    pub families: &'static [&'static str],
    /// Lines of `[[bgp.peers]]`.
    pub peer: String,
}

impl Edge {
    /// IPv4 over IPv4.
    pub fn new(opens: Opens) -> Self {
        Self { opens, remote_as: AS, over_ipv6: false, families: &["ipv4-unicast"], peer: String::new() }
    }

    fn config(&self) -> String {
        let (own, peer): (IpAddr, IpAddr) =
            if self.over_ipv6 { (AGENT6.into(), PEER6.into()) } else { (AGENT.into(), PEER.into()) };
        let listen = match self.opens {
            Opens::Agent => String::new(),
            Opens::Peer | Opens::Both => format!("\"{}\"", SocketAddr::new(own, 179)),
        };
        let mut text = format!(
            "[bgp]\nlocal_as = {AS}\nrouter_id = \"{AGENT}\"\nlisten = [{listen}]\n\
             keep_last_known = \"0s\"\n\n[bgp.import]\n\
             prefixes = [{{ prefix = \"10.64.0.0/10\", min = 26, max = 26 }}, \
             {{ prefix = \"fd00:64::/32\", min = 64, max = 64 }}]\n\
             next_hops = [\"10.0.0.0/24\", \"fd00:10::/64\"]\n\n[[bgp.peers]]\nname = \"peer\"\n"
        );
        let _ = write!(
            text,
            "address = \"{peer}\"\nremote_as = {}\nsource_address = \"{own}\"\nhold_time = \"9s\"\n\
             connect_retry = \"1s\"\nconnect_retry_max = \"2s\"\nfamilies = {:?}\npassive = {}\n{}",
            self.remote_as,
            self.families,
            self.opens == Opens::Peer,
            self.peer
        );
        text
    }
}

/// Both, and the lab they are in.
pub struct Rig {
    // Processes before the lab: what is dropped first ends first.
    pub agent: Agent,
    pub peer: Peer,
    pub lab: Lab,
}

impl Rig {
    /// Raises everything; does not wait for the session.
    pub fn up(make: Make, plan: &Plan, edge: &Edge) -> Self {
        let lab = cable().expect("a lab");
        if let Some(ttl) = plan.ttl {
            send_with_ttl(&lab, ttl);
        }
        let peer = Peer::start(&lab, make, plan).expect("the peer starts");
        let agent = Agent::start(&lab, "edge", &edge.config()).expect("the agent starts");
        Self { agent, peer, lab }
    }

    /// The agent's namespace.
    pub fn edge(&self) -> Netns {
        self.lab.netns("edge")
    }

    /// The session as `underpass peers` tells it.
    pub fn session(&mut self) -> Result<PeerStatus> {
        session(&mut self.agent)
    }

    /// Waits until the session is as it should be.
    pub fn wait_session(&mut self, what: &str, holds: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        wait_session(&mut self.agent, what, holds)
    }

    /// Waits until the session is up and the peer's table is read.
    pub fn wait_learned(&mut self, paths: usize) -> PeerStatus {
        self.wait_session("learned", |peer| peer.end_of_rib && peer.accepted == paths)
    }

    /// Waits until RIB and kernel have exactly these prefixes with these next hops.
    pub fn wait_routes(&self, what: &str, expected: &[(&str, &[&str])]) {
        wait_routes(&self.agent, &self.edge(), what, expected);
    }

    /// As [`Self::wait_routes`], for paths of one next hop each.
    pub fn wait_paths(&self, what: &str, paths: &[Path]) {
        let hops: Vec<[&str; 1]> = paths.iter().map(|path| [path.next_hop]).collect();
        let expected: Vec<(&str, &[&str])> =
            paths.iter().zip(&hops).map(|(path, hops)| (path.prefix, hops.as_slice())).collect();
        self.wait_routes(what, &expected);
    }

    /// Other paths on the session that there is.
    pub fn announce(&mut self, paths: &[Path]) {
        self.peer.announce(&self.lab, paths).expect("the peer takes it");
    }
}

/// Sets the TTL of everything that the peer sends, on its way out.
pub fn send_with_ttl(lab: &Lab, ttl: u8) {
    let rules = format!(
        "table ip hops\ndelete table ip hops\ntable ip hops {{\nchain out {{\n\
         type filter hook output priority 0\nip ttl set {ttl}\n}}\n}}\n"
    );
    lab.netns(MACHINE).run("nft", [rules]).expect("nft takes it");
}

/// Two namespaces on a cable.
pub fn cable() -> Result<Lab> {
    let lab = Lab::new()?;
    let machines = lab.add_machines(&["edge", MACHINE])?;
    let [edge, peer] = machines.as_slice() else { return Err(anyhow!("two namespaces")) };
    for netns in [edge, peer] {
        // bird6 begins its sessions anew when its link-local address is ready, a second after the start.
        netns.sysctl(&[("ipv6.conf.all.accept_dad", "0"), ("ipv6.conf.default.accept_dad", "0")])?;
    }
    netns::ip(&format!(
        "link add name eth0 netns {} type veth peer name eth0 netns {}\n",
        edge.name(),
        peer.name()
    ))?;
    for (netns, four, six) in [(edge, AGENT, AGENT6), (peer, PEER, PEER6)] {
        netns.ip(&format!(
            "address add {four}/24 dev eth0\naddress add {six}/64 dev eth0 nodad\nlink set eth0 up\n"
        ))?;
    }
    Ok(lab)
}

/// Starts an agent on the cable.
pub fn start_agent(lab: &Lab, edge: &Edge) -> Agent {
    Agent::start(lab, "edge", &edge.config()).expect("the agent starts")
}

/// Runs a command of the agent's that prints a report.
fn report<T: DeserializeOwned>(agent: &mut Agent, command: &str) -> Result<T> {
    agent.process().check().map_err(|error| error.context(wait::Over))?;
    report_of(agent, command)
}

fn report_of<T: DeserializeOwned>(agent: &Agent, command: &str) -> Result<T> {
    let output = agent.cli(&[command, "-o", "json"])?;
    ensure!(output.status.success(), "underpass {command}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("unexpected report of underpass {command}"))
}

/// The one session of an agent.
pub fn session(agent: &mut Agent) -> Result<PeerStatus> {
    report::<Peers>(agent, "peers")?.peers.into_iter().next().context("no peer")
}

/// Waits until it is as it should be.
pub fn wait_session(agent: &mut Agent, what: &str, holds: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
    let look = || {
        let peer = session(agent)?;
        ensure!(holds(&peer), "{peer:?}");
        Ok(peer)
    };
    wait::until(what, PATIENCE, look).expect("in time")
}

/// Waits until RIB and kernel have exactly these prefixes with these next hops.
pub fn wait_routes(agent: &Agent, edge: &Netns, what: &str, expected: &[(&str, &[&str])]) {
    let mut expected: Vec<(IpNet, Vec<IpAddr>)> = expected
        .iter()
        .map(|(prefix, hops)| {
            let hops = hops.iter().map(|hop| hop.parse().expect("an address")).collect();
            (prefix.parse().expect("a prefix"), hops)
        })
        .collect();
    expected.sort();
    let look = || {
        let mut rib = Vec::new();
        for route in report_of::<Routes>(agent, "routes")?.routes {
            let Some(mut hops) = route.rib else { continue };
            let state = route.rib_state.as_deref();
            ensure!(state == Some("synced"), "{}: {state:?}", route.prefix);
            hops.sort_unstable();
            rib.push((route.prefix, hops));
        }
        rib.sort();
        ensure!(rib == expected, "RIB has {rib:?}");
        let kernel = kernel_routes(edge)?;
        ensure!(kernel == expected, "the kernel has {kernel:?}");
        Ok(())
    };
    wait::until(what, PATIENCE, look).expect("in time");
}

/// What `ip route` says of the agent's routes, sorted.
pub fn kernel_routes(netns: &Netns) -> Result<Vec<(IpNet, Vec<IpAddr>)>> {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        let command = format!("{family} route show proto {}", Kernel::default().protocol);
        for route in netns.ip_json::<Vec<KernelRoute>>(&command)? {
            all.push(route.simple()?);
        }
    }
    all.sort();
    Ok(all)
}

/// A route of `ip -json route`.
#[derive(Deserialize)]
struct KernelRoute {
    dst: String,
    #[serde(flatten)]
    hop: KernelHop,
    #[serde(default)]
    nexthops: Vec<KernelHop>,
}

/// Of the prefix's family, or of the other one.
#[derive(Deserialize)]
struct KernelHop {
    gateway: Option<IpAddr>,
    via: Option<KernelVia>,
}

#[derive(Deserialize)]
struct KernelVia {
    family: String,
    host: IpAddr,
}

impl KernelRoute {
    fn simple(self) -> Result<(IpNet, Vec<IpAddr>)> {
        let host = self.dst.parse::<IpAddr>().map(IpNet::from);
        let prefix = host.or_else(|_| self.dst.parse()).with_context(|| format!("prefix {}", self.dst))?;
        let mut hops = Vec::new();
        for hop in std::iter::once(self.hop).chain(self.nexthops) {
            hops.extend(hop.gateway);
            if let Some(via) = hop.via {
                ensure!(via.family == "inet6", "a next hop of family {}", via.family);
                hops.push(via.host);
            }
        }
        hops.sort_unstable();
        Ok((prefix, hops))
    }
}
