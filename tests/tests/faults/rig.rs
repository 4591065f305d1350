//! The agent and its peers: two namespaces and the cable between them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use socket2::Socket;
use underpass::api::model::{PeerStatus, Peers};
use underpass::config::model::Kernel;
use underpass_tests::agent::{Agent, Environment};
use underpass_tests::fake_peer::{FakePeer, KEEPALIVE, Listening, Open, message, update};
use underpass_tests::lab::Lab;
use underpass_tests::netns::{self, Netns};
use underpass_tests::wall_clock::WallClock;
use underpass_tests::{privilege, wait};

/// Time for anything to happen that has no time of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How much later than its timer says the agent may act: the machine does other things as well.
pub const SLACK: Duration = Duration::from_secs(3);

/// AS of the agent.
pub const OUR_AS: u32 = 64512;
/// AS of the peers.
pub const PEER_AS: u32 = 64513;
/// The agent's address and identifier.
pub const AGENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// The first peer's.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// A next hop beside the peer.
pub const OTHER_HOP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

/// Everything that the peer's namespace sends and receives over IP is lost.
pub const BLACKHOLE: &str = "table inet cut { chain in { type filter hook input priority 0; policy drop; }; \
                             chain out { type filter hook output priority 0; policy drop; }; }";
/// The peer's namespace resets no connection.
pub const NO_RESETS: &str =
    "table inet cut { chain out { type filter hook output priority 0; tcp flags rst drop; }; }";

/// Who opens connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dials {
    Agent,
    Peer,
    Both,
}

/// A peer in the agent's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Configured {
    pub address: Ipv4Addr,
    pub dials: Dials,
    /// More lines of its table.
    pub keys: &'static str,
}

impl Configured {
    /// The first peer, with a hold time of 3 s.
    pub fn quick(dials: Dials) -> Self {
        Self { address: PEER, dials, keys: "hold_time = \"3s\"\n" }
    }
}

/// The whole.
pub struct Rig {
    // Before the lab: what is dropped first ends first.
    pub agent: Agent,
    pub lab: Lab,
}

impl Rig {
    /// Raises it with one peer. `None` where namespaces are not to be had.
    pub fn up(peer: Configured) -> Option<Self> {
        Self::up_with(&[peer])
    }

    /// As [`Rig::up`] with several peers, all in the one namespace.
    pub fn up_with(peers: &[Configured]) -> Option<Self> {
        let lab = network(peers)?;
        Some(Self::start(lab, peers, Vec::new()))
    }

    /// As [`Rig::up_with`], with a wall clock for the agent.
    pub fn up_by_clock(peers: &[Configured]) -> Option<(Self, WallClock)> {
        let lab = network(peers)?;
        let clock = WallClock::new(&lab.machine_dir("edge").expect("a folder")).expect("a clock");
        let rig = Self::start(lab, peers, clock.environment());
        Some((rig, clock))
    }

    fn start(lab: Lab, peers: &[Configured], environment: Environment) -> Self {
        let agent = Agent::start_in(&lab, "edge", &config(peers), environment).expect("the agent starts");
        let rig = Self { agent, lab };
        let answers = || rig.agent.client().peers().map(drop);
        wait::until("the agent answers", PATIENCE, answers).expect("in time");
        rig
    }

    /// The peers' namespace.
    pub fn outside(&self) -> Netns {
        self.lab.netns("peer")
    }

    /// Waits for the agent at a peer's port 179.
    pub fn listen(&self, peer: Ipv4Addr) -> Listening {
        let listening = self.outside().enter(|| Listening::on(SocketAddr::new(peer.into(), 179)));
        listening.expect("the peer's namespace")
    }

    /// Dials the agent from the first peer's address.
    pub fn connect(&self) -> FakePeer {
        self.connect_with(PEER, |_| {})
    }

    /// As [`Rig::connect`] from another peer, with a socket that is prepared first.
    pub fn connect_with(&self, peer: Ipv4Addr, prepare: impl FnOnce(&Socket) + Send) -> FakePeer {
        let (from, to) = (IpAddr::from(peer), SocketAddr::new(AGENT.into(), 179));
        let connected = self.outside().enter(|| FakePeer::try_connect(from, to, PATIENCE, prepare));
        connected.expect("the peer's namespace").expect("the agent listens")
    }

    /// A session that the peer opened.
    pub fn session(&self, open: &Open) -> FakePeer {
        let mut peer = self.connect();
        peer.establish(open);
        self.wait_peer("established", |peer| peer.state == "Established");
        peer
    }

    /// Loads rules into the peers' namespace.
    pub fn filter(&self, rules: &str) {
        self.outside().run("nft", [rules]).expect("nft takes the rules");
    }

    /// Takes the rules out.
    pub fn unfilter(&self) {
        self.outside().run("nft", ["delete table inet cut"]).expect("nft takes the rules out");
    }

    /// The state of the first peer.
    pub fn peer(&self) -> PeerStatus {
        self.peers().swap_remove(0)
    }

    /// The state of all.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.agent.client().peers().expect("the agent answers").peers
    }

    /// What `underpass peers -o json` says of the first.
    pub fn peer_for_people(&self) -> PeerStatus {
        let output = self.agent.cli(&["peers", "-o", "json"]).expect("it starts");
        assert!(output.status.success(), "{output:?}");
        let peers: Peers = serde_json::from_slice(&output.stdout).expect("a list of peers");
        peers.peers.into_iter().next().expect("one peer")
    }

    /// Waits until the first peer is as it should be.
    pub fn wait_peer(&self, what: &str, holds: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let look = || {
            let peer = self.peer();
            ensure!(holds(&peer), "{peer:?}");
            Ok(peer)
        };
        wait::until(what, PATIENCE, look).expect("in time")
    }

    /// Waits until RIB and kernel have routes to these prefixes through these next hops and no others.
    pub fn wait_routes(&self, what: &str, expected: &BTreeSet<Via>) {
        let look = || {
            let status = self.agent.client().status()?;
            let prefixes = status.bgp.context("BGP is configured")?.prefixes;
            ensure!(prefixes == expected.len(), "RIB has {prefixes} prefixes");
            let kernel = self.kernel_routes()?;
            let (missing, more) = (expected.difference(&kernel).next(), kernel.difference(expected).next());
            ensure!(missing.is_none() && more.is_none(), "kernel: without {missing:?}, with {more:?}");
            Ok(())
        };
        wait::until(what, PATIENCE, look).expect("in time");
    }

    /// The agent's routes in the kernel.
    pub fn kernel_routes(&self) -> Result<BTreeSet<Via>> {
        let question = format!("route show proto {}", Kernel::default().protocol);
        let routes: Vec<KernelRoute> = self.lab.netns("edge").ip_json(&question)?;
        Ok(routes.into_iter().map(|route| (route.dst, route.gateway)).collect())
    }

    /// Open files of the agent.
    pub fn open_files(&mut self) -> usize {
        let folder = format!("/proc/{}/fd", self.agent.process().pid());
        fs::read_dir(folder).expect("the agent runs").count()
    }

    /// Waits until the agent has at most this many open files.
    pub fn wait_open_files(&mut self, what: &str, most: usize) {
        let look = || {
            let count = self.open_files();
            ensure!(count <= most, "{count} open files, {most} before");
            Ok(())
        };
        wait::until(what, PATIENCE, look).expect("in time");
    }

    /// Memory of the agent in KiB: `VmRSS` now, `VmHWM` at most so far.
    pub fn memory(&mut self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.agent.process().pid());
        let status = fs::read_to_string(path).expect("the agent runs");
        let value = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line of the file");
        value.trim_matches([':', '\t', ' ', 'k', 'B']).parse().expect("a number")
    }
}

/// A destination, as `ip` writes it, and its next hop.
pub type Via = (String, Option<IpAddr>);

/// A route of `ip -json route`.
#[derive(Deserialize)]
struct KernelRoute {
    dst: String,
    gateway: Option<IpAddr>,
}

/// Routes through the first peer.
pub fn through_peer<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> BTreeSet<Via> {
    prefixes.into_iter().map(|prefix| (prefix.to_owned(), Some(PEER.into()))).collect()
}

fn network(peers: &[Configured]) -> Option<Lab> {
    if !privilege::can_raise_labs() {
        return None;
    }
    let lab = Lab::new().expect("a lab");
    lab.add_machines(&["edge", "peer"]).expect("namespaces");
    let (edge, peer) = (lab.netns("edge"), lab.netns("peer"));
    netns::ip(&format!(
        "link add name eth0 netns {} type veth peer name eth0 netns {}\n",
        edge.name(),
        peer.name()
    ))
    .expect("a cable");
    edge.ip(&format!("address add {AGENT}/24 dev eth0\nlink set eth0 up\n")).expect("the agent's end");
    let addresses = peers.iter().fold(String::new(), |mut text, peer| {
        let _ = writeln!(text, "address add {}/24 dev eth0", peer.address);
        text
    });
    peer.ip(&format!("{addresses}link set eth0 up\n")).expect("the peers' end");
    Some(lab)
}

fn config(peers: &[Configured]) -> String {
    let listens = peers.iter().any(|peer| peer.dials != Dials::Agent);
    let listen = if listens { format!("listen = [\"{AGENT}\"]\n") } else { String::new() };
    let mut text = format!(
        "[bgp]\nlocal_as = {OUR_AS}\nrouter_id = \"{AGENT}\"\nkeep_last_known = \"0s\"\n{listen}\n[bgp.import]\n\
         prefixes = [{{ prefix = \"10.64.0.0/10\", min = 16, max = 32 }}, \"fd00:1::/48\"]\n\
         next_hops = [\"10.0.0.0/24\", \"fd00::/64\"]\n"
    );
    for Configured { address, dials, keys } in peers {
        let _ = write!(
            text,
            "\n[[bgp.peers]]\naddress = \"{address}\"\nremote_as = {PEER_AS}\nsource_address = \"{AGENT}\"\n\
             connect_retry = \"1s\"\nconnect_retry_max = \"2s\"\npassive = {}\n\
             families = [\"ipv4-unicast\", \"ipv6-unicast\"]\n{keys}",
            *dials == Dials::Peer
        );
    }
    text
}

/// The first peer's OPEN.
pub fn open(hold_time: u16) -> Open {
    Open::new(PEER_AS, PEER, hold_time)
}

/// UPDATE that announces NLRI with this next hop.
pub fn announce(next_hop: Ipv4Addr, nlri: &[u8]) -> Vec<u8> {
    update(&[], &attributes(next_hop).each_ref().map(Vec::as_slice), nlri)
}

/// The attributes of a path that the peers originate.
fn attributes(next_hop: Ipv4Addr) -> [Vec<u8>; 3] {
    let [a, b, c, d] = next_hop.octets();
    [vec![0x40, 1, 1, 0], vec![0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x01], vec![0x40, 3, 4, a, b, c, d]]
}

/// UPDATE that withdraws NLRI.
pub fn withdraw(nlri: &[u8]) -> Vec<u8> {
    update(nlri, &[], &[])
}

/// End-of-RIB of both families.
pub fn end_of_rib() -> Vec<u8> {
    [withdraw(&[]), update(&[], &[&[0x80, 15, 3, 0, 2, 1]], &[])].concat()
}

/// Number `n` of the prefixes /24 in 10.64.0.0/10: text and NLRI.
pub fn prefix(number: u16) -> (String, [u8; 4]) {
    let [high, low] = number.to_be_bytes();
    (format!("10.{}.{low}.0/24", 64 + high), [24, 10, 64 + high, low])
}

/// Sends a KEEPALIVE twice a second for as long as it lives.
pub struct Pulse {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// On this connection, whose messages must be written in one piece each.
    pub fn on(peer: &FakePeer) -> Self {
        let (handle, over) = (peer.second_handle(), Arc::new(AtomicBool::new(false)));
        let done = over.clone();
        let thread = thread::spawn(move || {
            // The connection may be over: tests end them.
            while !done.load(Ordering::Relaxed) && handle.socket().write_all(&message(KEEPALIVE, &[])).is_ok()
            {
                thread::sleep(Duration::from_millis(500));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
